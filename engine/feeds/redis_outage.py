"""An outage of the server behind a feed: what is wrong, for how long, when to try again."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from engine.clock import Clock
from engine.errors import FeedUnreachable

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 3.0
REFUSED_DELAY_SECONDS: Final = 5.0
"""A refused account is tried rarely: servers lock accounts and fill logs over it."""


class Outage:
    """Keeps the state of an outage and the back-off of the tries to end it.

    Args:
        clock: Measures how long it lasts.
        patience_seconds: How long it may last; `None` means for ever.
    """

    def __init__(self, clock: Clock, patience_seconds: float | None = None) -> None:
        self.trouble = ""
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._since = 0.0
        self._delay = FIRST_DELAY_SECONDS

    def note(self, error: FeedUnreachable) -> None:
        """Take note that something failed; it is an outage until `over`."""
        if not self.trouble:
            self._since = self._clock.monotonic()
            self._delay = FIRST_DELAY_SECONDS
        self.trouble = str(error)

    async def wait(self, error: FeedUnreachable) -> None:
        """Take note of a failure and wait until it is time to try again.

        Raises:
            FeedUnreachable: Patience has run out.
        """
        self.note(error)
        lasted = self._clock.monotonic() - self._since
        if self._patience_seconds is not None and lasted >= self._patience_seconds:
            raise error
        delay = self._delay * random.uniform(0.5, 1.0)  # jitter, so that retries spread
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)
        if isinstance(error.__cause__, PermissionError):
            delay += REFUSED_DELAY_SECONDS
        await asyncio.sleep(delay)

    def over(self) -> float | None:
        """Take note that the server answers; return how many seconds it did not, if so."""
        if not self.trouble:
            return None
        self.trouble = ""
        return self._clock.monotonic() - self._since

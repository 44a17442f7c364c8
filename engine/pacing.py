"""How a reader goes easy on a server that others need, and on whoever waits for the next read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_PORTION_SECONDS: Final = 0.03
"""A portion is made as large as is read in about so long."""

_FEWEST: Final = 20


class Pace:
    """When one kind of reading may go on, and how much may be read at once.

    Args:
        now: A clock, in seconds.
        share: The part of the time that may be spent on it.
        most: The largest portion.
        longest_pause: However long a portion took, the next one is not put off for longer than
            this or the portion took itself, whichever is more; in seconds.
    """

    def __init__(
        self, now: Callable[[], float], share: float, most: int, longest_pause: float
    ) -> None:
        self._now = now
        self._pauses = 1 / share - 1
        self._most = most
        self._longest_pause = longest_pause
        self.portion = most
        self.due = 0.0
        """When the next portion may be read."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Time the reading of a portion: it tells when the next one is due, and how large it is."""
        began = self._now()
        try:
            yield
        finally:
            ended = self._now()
            spent = max(ended - began, 1e-6)
            pause = min(spent * self._pauses, max(self._longest_pause, spent))
            self.due = ended + pause
            fitting = round(self.portion * _PORTION_SECONDS / spent)
            self.portion = min(self._most, max(_FEWEST, min(fitting, 2 * self.portion)))

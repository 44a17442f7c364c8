"""What an operator is told of a live feed: the last things that happened, with their time."""

from __future__ import annotations

from collections import deque
from typing import Final

from engine.clock import Clock, rfc3339

_KEPT: Final = 20


class Notices:
    """The newest notices of one feed.

    Args:
        name: What the feed is called.
        clock: Stamps them.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=_KEPT)

    def add(self, what: str) -> None:
        """Keep a notice; the oldest gives way."""
        self._lines.append(f"{self._name}: {what} ({rfc3339(self._clock.now())})")

    @property
    def lines(self) -> list[str]:
        """The notices, oldest first."""
        return list(self._lines)

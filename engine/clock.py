"""Time as the engine sees it, injected so that replays and tests own it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Wall time for stamps, monotonic seconds for rates, lags and deadlines."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to: for tests, frozen frames and replays."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._start = now

    def now(self) -> datetime:
        """Return the wall time it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds between the first and the present setting."""
        return (self._now - self._start).total_seconds()

    def set(self, now: datetime) -> None:
        """Move to a wall time, forwards or backwards."""
        self._now = now

    def advance(self, seconds: float) -> None:
        """Move forwards (or backwards) by seconds."""
        self._now += timedelta(seconds=seconds)


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds between 1970 and an aware moment, exactly."""
    return (moment - EPOCH) // MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Return the aware UTC moment that many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def rfc3339(moment: datetime) -> str:
    """Return an aware moment in UTC as RFC 3339 with `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

"""Recorded events replayed at a pace, with the controls of a player."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from engine.clock import Clock, SystemClock, from_microseconds, to_microseconds
from engine.feeds.port import CHUNK_SIZE, Envelope, Seekable
from engine.feeds.recording import Recording

SLOWEST, FASTEST = 0.1, 1000.0
_TICK_SECONDS = 0.1


class ReplayFeed(Seekable):
    """The lines of recorded files, one file after the other, as time goes by in them.

    Args:
        paths: The files, in the order in which they are replayed.
        speed: Event seconds per second, `None` for as fast as possible.
        paused: Whether to begin paused.
        loop: Whether to begin again at the end.
        clock: Measures the real seconds.
        chunk_size: How many envelopes are handed over at most.

    Raises:
        FeedUnavailable: A file is missing, unreadable, special, or not text.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        speed: float | None = 1.0,
        paused: bool = False,
        loop: bool = False,
        clock: Clock | None = None,
        chunk_size: int = CHUNK_SIZE,
    ) -> None:
        self.name = ", ".join(Path(path).name for path in paths)
        self.paused = paused
        self.loop = loop
        self.speed: float | None = None
        self._clock = clock or SystemClock()
        self._chunk_size = chunk_size
        self._recording = Recording(paths)
        self._recording.advance()
        self._index = 0
        self._steps = 0
        self._moment = self._recording.times[0] if self._recording.times else 0
        self._moment_at: float | None = None
        self._wake = asyncio.Event()
        self._closed = False
        self.set_speed(speed)

    async def read(self) -> list[Envelope] | None:
        """Wait until events are due and return them; an empty list after an intervention.

        Raises:
            FeedUnavailable: A file became shorter, or cannot be read any more.
        """
        self._wake.clear()  # only here: no intervention while it reads may be missed
        if self._moment_at is None:
            self._moment_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(0)
            if self._closed:
                return None
            self._recording.advance()
            if count := self._due():
                return self._hand_over(count)
            if not self._recording.complete:
                continue
            if self._index >= self.length:
                if not (self.loop and self.length):
                    return None
                if not self.paused or self._steps:
                    self.move(0)
                    return []
            if await self._interrupted():
                return []

    async def aclose(self) -> None:
        """Close the files; a waiting `read` ends."""
        self._closed = True
        self._wake.set()
        self._recording.close()

    async def indexed(self) -> None:
        """Wait until the whole recording is known.

        Raises:
            FeedUnavailable: A file cannot be read any more.
        """
        while not (self._recording.complete or self._closed):
            self._recording.advance()
            await asyncio.sleep(0)

    @property
    def index(self) -> int:
        """How many envelopes have been handed over."""
        return self._index

    @property
    def length(self) -> int:
        """How many envelopes are known so far."""
        return len(self._recording)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The first and the last event time known so far."""
        return self._recording.span

    @property
    def now(self) -> datetime | None:
        """The event time reached, never ahead of the next event to be handed over.

        It stands still where it is when the replay pauses; after a step or a move it is
        the time of the last event handed over.
        """
        if self._recording.span is None:
            return None
        ahead = self._recording.times[min(self._index, self.length - 1)]
        return from_microseconds(min(self._reached(), ahead))

    def pause(self, paused: bool) -> None:
        """Stop or go on; wakes a waiting `read`."""
        self._settle()
        self.paused = paused
        self._steps = 0
        self._wake.set()

    def set_speed(self, speed: float | None) -> None:
        """Set the pace, held to 0.1 to 1000 event seconds per second; `None`: no waiting."""
        self._settle()
        self.speed = None if speed is None else min(max(speed, SLOWEST), FASTEST)
        self._wake.set()

    def step(self, count: int = 1) -> None:
        """Let `count` more envelopes through although paused; nothing while it plays."""
        if self.paused:
            self._steps += count
            self._wake.set()

    def look(self, index: int, count: int) -> list[Envelope]:
        """Return envelopes from an index on, at least one of `count`, without moving there.

        Raises:
            FeedUnavailable: A file became shorter, or cannot be read any more.
        """
        return self._recording.read(index, count)

    def index_at(self, moment: datetime) -> int:
        """Return how many envelopes happen up to and including a moment."""
        return self._recording.index_at(to_microseconds(moment))

    def move(self, index: int) -> None:
        """Continue behind the first `index` envelopes; the caller restores the state."""
        self._index = min(max(index, 0), self.length)
        self._steps = 0
        self._stand_at_last()
        self._wake.set()

    def _due(self) -> int:
        """Return how many envelopes may be handed over now."""
        known = self.length
        if self.paused:
            until = min(self._index + self._steps, known)
        elif self.speed is None:
            until = known
        else:
            until = bisect_right(self._recording.times, self._reached(), self._index)
        return min(until - self._index, self._chunk_size)

    def _hand_over(self, count: int) -> list[Envelope]:
        chunk = self._recording.read(self._index, count)
        self._index += len(chunk)
        if self.paused:
            self._steps -= len(chunk)
        if self.paused or self.speed is None:
            self._stand_at_last()
        return chunk

    def _reached(self) -> int:
        """Return the event time, in microseconds, that the pace has brought us to."""
        if self.paused or self.speed is None or self._moment_at is None:
            return self._moment
        elapsed = self._clock.monotonic() - self._moment_at
        return self._moment + int(elapsed * self.speed * 1_000_000)

    def _settle(self) -> None:
        """Count from here: what happens next concerns the future only."""
        now = self.now
        if now is not None and self._moment_at is not None:
            self._moment = to_microseconds(now)
            self._moment_at = self._clock.monotonic()

    def _stand_at_last(self) -> None:
        """Count from the last event that was handed over, or from the first of all."""
        if self._recording.times:
            self._moment = self._recording.times[max(self._index - 1, 0)]
        if self._moment_at is not None:
            self._moment_at = self._clock.monotonic()

    async def _interrupted(self) -> bool:
        """Wait for the next event, not for long; return whether somebody intervened."""
        seconds = _TICK_SECONDS
        if not self.paused and self.speed is not None and self._index < self.length:
            ahead = self._recording.times[self._index] - self._reached()
            seconds = min(seconds, ahead / 1_000_000 / self.speed)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        return self._wake.is_set() and not self._closed


class ReplayClock:
    """The clock of a replayed world: ages, rates and remaining times are those of then."""

    def __init__(self, feed: Seekable, outside: Clock | None = None) -> None:
        self._feed = feed
        self._outside = outside or SystemClock()

    def now(self) -> datetime:
        """Return the event time reached; the time outside if the recording has none."""
        return self._feed.now or self._outside.now()

    def monotonic(self) -> float:
        """Return event seconds since 1970; they go back only when the replay is moved back."""
        return to_microseconds(self.now()) / 1_000_000

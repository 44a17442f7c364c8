"""A simulated fleet as a feed: an hour of history at once, then events as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from engine.clock import Clock, SystemClock
from engine.feeds.chaos import Chaos as Chaos
from engine.feeds.port import CHUNK_SIZE, Envelope, Feed
from engine.feeds.simulation.fleet import live
from engine.feeds.simulation.life import Timed
from engine.feeds.simulation.plot import World

_TICK_SECONDS = 0.25


class SimulatorFeed(Feed):
    """A believable fleet that never ends, the same one for the same seed.

    Args:
        seed: Which fleet it is.
        rate: How fast life in the fleet is: twice the rate, twice the events in a second.
            Event times are always those of the clock.
        batches: How many batches have already begun.
        clock: Its time is where history ends and the present begins.
        essays: The smallest and the largest number of essays in a batch.
        chaos: How the events are mistreated on their way.
        chunk_size: How many envelopes are handed over at most.
    """

    def __init__(
        self,
        seed: int = 1,
        rate: float = 1.0,
        batches: int = 24,
        clock: Clock | None = None,
        *,
        essays: tuple[int, int] = (8, 30),
        chaos: Chaos | None = None,
        chunk_size: int = CHUNK_SIZE,
    ) -> None:
        self.name = f"simulated fleet {seed}"
        self._clock = clock or SystemClock()
        self._origin = self._clock.now()
        self._rate = rate
        self._events: Iterator[Timed] = live(seed, World(self._origin, rate), batches, essays)
        self._next = next(self._events)
        self._chaos = chaos
        self._chunk_size = chunk_size
        self._count = 0
        self._ready: list[bytes] = []
        self._closed = asyncio.Event()

    async def read(self) -> list[Envelope] | None:
        """Return what has happened; `None` only after `aclose`."""
        await asyncio.sleep(0)
        while not self._closed.is_set():
            if chunk := self._happened():
                return chunk
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_TICK_SECONDS, self._ahead())):
                    await self._closed.wait()
        return None

    async def aclose(self) -> None:
        """End the simulation; a waiting `read` ends."""
        self._closed.set()

    def _ahead(self) -> float:
        """Return the seconds until the next event."""
        elapsed = (self._clock.now() - self._origin).total_seconds()
        return self._next[0] / self._rate - elapsed

    def _happened(self) -> list[Envelope]:
        elapsed = (self._clock.now() - self._origin).total_seconds() * self._rate
        while len(self._ready) < self._chunk_size and self._next[0] <= elapsed:
            raw = self._next[1]
            self._ready += self._chaos.mistreat(raw) if self._chaos else (raw,)
            self._next = next(self._events)
        chunk = self._ready[: self._chunk_size]
        del self._ready[: self._chunk_size]
        first = self._count + 1
        self._count += len(chunk)
        return [Envelope(raw, f"event {number}") for number, raw in enumerate(chunk, first)]

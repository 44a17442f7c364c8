"""An engine that stands still: real facts, folded once, under a clock that does not move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bcs_tui.app import BcsApp
from engine.auditing import Audit, audit
from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.engine import Engine
from engine.errors import NotPermitted
from engine.feeds.replay import ReplayClock, ReplayFeed
from engine.feeds.simulator import SimulatorFeed
from engine.models import EssayState
from engine.repository import BatchStateRepository, DeadLetter
from engine.view import BatchRow, Grid, Health, Mode, View

SAMPLES = Path(__file__).parent.parent / "sample_data"
AFTERNOON = datetime(2026, 2, 3, 14, 2, 7, tzinfo=UTC)


class StillEngine:
    """What the dashboard needs of an engine; it shows one view until it is given another."""

    def __init__(self, view: View, repository: BatchStateRepository | None = None) -> None:
        self.refuse_letters = ""
        self.clock = ManualClock(view.now)
        self.calls: list[tuple[Any, ...]] = []
        self.looked_at: Collection[str] = ()
        self._repository = repository or MockBatchStateRepository(self.clock)
        self._view = view
        self._news = asyncio.Event()

    def set(self, view: View) -> None:
        """Show another view from now on."""
        self.clock.set(view.now)
        self._view = view
        self._news.set()

    def change(self, **parts: Any) -> None:
        """Show a view that differs in some parts."""
        revision = self._view.revision + 1
        self.set(msgspec.structs.replace(self._view, revision=revision, **parts))

    @property
    def view(self) -> View:
        return self._view

    async def views(self, fps: float = 30) -> AsyncIterator[View]:
        while True:
            yield self._view
            await self._news.wait()
            self._news.clear()

    async def audit(self, batch_id: str) -> Audit:
        return audit(batch_id, await self._repository.evidence(batch_id))

    def look_at(self, batch_ids: Collection[str]) -> None:
        self.looked_at = batch_ids

    async def run(self) -> None:
        await asyncio.Event().wait()

    def row(self, batch_id: str) -> BatchRow | None:
        return self._view.batches.get(batch_id)

    async def open(self, batch_id: str) -> None:
        columns = await self._repository.load_batch(batch_id)
        index = {essay_id: place for place, essay_id in enumerate(columns.essay_ids)}
        self.change(grid=Grid(batch_id, columns.essay_ids, columns.outcomes, index))

    def close_batch(self) -> None:
        self.change(grid=None)

    async def essay(self, batch_id: str, essay_id: str) -> EssayState | None:
        found = await self._repository.essays(batch_id, [essay_id])
        return found[0] if found else None

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        if self.refuse_letters:
            raise NotPermitted(self.refuse_letters)
        return await self._repository.dead_letters(after=after, limit=limit)

    def pause(self, paused: bool) -> None:
        self.calls.append(("pause", paused))
        self._replay(paused=paused)

    def set_speed(self, speed: float | None) -> None:
        self.calls.append(("speed", speed))
        self._replay(speed=speed)

    def set_loop(self, loop: bool) -> None:
        self.calls.append(("loop", loop))
        self._replay(loop=loop)

    def step(self, count: int = 1) -> None:
        self.calls.append(("step", count))

    async def seek(self, **place: Any) -> None:
        self.calls.append(
            ("seek", {name: value for name, value in place.items() if value is not None})
        )

    async def seek_failure(self, direction: int) -> bool:
        self.calls.append(("failure", direction))
        return direction > 0

    def _replay(self, **parts: Any) -> None:
        assert self._view.replay is not None
        self.change(replay=msgspec.structs.replace(self._view.replay, **parts))


def empty_view(now: datetime = AFTERNOON, **health: Any) -> View:
    """Return a view of nothing at all."""
    parts = {"mode": Mode.LIVE, "feed": "events.jsonl", "backend": "mock", **health}
    return View(1, now, {}, frozenset(), Health(**parts))


async def replayed(sample: str, fraction: float) -> StillEngine:
    """Return a paused replay of a sample that stands at a part of it."""
    feed = ReplayFeed([SAMPLES / f"{sample}.jsonl"], speed=60.0, paused=True)
    engine = Engine(MockBatchStateRepository(), feed, ReplayClock(feed))
    running = asyncio.create_task(engine.run())
    await engine.seek(fraction=fraction)
    view = engine.view
    running.cancel()
    await feed.aclose()
    return StillEngine(_still(view, feed.name, Mode.PAUSED), engine.repository)


async def simulated(seed: int = 1) -> StillEngine:
    """Return a live fleet: an hour of the simulator, frozen."""
    clock = ManualClock(AFTERNOON)
    feed = SimulatorFeed(seed, clock=clock)
    lines: list[bytes] = []
    while True:
        try:
            async with asyncio.timeout(0.05):
                lines += [envelope.raw for envelope in await feed.read() or ()]
        except TimeoutError:
            break
    await feed.aclose()
    engine = Engine(MockBatchStateRepository(clock), None, clock)
    for line in lines:
        await engine.submit(line)
    return StillEngine(_still(engine.view, feed.name, Mode.LIVE), engine.repository)


def _still(view: View, feed: str, mode: Mode) -> View:
    """Return a view without what depends on the machine: how fast it was folded."""
    lag, pace = (0.4, 12.0) if mode is Mode.LIVE else (None, 0.0)
    health = msgspec.structs.replace(
        view.health, mode=mode, feed=feed, events_per_second=pace, lag_seconds=lag
    )
    return msgspec.structs.replace(view, health=health)


async def drawn(app: BcsApp) -> None:
    """Wait for what pages read, then draw what is due once a second."""
    await until(lambda: all(worker.name in ("engine", "drawing") for worker in app.workers))
    for _ in range(2):
        app._second()
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until something holds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 # what is waited for tells nobody
            await asyncio.sleep(0.005)

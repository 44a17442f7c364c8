"""Reading ahead: what is read early is neither recorded late, nor lost, nor acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from envelopes import ListFeed, Tape, spellchecked

from engine.backends.mock import MockBatchStateRepository
from engine.engine import Engine
from engine.errors import FeedUnavailable, RepositoryError
from engine.feeds.port import Envelope
from engine.models import Fact
from engine.repository import Recorded
from engine.view import Health, Mode

RAWS = [spellchecked("b1", f"e{number}") for number in range(10)]


class Slow(MockBatchStateRepository):
    """Keeps nothing until it is let; refuses if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.may = asyncio.Semaphore(0)
        self.refuses = False

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        self.asked += 1
        await self.may.acquire()
        if self.refuses:
            raise RepositoryError("slow: not permitted; ask")
        return await super().record(facts)


class Hasty(ListFeed):
    """Two envelopes a chunk; has no third chunk until it is told to go on."""

    may_run_ahead = True

    def __init__(self) -> None:
        super().__init__(RAWS, 2)
        self.asked = 0
        self.goes_on = asyncio.Event()
        self.breaks = False

    async def read(self) -> list[Envelope] | None:
        self.asked += 1
        if self.asked == 3:
            await self.goes_on.wait()
            if self.breaks:
                raise FeedUnavailable("hasty: gone; look for it")
        return await super().read()


class Patient(Hasty):
    may_run_ahead = False


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


def account(health: Health) -> tuple[int, int, int]:
    return health.read, health.applied, health.in_flight


async def idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_two_chunks_are_read_while_one_is_recorded_and_no_more() -> None:
    repository, feed = Slow(), Hasty()
    feed.goes_on.set()
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: feed.asked == 3 and repository.asked == 1)
    await idle()
    assert (feed.asked, feed.acknowledged) == (3, 0)
    assert account(engine.health) == (6, 0, 6)
    repository.may.release()
    await until(lambda: feed.asked == 4 and repository.asked == 2)
    await idle()
    assert (feed.asked, feed.acknowledged) == (4, 1)
    assert account(engine.health) == (8, 2, 6)
    for _ in range(4):
        repository.may.release()
    await running
    assert (feed.acknowledged, account(engine.health)) == (5, (10, 10, 0))
    assert engine.health.mode is Mode.ENDED


async def test_waiting_for_the_next_chunk_does_not_hold_up_what_is_there() -> None:
    repository, feed = Slow(), Hasty()
    repository.may.release()
    repository.may.release()
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: feed.asked == 3 and feed.acknowledged == 2)
    assert account(engine.health) == (4, 4, 0)
    running.cancel()
    await asyncio.wait([running])


async def test_a_feed_that_acknowledges_is_not_read_ahead() -> None:
    repository, feed = Slow(), Patient()
    running = asyncio.ensure_future(Engine(repository, feed).run())
    await until(lambda: repository.asked == 1)
    await idle()
    assert feed.asked == 1
    running.cancel()
    await asyncio.wait([running])


async def test_a_recording_is_not_read_ahead() -> None:
    class HastyTape(Tape):
        may_run_ahead = True

    tape = HastyTape(RAWS, paused=True)
    engine = Engine(MockBatchStateRepository(), tape)
    running = asyncio.ensure_future(engine.run())
    await engine.seek(index=2)
    engine.step()
    await until(lambda: engine.health.read == 3)
    await engine.seek(index=1)
    assert account(engine.health) == (1, 1, 0)
    running.cancel()
    await asyncio.wait([running])


async def test_what_was_read_ahead_is_in_flight_when_the_engine_is_stopped() -> None:
    repository, feed = Slow(), Hasty()
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: feed.asked == 3 and repository.asked == 1)
    await idle()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert account(engine.health) == (4, 0, 4)
    assert feed.acknowledged == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_feed_that_breaks_does_not_take_away_what_it_gave() -> None:
    repository, feed = Slow(), Hasty()
    feed.breaks = True
    feed.goes_on.set()
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: repository.asked == 1)
    repository.may.release()
    await until(lambda: feed.asked == 3 and repository.asked == 2)
    await idle()
    repository.may.release()
    with pytest.raises(FeedUnavailable):
        await running
    assert (feed.acknowledged, account(engine.health)) == (2, (4, 4, 0))
    assert engine.health.trouble == "hasty: gone; look for it"


async def test_a_repository_that_refuses_ends_the_reading() -> None:
    repository, feed = Slow(), Hasty()
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    repository.may.release()
    await until(lambda: feed.asked == 3 and repository.asked == 2)
    repository.refuses = True
    repository.may.release()
    with pytest.raises(RepositoryError, match="not permitted"):
        await running
    assert (engine.health.mode, feed.acknowledged) == (Mode.FAILED, 1)
    assert account(engine.health) == (4, 2, 2)
    assert len(asyncio.all_tasks()) == 1


class Owing(Hasty):
    """Notes how many chunks were not recorded yet at each acknowledgement."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on.set()
        self.behind: list[int] = []

    async def acknowledge(self, ahead: int = 0) -> None:
        await super().acknowledge()
        self.behind.append(ahead)


class TwoAtOnce(MockBatchStateRepository):
    """Is given two chunks at the same time, and keeps the later one first."""

    chunks_at_once = 2

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[asyncio.Event] = []

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        self.waiting.append(may := asyncio.Event())
        await may.wait()
        return await super().record(facts)


async def test_what_was_read_ahead_is_not_acknowledged() -> None:
    repository, feed = Slow(), Owing()
    running = asyncio.ensure_future(Engine(repository, feed).run())
    await until(lambda: feed.asked == 3)
    for _ in range(5):
        repository.may.release()
    await running
    assert (feed.behind[0], feed.behind[-1]) == (2, 0)


async def test_chunks_recorded_at_the_same_time_are_acknowledged_in_their_order() -> None:
    repository, feed = TwoAtOnce(), Owing()
    engine = Engine(repository, feed, headless=True)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: len(repository.waiting) == 2 and feed.asked == 4)
    repository.waiting[1].set()
    await idle()
    assert (feed.acknowledged, len(repository.waiting)) == (0, 2)
    repository.waiting[0].set()
    await until(lambda: feed.acknowledged == 2)
    assert feed.behind[0] == 3
    while not running.done():
        for may in repository.waiting:
            may.set()
        await asyncio.sleep(0.001)
    await running
    assert (feed.behind[-1], account(engine.health)) == (0, (10, 10, 0))


async def test_with_a_screen_chunks_are_recorded_one_after_the_other() -> None:
    repository, feed = TwoAtOnce(), Owing()
    running = asyncio.ensure_future(Engine(repository, feed).run())
    await until(lambda: len(repository.waiting) == 1 and feed.asked == 3)
    await idle()
    assert len(repository.waiting) == 1
    running.cancel()
    await asyncio.wait([running])

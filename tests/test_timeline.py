"""Moving in a recording: whichever way one came, the place is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from envelopes import VECTORS, ListFeed, Tape, at, encode, spellchecked_document, vector
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.timeline as timeline_module
from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.engine import Engine
from engine.errors import FeedError
from engine.feeds.replay import ReplayClock, ReplayFeed
from engine.pipelines import phases_of
from engine.summaries import summarize
from engine.view import Mode

RAWS = vector("comprehensive_batch")
RAWS.insert(100, b"no JSON")
RAWS += [
    raw.replace(b"9a89b6b0-a247-4158-a83b-ba51bea27dc0", b"another-batch") for raw in RAWS[:60]
]
END = len(RAWS)


@pytest.fixture
def many_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_module, "CHECKPOINT_EVERY", 20)


@asynccontextmanager
async def replaying(feed: Any = None) -> AsyncIterator[Engine]:
    engine = Engine(MockBatchStateRepository(), feed or Tape(RAWS))
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def state_of(engine: Engine) -> dict[str, Any]:
    """All that somebody could see."""
    repository = engine.repository
    records = await repository.summaries()
    health = engine.health
    view = engine.view
    shown = {batch_id: row.summary for batch_id, row in view.batches.items()}
    assert shown == {record.batch_id: summarize(record, phases_of()) for record in records}
    return {
        "records": records,
        "essays": [await repository.essays(record.batch_id) for record in records],
        "columns": [await repository.load_batch(record.batch_id) for record in records],
        "account": (
            health.read,
            health.applied,
            health.ignored,
            health.duplicates,
            health.dead_letters,
            health.in_flight,
            health.ignored_types,
        ),
        "log": list(view.log),
    }


async def played_straight(index: int) -> dict[str, Any]:
    engine = Engine(MockBatchStateRepository(), ListFeed(RAWS[:index], chunk_size=13))
    await engine.run()
    return await state_of(engine)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


def test_any_journey_ends_as_if_played_straight_there() -> None:
    kept = timeline_module.CHECKPOINT_EVERY, timeline_module.MOST_CHECKPOINTS
    timeline_module.CHECKPOINT_EVERY, timeline_module.MOST_CHECKPOINTS = 20, 4
    try:
        travel()
    finally:
        timeline_module.CHECKPOINT_EVERY, timeline_module.MOST_CHECKPOINTS = kept


@settings(max_examples=25)
@given(st.lists(st.integers(0, END), min_size=1, max_size=5))
def travel(places: list[int]) -> None:
    async def journey() -> None:
        async with replaying() as engine:
            for place in places:
                await engine.seek(index=place)
                assert await state_of(engine) == await played_straight(place)

    asyncio.run(journey())


@pytest.mark.usefixtures("many_checkpoints")
async def test_a_real_recording_is_moved_in_alike(tmp_path: Any) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(RAWS))
    feed = ReplayFeed([path], paused=True)
    async with replaying(feed) as engine:
        for place in (END, 150, 0, 77, 78, 40):
            await engine.seek(index=place)
            state, straight = await state_of(engine), await played_straight(place)
            assert state.pop("log")[-1:] == straight.pop("log")[-1:]
            assert state == straight
            assert feed.index == place
    await feed.aclose()


async def test_going_to_the_same_place_does_nothing() -> None:
    async with replaying(feed := Tape(RAWS)) as engine:
        await engine.seek(index=50)
        moves: list[int] = []
        feed.move = moves.append
        await engine.seek(index=50)
        await engine.seek(index=90)
        assert moves == []
        await engine.seek()
        assert engine.health.read == 90


@pytest.mark.usefixtures("many_checkpoints")
async def test_places_by_time_by_part_and_out_of_range() -> None:
    async with replaying() as engine:
        for place, index in [
            ({"moment": at(9)}, 10),
            ({"moment": at(-9)}, 0),
            ({"fraction": 0.5}, round(END / 2)),
            ({"fraction": 1.0}, END),
            ({"index": 10**9}, END),
            ({"index": -4}, 0),
        ]:
            await engine.seek(**place)
            assert engine.health.read == index
            replay = engine.view.replay
            assert replay is not None
            assert (replay.index, replay.paused, replay.length) == (index, True, END)


async def test_a_replay_that_plays_goes_on_playing_from_there() -> None:
    async with replaying(Tape(RAWS, paused=False)) as engine:
        await engine.seek(index=10)
        await until(lambda: engine.health.mode is Mode.ENDED)
        assert engine.health.read == END
        await engine.seek(index=END - 1)
        await until(lambda: engine.health.read == END)
        assert await state_of(engine) == await played_straight(END)


async def test_stepping_and_pausing() -> None:
    async with replaying() as engine:
        await until(lambda: engine.health.mode is Mode.PAUSED)
        for count in (1, 3):
            before = engine.health.read
            engine.step(count)
            await until(lambda: engine.health.read == before + count)  # noqa: B023 # used at once
        engine.set_speed(10.0)
        replay = engine.view.replay
        assert replay is not None
        assert (replay.speed, replay.start, replay.end) == (10.0, at(0), at(END - 1))
        assert replay.now == at(3)
        engine.pause(False)
        assert engine.health.mode is Mode.REPLAY
        await until(lambda: engine.health.mode is Mode.ENDED)
        engine.pause(True)
        assert engine.health.mode is Mode.ENDED


@pytest.mark.usefixtures("many_checkpoints")
async def test_a_loop_begins_with_nothing() -> None:
    tape = Tape(RAWS, paused=False)
    async with replaying(tape) as engine:
        await until(lambda: engine.health.mode is Mode.ENDED)
        assert await state_of(engine) == await played_straight(END)
        reads: list[int] = []
        acknowledge = tape.acknowledge

        async def note() -> None:
            reads.append(engine.health.read)
            await acknowledge()

        tape.acknowledge = note
        engine.set_loop(True)
        await until(lambda: reads.count(END) == 2)
        engine.set_loop(False)
        await until(lambda: engine.health.mode is Mode.ENDED)
        assert await state_of(engine) == await played_straight(END)
        assert max(reads) == END
        assert reads[0] == 7


async def test_the_open_batch_stays_open_where_it_is_not_known_yet() -> None:
    async with replaying() as engine:
        await engine.seek(index=60)
        batch_id = next(iter(engine.view.batches))
        await engine.open(batch_id)
        for place in (0, 60, 0):
            await engine.seek(index=place)
            grid = engine.view.grid
            assert grid is not None
            assert len(grid.essay_ids) == (24 if place else 0)
        engine.step(30)
        await until(lambda: engine.health.read == 30)
        grid = engine.view.grid
        assert grid is not None
        columns = await engine.repository.load_batch(batch_id)
        assert sorted(grid.essay_ids) == sorted(columns.essay_ids)


class Slow(Tape):
    """Hands over one envelope at a time, and lets others do something in between."""

    def __init__(self) -> None:
        super().__init__(RAWS, chunk_size=1)
        self.between: Callable[[], None] = lambda: None

    async def read(self) -> Any:
        self.between()
        return await super().read()


async def test_what_is_pressed_on_the_way_counts_on_arrival() -> None:
    async with replaying(tape := Slow()) as engine:
        pressed: list[int] = []

        def press() -> None:
            if tape.index == 5:
                engine.pause(False)
                engine.step(3)
                pressed.append(tape.index)
                replay = engine.view.replay
                assert replay is not None
                assert not replay.paused

        tape.between = press
        await engine.seek(index=9)
        assert pressed
        assert not tape.paused
        await until(lambda: engine.health.read == END)
        await engine.seek(index=9)
        engine.pause(True)
        assert tape.paused


async def test_another_place_may_be_asked_for_on_the_way() -> None:
    for other in (3, 40):
        async with replaying(tape := Slow()) as engine:
            asked: list[asyncio.Task[None]] = []

            def press() -> None:
                if tape.index == 5 and not asked:  # noqa: B023 # used within the round
                    asked.append(asyncio.create_task(engine.seek(index=other)))  # noqa: B023

            tape.between = press
            await engine.seek(index=20)
            await asyncio.gather(*asked)
            assert engine.health.read == other
            assert await state_of(engine) == await played_straight(other)


async def test_a_recording_that_is_shorter_than_it_was_is_left_at_its_end() -> None:
    class Cut(Tape):
        async def read(self) -> Any:
            return None if self.index >= 20 else await super().read()

    async with replaying(Cut(RAWS)) as engine:
        await engine.seek(index=50)
        assert engine.health.read == 21


async def test_whoever_waits_is_told_when_the_engine_stops() -> None:
    class Broken(Tape):
        async def read(self) -> Any:
            if self.index >= 20:
                raise FeedError("tape: torn; mend it")
            return await super().read()

    engine = Engine(MockBatchStateRepository(), Broken(RAWS))
    running = asyncio.create_task(engine.run())
    await engine.seek(index=10)
    with pytest.raises(FeedError, match="has stopped"):
        await engine.seek(index=50)
    with pytest.raises(FeedError, match="torn"):
        await running
    with pytest.raises(FeedError, match="has stopped"):
        await engine.seek(index=1)
    assert engine.health.mode is Mode.FAILED


async def test_checkpoints_stay_few_however_long_the_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeline_module, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(timeline_module, "MOST_CHECKPOINTS", 8)
    taken: list[int] = []

    class Counting(MockBatchStateRepository):
        def checkpoint(self) -> Any:
            taken.append(1)
            return super().checkpoint()

    tape = Tape(RAWS, chunk_size=1)
    engine = Engine(Counting(), tape)
    running = asyncio.create_task(engine.run())
    await engine.seek(index=END)
    assert 8 < len(taken) < 40
    for place in (END // 2, 1):
        await engine.seek(index=place)
        assert await state_of(engine) == await played_straight(place)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_replay_forgets_nothing_however_many_days_go_by() -> None:
    tape = Tape([encode(spellchecked_document("b1", f"e{day}")) for day in range(30)])
    clock = ManualClock(at(0))
    engine = Engine(MockBatchStateRepository(clock, ttl_days=1), tape, clock)
    running = asyncio.create_task(engine.run())
    for day in range(30):
        clock.advance(86_400)
        await engine.seek(index=day)
    assert engine.view.batches["b1"].summary.seen == 29
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_clock_of_a_replay_goes_back_with_it() -> None:
    feed = ReplayFeed([VECTORS / "comprehensive_batch.jsonl"], paused=True)
    engine = Engine(MockBatchStateRepository(), feed, clock := ReplayClock(feed))
    running = asyncio.create_task(engine.run())
    await engine.seek(fraction=1.0)
    late = engine.view
    await engine.seek(fraction=0.2)
    early = engine.view
    assert early.now == clock.now() < late.now
    assert early.health.events_per_second >= 0
    assert late.health.lag_seconds is None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await feed.aclose()


async def test_play_at_the_end_begins_anew() -> None:
    tape = Tape(RAWS)
    async with replaying(tape) as engine:
        await engine.seek(index=END)
        engine.pause(False)
        await until(lambda: engine.health.mode is Mode.ENDED)
        engine.pause(False)
        await until(lambda: engine.health.read < END)
        await until(lambda: engine.health.mode is Mode.ENDED)
        assert await state_of(engine) == await played_straight(END)

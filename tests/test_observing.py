"""An observer: sees what others write, keeps what it has while they are away, writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from properties.test_repository_model import START
from stills import until

import engine.observing as observing
from engine.backends.mock import MockBatchStateRepository
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.clock import Clock, ManualClock, SystemClock
from engine.engine import Engine
from engine.errors import CorruptDocument, NotPermitted, RepositoryUnavailable, SettingsError
from engine.models import COMPLETED, BatchRecord, StepFact
from engine.observing import Observer
from engine.pacing import Pace
from engine.projection import Projection
from engine.repository import BatchStateRepository, DeadLetter
from engine.view import Grid, Mode


class Watched(MockBatchStateRepository):
    """A repository whose notices the test writes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[Collection[str] | None] = asyncio.Queue()
        self.away = False
        self.damage: Exception | None = None
        self.asked: list[Any] = []

    async def changes(self) -> AsyncGenerator[Collection[str] | None, None]:
        self.check()
        yield ()
        while True:
            notice = await self.queue.get()
            self.check()
            yield notice

    def check(self) -> None:
        if self.away:
            raise RepositoryUnavailable("it is gone")
        if self.damage:
            raise self.damage

    async def summaries(self, batch_ids: Any = None, **named: Any) -> list[BatchRecord]:
        self.check()
        self.asked.append(batch_ids)
        return await super().summaries(batch_ids, **named)


class Seen:
    """A read model that remembers."""

    def __init__(self) -> None:
        self.records: dict[str, BatchRecord] = {}
        self.loads = 0

    def load(self, records: Iterable[BatchRecord]) -> None:
        self.loads += 1
        self.records.update((record.batch_id, record) for record in records)

    def forget(self, batch_ids: Iterable[str]) -> None:
        for batch_id in batch_ids:
            del self.records[batch_id]


@asynccontextmanager
async def observed(
    repository: BatchStateRepository, clock: Clock | None = None
) -> AsyncGenerator[tuple[Observer, Seen], None]:
    seen = Seen()
    observer = Observer(repository, seen, clock or SystemClock(), lambda names: None)
    task = asyncio.create_task(observer.run())
    try:
        yield observer, seen
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "_LONGEST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(observing, "_FIRST_DELAY_SECONDS", 0.001)


def result(batch_id: str, essay_id: str = "e1") -> StepFact:
    return StepFact(batch_id, essay_id, "nlp", COMPLETED, START, detail=1)


async def test_only_what_a_notice_names_is_read_again() -> None:
    repository = Watched()
    await repository.record([result("b1"), result("b2")])
    async with observed(repository) as (observer, seen):
        await until(lambda: len(seen.records) == 2)
        repository.asked.clear()
        await repository.record([result("b1", "e2")])
        repository.queue.put_nowait(["b1"])
        await until(lambda: seen.records["b1"].seen == 2)
        assert repository.asked == [["b1"]]
        loads = seen.loads
        repository.queue.put_nowait(["b1", "b2"])
        await until(lambda: len(repository.asked) == 2)
        assert seen.loads == loads, "what has not changed is not loaded"
        assert observer.pending == 0


class Slow(Watched):
    """Every read takes a while; the test says what happens during one."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.names = [f"b{number:04d}" for number in range(batches)]
        self.during: dict[str, Any] = {}

    async def summaries(self, batch_ids: Any = None, **named: Any) -> list[BatchRecord]:
        records = await super().summaries(batch_ids, **named)
        await asyncio.sleep(0.002)
        for name in batch_ids or ():
            if name in self.during:
                await self.during.pop(name)()
        return records


async def test_what_is_looked_at_is_read_first_and_waits_for_one_portion_at_most() -> None:
    repository = Slow(2000)
    await repository.record([result(name) for name in repository.names])
    seen, wanted = Seen(), ["b1999", "b1998", "b1999"]
    observer = Observer(repository, seen, SystemClock(), lambda names: None, lambda: wanted)

    async def change_what_is_looked_at() -> None:
        await repository.record([result("b0003", "e2")])
        wanted[:] = ["b0003"]
        repository.queue.put_nowait(["b0003"])

    task = asyncio.create_task(observer.run())
    await until(lambda: observer.mode is Mode.LIVE)
    repository.asked.clear()
    repository.during = {"b0900": change_what_is_looked_at}
    repository.queue.put_nowait(repository.names)
    await until(lambda: ["b0003"] in repository.asked)
    assert repository.asked[0] == ["b1999", "b1998"]
    portion = next(names for names in repository.asked[1:] if "b0900" in names)
    assert len(portion) < len(repository.names) / 4
    assert repository.asked[repository.asked.index(portion) + 1] == ["b0003"]
    await until(lambda: seen.records["b0003"].seen == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_before_everything_was_looked_at_nothing_is_called_live() -> None:
    repository = Slow(2500)
    await repository.record([result(name) for name in repository.names])
    seen = Seen()
    told: list[tuple[int, Mode]] = []
    observer = Observer(
        repository, seen, SystemClock(), lambda _: told.append((len(seen.records), observer.mode))
    )
    task = asyncio.create_task(observer.run())
    await until(lambda: observer.mode is Mode.LIVE)
    assert told[:4] == [
        (1000, Mode.STARTING),
        (2000, Mode.STARTING),
        (2500, Mode.STARTING),
        (2500, Mode.LIVE),
    ]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_changes_again_while_it_is_read_is_read_again() -> None:
    repository = Slow(1)
    await repository.record([result("b0000")])

    async def change_again() -> None:
        await repository.record([result("b0000", "e2")])
        repository.queue.put_nowait(["b0000"])
        await until(lambda: repository.queue.empty())

    async with observed(repository) as (observer, seen):
        await until(lambda: observer.mode is Mode.LIVE)
        repository.during = {"b0000": change_again}
        repository.queue.put_nowait(["b0000"])
        await until(lambda: seen.records["b0000"].seen == 2)


def test_a_slow_server_is_asked_for_less_and_not_all_the_time() -> None:
    moment = 100.0
    pace = Pace(lambda: moment, share=0.2, most=250, longest_pause=0.1)
    pauses, portions = [], []
    for seconds in (0.01, 0.06, 0.6, 0.06, 0.001):
        with pace.reading():
            moment += seconds
        pauses.append(round(pace.due - moment, 6))
        portions.append(pace.portion)
    assert pauses == [0.04, 0.1, 0.6, 0.1, 0.004], "four times as long, up to a limit"
    assert portions == [250, 125, 20, 20, 40]


async def test_where_anything_may_have_changed_all_is_looked_at() -> None:
    repository = Watched()
    async with observed(repository) as (_, seen):
        await repository.record([result("b1")])
        repository.queue.put_nowait(None)
        await until(lambda: "b1" in seen.records)


async def test_while_it_is_away_the_last_known_stays_and_trouble_is_told() -> None:
    repository = Watched()
    await repository.record([result("b1")])
    async with observed(repository) as (observer, seen):
        await until(lambda: "b1" in seen.records)
        repository.away = True
        repository.queue.put_nowait(())
        await until(lambda: observer.trouble)
        assert observer.trouble == "it is gone"
        assert "b1" in seen.records
        await repository.record([result("b2")])  # its notice is missed
        repository.away = False
        await until(lambda: "b2" in seen.records)
        assert observer.trouble == ""
        assert observer.gaps == 1


async def cancelled_after_failing(turns: int, *, through_engine: bool) -> bool:
    """Cancel so many turns of the loop after the backend fails; tell whether that was heard."""
    repository = Watched()
    if through_engine:
        engine = Engine(repository, observing=True)
        task = asyncio.create_task(engine.run())
        await until(lambda: engine.health.mode is Mode.LIVE)
    else:
        observer = Observer(repository, Seen(), SystemClock(), lambda names: None)
        task = asyncio.create_task(observer.run())
        await until(lambda: observer.verified_at)
    repository.away = True
    repository.queue.put_nowait(())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=2)
    heard = task.done()
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    return heard and task.cancelled()


@pytest.mark.parametrize("through_engine", [False, True])
async def test_no_cancellation_is_lost_when_the_backend_fails_at_that_moment(
    through_engine: bool,
) -> None:
    heard = [
        await cancelled_after_failing(turns, through_engine=through_engine) for turns in range(12)
    ]
    assert heard == [True] * 12


async def test_a_key_of_another_type_is_trouble_and_not_the_end() -> None:
    repository = Watched()
    await repository.record([result("b1")])
    async with observed(repository) as (observer, seen):
        await until(lambda: "b1" in seen.records)
        repository.damage = CorruptDocument("a key is of another type")
        repository.queue.put_nowait(["b1"])
        await until(lambda: observer.trouble == "a key is of another type")
        repository.damage = None
        await until(lambda: not observer.trouble)


async def test_an_observer_that_cannot_go_on_says_why() -> None:
    repository = Watched()
    engine = Engine(repository, observing=True)
    running = asyncio.create_task(engine.run())
    await until(lambda: engine.health.mode is Mode.LIVE)
    repository.damage = SettingsError("the schema is another now")
    repository.queue.put_nowait(None)
    with pytest.raises(SettingsError):
        await running
    assert (engine.health.mode, engine.health.trouble) == (Mode.FAILED, "the schema is another now")


async def test_dead_letters_are_counted_although_no_notice_tells_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observing, "_LETTER_SECONDS", 0.01)
    repository = Watched()
    engine = Engine(repository, observing=True)
    assert engine.health.letters_unknown == "not counted yet"
    running = asyncio.create_task(engine.run())
    await until(lambda: not engine.health.letters_unknown)
    assert engine.health.dead_letters == 0
    await repository.record_dead_letters([letter(number) for number in range(17)])
    await until(lambda: engine.health.dead_letters == 17)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("cause", [None, PermissionError("NOPERM")])
async def test_dead_letters_that_may_not_be_counted_are_unknown_and_the_rest_is_seen(
    monkeypatch: pytest.MonkeyPatch, cause: Exception | None
) -> None:
    repository = Watched()
    await repository.record([result("b1")])

    async def refuse() -> int:
        raise (RepositoryUnavailable if cause else NotPermitted)("not this") from cause

    monkeypatch.setattr(repository, "count_dead_letters", refuse)
    async with observed(repository) as (observer, seen):
        await until(lambda: observer.letters_unknown == "not permitted")
        assert observer.dead_letters is None
        await until(lambda: "b1" in seen.records)
        assert not observer.trouble


async def test_the_newest_event_is_never_one_of_the_future() -> None:
    projection = Projection()
    hour = timedelta(hours=1)
    for batch_id, moment in (("old", START - hour), ("new", START), ("future", START + hour)):
        record = BatchRecord(batch_id, first_at=moment, last_at=moment)
        projection.load([record])
    projection.rows(START)
    assert projection.newest_at == START


def letter(number: int) -> DeadLetter:
    return DeadLetter(START, "x", f"line {number}", "json", "not JSON", "", b"{", "0" * 64, 1)


async def test_a_batch_is_let_go_when_it_is_missing_twice() -> None:
    repository = Watched()
    await repository.record([result("b1"), result("b2")])
    async with observed(repository) as (_, seen):
        await until(lambda: len(seen.records) == 2)
        everything, repository._batches = repository._batches, {}
        lost = repository.summaries
        looks = 0

        async def once(*arguments: Any, **named: Any) -> list[BatchRecord]:
            nonlocal looks
            looks += 1
            if looks == 2:  # back before the second look
                repository._batches = everything
            return await lost(*arguments, **named)

        repository.summaries = once  # type: ignore[method-assign]
        repository.queue.put_nowait(None)
        await until(lambda: looks >= 3)
        assert sorted(seen.records) == ["b1", "b2"]
        del everything["b2"]
        repository.queue.put_nowait(None)
        await until(lambda: sorted(seen.records) == ["b1"])


async def test_without_a_word_for_long_it_is_stale() -> None:
    repository, clock = Watched(), ManualClock(START)
    async with observed(repository, clock) as (observer, _):
        await until(lambda: observer.verified_at == START)
        assert not observer.is_stale
        clock.advance(observing.STALE_SECONDS + 1)
        assert observer.is_stale
        repository.queue.put_nowait(())
        await until(lambda: not observer.is_stale)


async def test_the_engine_shows_what_is_live_and_stops_the_clock_when_nothing_is_verified() -> None:
    repository, clock = Watched(), ManualClock(START)
    await repository.record([result("b1")])
    engine = Engine(repository, clock=clock, observing=True)
    assert engine.health.mode is Mode.STARTING
    running = asyncio.create_task(engine.run())
    await until(lambda: engine.health.mode is Mode.LIVE and len(engine.view.batches) == 1)
    health = engine.health
    assert (health.read_only, health.verified_at, health.gaps) == (True, START, 0)

    await engine.open("b1")
    await repository.record([result("b1", "e2")])
    repository.queue.put_nowait(["b1"])
    await until(lambda: len(grid_of(engine).essay_ids) == 2)

    repository.away = True
    repository.queue.put_nowait(())
    await until(lambda: engine.health.mode is Mode.RECONNECTING)
    assert engine.health.trouble == "it is gone"
    clock.advance(5)
    assert (engine.view.now, engine.health.time) == (START, START + timedelta(seconds=5))
    clock.advance(6)
    assert engine.health.mode is Mode.STALE
    repository.away = False
    await until(lambda: engine.health.mode is Mode.LIVE)
    assert engine.view.now == clock.now()
    assert engine.health.gaps == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def grid_of(engine: Engine) -> Grid:
    assert engine.view.grid
    return engine.view.grid


async def test_the_rate_of_what_nobody_told_one_by_one_is_spread_over_its_time() -> None:
    projection = Projection()
    record = BatchRecord("b", expected=100, seen=100, first_at=START, last_at=START)
    projection.load([record])
    later = START + timedelta(seconds=60)
    projection.load([msgspec.structs.replace(record, last_at=later, counts={"nlp": [30, 0]})])
    rows, _ = projection.rows(later)
    rate = rows["b"].rate_per_minute
    assert rate is not None
    assert 29 <= rate <= 32


async def test_a_file_that_another_connection_writes_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    writer = await SqliteBatchStateRepository.open(path)
    await writer.record([result("b1")])
    reader = await SqliteBatchStateRepository.open(path, read_only=True)
    async with observed(reader) as (observer, seen):
        await until(lambda: "b1" in seen.records)
        await writer.record([result("b1", "e2"), result("b2")])
        await until(lambda: "b2" in seen.records and seen.records["b1"].seen == 2)
        await writer.aclose()
        path.rename(tmp_path / "elsewhere.db")
        await until(lambda: observer.trouble)
        assert "x.db" in observer.trouble
        (tmp_path / "elsewhere.db").rename(path)
        await until(lambda: not observer.trouble)
    await reader.aclose()

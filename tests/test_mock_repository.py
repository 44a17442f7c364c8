"""What only the repository in memory does: it forgets, and it goes back to checkpoints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.models import EssaysFact, Fact, StepFact, aggregate_essay_id

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = 86_400.0


def result(
    essay_id: str = "e1", *, outcome: int = 2, seconds: int = 0, batch_id: str = "b1"
) -> StepFact:
    moment = START + timedelta(seconds=seconds)
    return StepFact(batch_id, essay_id, "spellcheck", outcome, moment, detail=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def repository(clock: ManualClock) -> MockBatchStateRepository:
    return MockBatchStateRepository(clock, ttl_days=7)


async def test_an_essay_expires_after_the_last_write_that_changed_it(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    pseudo = aggregate_essay_id("b1")
    await repository.record([result("e1"), result("e2"), result("e3", outcome=1), result(pseudo)])
    clock.advance(5 * DAY)
    await repository.record([result("e1"), result("e2", seconds=99)])
    clock.advance(2 * DAY - 1)
    assert (await repository.batch_record("b1")).seen == 3
    clock.advance(1)
    record, essay_ids, outcomes = await repository.load_batch("b1")
    assert (essay_ids, record.seen, record.counts) == (["e2"], 1, {"spellcheck": [1, 0]})
    assert outcomes == {"spellcheck": bytearray([2])}
    assert await repository.essays("b1", ["e1", pseudo]) == []
    clock.advance(5 * DAY)
    assert await repository.summaries() == []


async def test_what_faded_is_told_once(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    await repository.record([result("e1"), result(batch_id="b2")])
    clock.advance(DAY)
    assert (await repository.record([result("e2")])).faded == []
    clock.advance(6 * DAY)
    assert await repository.summaries(["b2"]) == []
    assert (await repository.record([])).faded == ["b1", "b2"]
    assert (await repository.record([])).faded == []


async def test_homeless_results_expire_unless_they_come_again(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    await repository.record([result("e1", batch_id=""), result("e2", batch_id="")])
    clock.advance(4 * DAY)
    await repository.record([result("e2", batch_id="")])
    clock.advance(3 * DAY)
    await repository.record([EssaysFact("b1", ("e1", "e2"), START)])
    [one, other] = await repository.essays("b1")
    assert (one.steps, list(other.steps)) == ({}, ["spellcheck"])


async def test_an_expired_essay_is_no_home(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    await repository.record([result("e1"), result("e1", batch_id="b2")])
    clock.advance(4 * DAY)
    await repository.record([result("e1", batch_id="b2", seconds=1), result("e2")])
    clock.advance(3 * DAY)
    recorded = await repository.record([result("e1", batch_id="", seconds=2)])
    assert [change.fact.batch_id for change in recorded.changes] == ["b2"]
    assert (await repository.batch_record("b1")).seen == 1


async def test_a_recording_does_not_expire(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    repository.keep_everything()
    await repository.record([result()])
    clock.advance(10_000 * DAY)
    assert (await repository.batch_record("b1")).seen == 1


async def test_a_checkpoint_is_not_changed_by_what_comes_after(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    later: list[Fact] = [
        result("e1", seconds=5),
        result("e2"),
        result("e1", batch_id="b2"),
        EssaysFact("b1", ("e1",), START - timedelta(seconds=1), "a.txt"),
        result("e3", batch_id=""),
    ]
    await repository.record([result("e1", outcome=1)])
    then = repository.checkpoint()
    before = [await repository.load_batch("b1"), await repository.essays("b1")]
    await repository.record(later)
    now = repository.checkpoint()
    after = [await repository.load_batch("b1"), await repository.essays("b1")]
    assert before != after
    for _ in range(2):
        repository.restore(then)
        assert [await repository.load_batch("b1"), await repository.essays("b1")] == before
        assert [record.batch_id for record in await repository.summaries()] == ["b1"]
        assert all((await repository.record(later)).news)
    repository.restore(now)
    assert [await repository.load_batch("b1"), await repository.essays("b1")] == after
    assert not any((await repository.record(later)).news)


@pytest.mark.parametrize(
    "same",
    [
        result(),
        result(outcome=1, seconds=9),
        EssaysFact("b1", ("e1",), START + timedelta(seconds=9), "a.txt"),
        EssaysFact("b1", ("e1",), START),
    ],
)
async def test_what_changes_nothing_keeps_nothing_alive(
    repository: MockBatchStateRepository, clock: ManualClock, same: Fact
) -> None:
    await repository.record([result(), EssaysFact("b1", ("e1",), START, "a.txt")])
    clock.advance(6 * DAY)
    await repository.record([same])
    clock.advance(DAY)
    assert await repository.summaries() == []


async def test_a_file_name_that_changes_keeps_its_essay_alive(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    await repository.record([result(), EssaysFact("b1", ("e1",), START, "a.txt")])
    clock.advance(6 * DAY)
    await repository.record([EssaysFact("b1", ("e1",), START, "b.txt")])
    clock.advance(DAY)
    [essay] = await repository.essays("b1")
    assert (essay.file_name, list(essay.steps)) == ("b.txt", ["spellcheck"])


async def test_going_back_does_not_delay_what_expires_there(
    repository: MockBatchStateRepository, clock: ManualClock
) -> None:
    await repository.record([result()])
    then = repository.checkpoint()
    clock.advance(5 * DAY)
    await repository.record([result(seconds=5)])
    clock.advance(3 * DAY)
    assert (await repository.batch_record("b1")).seen == 1
    repository.restore(then)
    assert await repository.summaries() == []

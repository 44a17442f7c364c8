"""The read model: what it makes of changes, what it rebuilds, how it goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from envelopes import at
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.mock import MockBatchStateRepository
from engine.models import (
    COMPLETED,
    FAILED,
    PENDING,
    BatchFact,
    BatchRecord,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
    aggregate_essay_id,
)
from engine.pipelines import phases_of
from engine.projection import (
    OTHERS_PER_VIEW,
    STALL_SECONDS,
    WHOLE_BATCH_STALL_SECONDS,
    Projection,
)
from engine.repository import BatchColumns, Change
from engine.summaries import summarize
from engine.view import BatchRow, Grid


def result(
    number: int,
    outcome: int = COMPLETED,
    batch_id: str = "b1",
    step: str = "spellcheck",
    seconds: float | None = None,
) -> Change:
    moment = at(number if seconds is None else seconds)
    new_essays = int(step == "spellcheck")
    return Change(StepFact(batch_id, f"e{number}", step, outcome, moment, "", 1), 0, new_essays)


def asked(batch_id: str = "b1", essays: int = 100) -> list[Change]:
    return [
        Change(RegistrationFact(batch_id, essays, (), at(0))),
        Change(BatchFact(batch_id, "requested", "nlp", "r1", at(0))),
    ]


def started(phase: str, seconds: float) -> Change:
    return Change(PhaseFact("b1", phase, "started", "r1", at(seconds)))


def row_at(projection: Projection, seconds: float) -> BatchRow:
    return projection.rows(at(seconds))[0]["b1"]


# What is rebuilt


def test_only_rows_that_changed_are_new_objects() -> None:
    projection = Projection()
    projection.apply([*asked("b1"), *asked("b2")])
    assert projection.is_dirty
    first, changed = projection.rows(at(0))
    assert changed == {"b1", "b2"}
    assert not projection.is_dirty

    again, nothing = projection.rows(at(0))
    assert (again is first, nothing) == (True, frozenset())

    projection.apply([result(1)])
    second, changed = projection.rows(at(1))
    assert changed == {"b1"}
    assert second["b2"] is first["b2"]
    assert second["b1"] is not first["b1"]
    assert first["b1"].summary.seen == 0, "a picture that was shown stays as it is"


def test_changes_are_told_once() -> None:
    projection = Projection()
    projection.load([BatchRecord("b1", seen=2)])
    assert projection.rows(at(0))[1] == {"b1"}
    assert projection.rows(at(0))[1] == frozenset()


def test_loading_anew_keeps_the_rate_and_forgetting_lets_go() -> None:
    projection = Projection()
    projection.apply([*asked(), *map(result, range(10))])
    rate = row_at(projection, 9).rate_per_minute
    assert rate
    projection.load([BatchRecord("b1", 100, 10, milestones=marks(projection))])
    assert row_at(projection, 9).rate_per_minute == rate
    projection.forget(["b1", "never heard of"])
    assert projection.rows(at(9)) == ({}, frozenset())
    assert projection.checkpoint().batches == {}


def marks(projection: Projection) -> Any:
    return projection.checkpoint().batches["b1"][0].milestones


def test_what_is_loaded_is_copied() -> None:
    record = BatchRecord("b1", seen=1)
    projection = Projection()
    projection.load([record])
    projection.apply([result(1)])
    assert (record.seen, record.counts) == (1, {})


# Rates, remaining time, stalls


def test_a_rate_needs_a_few_results() -> None:
    projection = Projection()
    projection.apply([*asked(), *map(result, range(4))])
    assert row_at(projection, 3).rate_per_minute is None
    assert row_at(projection, 3).eta is None
    projection.apply([result(4)])
    assert row_at(projection, 5).rate_per_minute == 60.0


def test_results_of_one_moment_give_no_rate() -> None:
    projection = Projection()
    projection.apply([*asked(), *(result(number, seconds=3) for number in range(9))])
    assert row_at(projection, 3).rate_per_minute is None


def test_listings_and_improvements_are_no_pace() -> None:
    projection = Projection()
    facts = [StepFact("b1", f"e{n}", "nlp", COMPLETED, at(n)) for n in range(9)]
    better = [StepFact("b1", f"e{n}", "nlp", COMPLETED, at(n), "", 1) for n in range(9)]
    projection.apply([*asked(), *(Change(fact, PENDING, 1) for fact in facts)])
    projection.apply([Change(fact, FAILED) for fact in better])
    assert row_at(projection, 9).rate_per_minute is None


def test_the_remaining_time_is_a_range_between_the_recent_and_the_overall_pace() -> None:
    projection = Projection()
    changes = [result(number, seconds=100 + number / 10) for number in range(40)]
    projection.apply([*asked(essays=60), *changes])
    row = row_at(projection, 104)
    assert row.eta is not None
    pending = 20 + 60
    assert row.rate_per_minute is not None
    assert row.eta.low_seconds == pending / (row.rate_per_minute / 60)
    assert row.eta.high_seconds == pending / (40 / 104)
    assert row.eta.basis == "last 32 results"


def test_no_remaining_time_where_nothing_remains() -> None:
    projection = Projection()
    both = [result(n, step=step, seconds=n) for n in range(5) for step in ("spellcheck", "nlp")]
    projection.apply([*asked(essays=5), *both])
    row = row_at(projection, 6)
    assert (row.eta, row.summary.status) == (None, "processing")


def test_a_clock_behind_the_events_gives_no_false_numbers() -> None:
    projection = Projection()
    projection.apply([*asked(), *map(result, range(100, 120))])
    row = row_at(projection, 0)
    assert row.rate_per_minute is not None
    assert row.eta is not None
    assert 0 < row.eta.low_seconds <= row.eta.high_seconds


def test_a_batch_stalls_although_nothing_happens() -> None:
    projection = Projection(stall_seconds=60)
    projection.apply([*asked(), *map(result, range(10))])
    assert row_at(projection, 10).stalled_since is None
    assert projection.next_wake is not None
    assert projection.rows(at(68.9))[0]["b1"].stalled_since is None
    rows, changed = projection.rows(at(69))
    assert changed == {"b1"}
    assert (rows["b1"].stalled_since, rows["b1"].rate_per_minute, rows["b1"].eta) == (
        at(9),
        0,
        None,
    )
    assert projection.rows(at(9000)) == (rows, frozenset())

    projection.apply([result(10, seconds=9001)])
    assert row_at(projection, 9001).stalled_since is None


def test_a_batch_that_need_not_move_does_not_stall() -> None:
    projection = Projection()
    projection.apply([Change(RegistrationFact("b1", 3, (), at(0)))])
    row_at(projection, 0)
    assert projection.next_wake is None
    assert row_at(projection, 10**6).stalled_since is None


def test_a_phase_that_reports_once_for_all_gets_more_patience() -> None:
    projection = Projection()
    projection.apply([*asked(), started("cj_assessment", 0)])
    assert row_at(projection, STALL_SECONDS).stalled_since is None
    assert row_at(projection, WHOLE_BATCH_STALL_SECONDS).stalled_since == at(0)
    both = Projection()
    both.apply([*asked(), started("cj_assessment", 0), started("nlp", 0)])
    assert row_at(both, STALL_SECONDS).stalled_since == at(0)


def test_remaining_times_are_refreshed_and_wakes_do_not_pile_up() -> None:
    projection = Projection()
    projection.apply([*asked(), *map(result, range(10))])
    row_at(projection, 10)
    assert projection.next_wake == at(20)
    for number in range(10, 19):
        projection.apply([result(number)])
        row_at(projection, number)
    assert projection.next_wake == at(20)
    assert projection.rows(at(19))[1] == frozenset()
    assert projection.rows(at(20))[1] == {"b1"}


def test_what_nobody_looks_at_is_shown_later_but_is_shown() -> None:
    names = [f"b{number:03}" for number in range(3 * OTHERS_PER_VIEW)]
    projection = Projection()
    projection.apply([change for name in names for change in asked(name)])
    first, changed = projection.rows(at(0), [])
    assert changed == set(names), "what was never shown is shown at once"

    projection.apply([result(1, batch_id=name) for name in names])
    wanted = {names[-1], "unheard of"}
    rows, changed = projection.rows(at(1), wanted)
    assert changed == {*names[:OTHERS_PER_VIEW], names[-1]}
    assert rows[names[-2]] is first[names[-2]]
    while projection.is_dirty:
        more = projection.rows(at(1), wanted)[1]
        assert more
        assert not more & changed
        changed |= more
    assert changed == set(names)
    assert {row.summary.seen for row in projection.rows(at(1))[0].values()} == {1}


def test_a_batch_that_is_forgotten_goes_from_the_rows_whoever_looks() -> None:
    projection = Projection()
    projection.apply([*asked("b1"), *asked("b2")])
    projection.rows(at(0))
    projection.forget(["b1"])
    assert list(projection.rows(at(0), ["b2"])[0]) == ["b2"]


# Going back


def test_a_checkpoint_shares_what_did_not_change() -> None:
    projection = Projection()
    projection.apply([*asked("b1"), *asked("b2")])
    one = projection.checkpoint()
    projection.rows(at(0))
    projection.apply([result(1)])
    two = projection.checkpoint()
    assert two.batches["b2"] is one.batches["b2"]
    assert one.batches["b1"][0].seen == 0
    assert two.batches["b1"][0].seen == 1
    projection.rows(at(0))
    assert projection.checkpoint().batches["b1"] is two.batches["b1"]


def test_restoring_goes_back_and_leaves_the_checkpoint_as_it_was() -> None:
    projection = Projection()
    projection.apply([*asked(), *map(result, range(8))])
    then = projection.checkpoint()
    before = row_at(projection, 8)
    projection.apply([result(8), *asked("b2")])
    projection.restore(then)
    for _ in range(2):
        rows, changed = projection.rows(at(8))
        assert rows == {"b1": before}
        projection.apply([result(9)])
        projection.restore(then)
    assert changed == {"b1"}


# The open batch


def columns(grid: Grid) -> dict[str, dict[str, int]]:
    return {
        step: dict(zip(grid.essay_ids, column, strict=True))
        for step, column in grid.outcomes.items()
    }


def test_the_open_batch_is_kept_up_to_date() -> None:
    projection = Projection()
    grid = projection.open(BatchColumns(BatchRecord("b1"), ["e1"], {"nlp": bytearray([FAILED])}))
    projection.apply(
        [
            result(2, FAILED),
            Change(StepFact("b1", "e1", "nlp", COMPLETED, at(0)), FAILED),
            Change(EssaysFact("b1", ("e3", "e1", aggregate_essay_id("b1")), at(0)), 0, 1),
            result(9, batch_id="b2"),
            started("nlp", 3),
        ]
    )
    assert grid is projection.grid
    assert columns(grid) == {
        "nlp": {"e1": COMPLETED, "e2": PENDING, "e3": PENDING},
        "spellcheck": {"e1": PENDING, "e2": FAILED, "e3": PENDING},
    }
    assert grid.version == 3
    projection.close()
    projection.apply([result(4)])
    assert (projection.grid, grid.version) == (None, 3)


essay_ids = st.sampled_from(["e1", "e2", "e3", aggregate_essay_id("b1")])
moments = st.integers(0, 9).map(at)
batch_ids = st.sampled_from(["b1", "b1", "b2", ""])
known_batches = st.sampled_from(["b1", "b2"])
words = st.sampled_from(["spellcheck", "nlp"])
facts: st.SearchStrategy[Fact] = st.one_of(
    st.builds(
        StepFact,
        batch_ids,
        essay_ids,
        words,
        st.integers(0, 2),
        moments,
        st.sampled_from("xy"),
        st.integers(0, 2),
    ),
    st.builds(EssaysFact, known_batches, st.lists(essay_ids, max_size=2).map(tuple), moments),
    st.builds(
        RegistrationFact,
        known_batches,
        st.integers(0, 5),
        st.lists(essay_ids, max_size=2).map(tuple),
        moments,
        st.sampled_from(["", "o1", "o2"]),
    ),
    st.builds(
        PhaseFact,
        known_batches,
        words,
        st.sampled_from(["started", "skipped", "completed_with_failures"]),
        st.sampled_from(["r1", "r2"]),
        moments,
    ),
    st.builds(
        BatchFact,
        known_batches,
        st.sampled_from(["provisioned", "requested", "completed"]),
        st.sampled_from(["nlp", "completed_successfully"]),
        st.sampled_from(["r1", "r2"]),
        moments,
    ),
)


@settings(max_examples=200)
@given(st.lists(st.lists(facts, max_size=4), max_size=6), st.integers(0, 5))
def test_it_stays_in_step_with_the_repository(chunks: Sequence[list[Fact]], opened: int) -> None:
    async def follow() -> None:
        repository = MockBatchStateRepository()
        projection = Projection()
        for number, chunk in enumerate(chunks):
            projection.apply((await repository.record(chunk)).changes)
            known = {record.batch_id: record for record in await repository.summaries()}
            rows = projection.rows(at(9))[0]
            for batch_id, row in rows.items():
                assert row.summary == summarize(known[batch_id], phases_of())
            if number == opened and "b1" in known:
                projection.open(await repository.load_batch("b1"))
            if projection.grid:
                loaded = await repository.load_batch("b1")
                fresh = Projection().open(loaded)
                shown = columns(projection.grid)
                assert set(projection.grid.essay_ids) == set(loaded.essay_ids)
                assert {step: shown[step] for step in fresh.outcomes} == columns(fresh)

    asyncio.run(follow())


def test_the_times_of_results_are_event_times() -> None:
    """History that is read in one go must not look like a burst."""
    projection = Projection()
    projection.apply([*asked(), *(result(n, seconds=n * 60) for n in range(32))])
    later: datetime = at(31 * 60)
    rate = projection.rows(later)[0]["b1"].rate_per_minute
    assert rate is not None
    assert 0.9 < rate < 1.1

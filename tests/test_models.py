"""What is true of a batch, computed from a record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import permutations
from typing import Any

import pytest
from envelopes import at

from engine.models import (
    BEGINNING,
    COMPLETED,
    FAILED,
    PENDING,
    BatchFact,
    BatchRecord,
    EssayState,
    PhaseFact,
    RegistrationFact,
    StepFact,
    absorb_milestone,
    absorb_registration,
    absorb_upload,
    aggregate_essay_id,
    count_step,
    earlier,
    is_aggregate,
    merge_homeless,
    merge_steps,
    milestone,
    same_content,
)
from engine.pipelines import phases_of
from engine.standing import newest
from engine.summaries import BatchSummary, StepCounts, summarize

PHASES = ("spellcheck", "cj_assessment", "nlp", "ai_feedback")
SUCCESS, PARTIAL = "completed_successfully", "completed_with_failures"


def step(
    outcome: int = COMPLETED,
    seconds: float = 10,
    event_id: str = "m",
    detail: int = 1,
    metadata: str = "{}",
) -> StepFact:
    return StepFact("b1", "e1", "nlp", outcome, at(seconds), event_id, detail, metadata)


# Merging


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (step(FAILED, 1), step(PENDING, 99, "z", 2, "z")),
        (step(COMPLETED, 1), step(FAILED, 99, "z", 2, "z")),
        (step(detail=1, seconds=1), step(detail=0, seconds=99, event_id="z", metadata="z")),
        (step(detail=1, seconds=99), step(detail=0, seconds=1, event_id="z", metadata="z")),
        (step(detail=1, seconds=9), step(detail=2, seconds=8, event_id="z", metadata="z")),
        (step(detail=2), step(detail=1, event_id="z", metadata="z")),
        (step(event_id="n"), step(event_id="m", metadata="z")),
        (step(metadata="b"), step(metadata="a")),
        (step(detail=0, seconds=1), step(detail=0, seconds=9, event_id="z", metadata="z")),
        (step(detail=0, event_id="n"), step(detail=0, metadata="z")),
        (step(detail=0, metadata="b"), step(detail=0, metadata="a")),
    ],
)
def test_of_two_results_the_same_one_always_wins(winner: StepFact, loser: StepFact) -> None:
    assert merge_steps(winner, loser) is winner
    assert merge_steps(loser, winner) is winner


def test_merging_is_idempotent_and_content_ignores_event_ids() -> None:
    assert merge_steps(step(), step()) == step()
    assert same_content(step(event_id="a"), step(event_id="b", detail=2))
    assert not same_content(step(), step(seconds=11))
    assert not same_content(step(), step(metadata="x"))
    assert not same_content(step(), step(FAILED))


def test_homeless_results_keep_the_times_of_all() -> None:
    facts = [step(COMPLETED, 5), step(FAILED, 2), step(FAILED, 9), step(COMPLETED, 1, detail=0)]
    for order in permutations(facts):
        kept = None
        for fact in order:
            kept = merge_homeless(kept, fact)
        assert kept is not None
        assert kept.fact == facts[0]
        assert (kept.earliest, kept.first, kept.last) == (at(1), at(2), at(9))


def test_homeless_listings_date_the_essay_only() -> None:
    kept = merge_homeless(merge_homeless(None, step(detail=0)), step(detail=0, seconds=3))
    assert (kept.earliest, kept.first, kept.last) == (at(3), None, None)


# What records absorb


def test_a_milestone_is_kept_once_with_its_earliest_time() -> None:
    record = BatchRecord("b1")
    times: Sequence[datetime | None] = [at(5), at(9), at(3), None, at(1)]
    news = [
        absorb_milestone(record, PhaseFact("b1", "nlp", SUCCESS, "r1", moment)) for moment in times
    ]
    assert news == [True, False, True, True, False]
    (mark,) = record.milestones.values()
    assert (mark.time, mark.when) == (None, BEGINNING)


@pytest.mark.parametrize(
    "other",
    [
        PhaseFact("b1", "nlp", SUCCESS, "r2", at(0)),
        PhaseFact("b1", "nlp", PARTIAL, "r1", at(0)),
        PhaseFact("b1", "nlp", SUCCESS, "r1", at(0), "value"),
        PhaseFact("b1", "cj", SUCCESS, "r1", at(0)),
        BatchFact("b1", SUCCESS, "", "r1", at(0)),
    ],
)
def test_milestones_of_another_identity_are_others(other: PhaseFact | BatchFact) -> None:
    record = BatchRecord("b1")
    assert absorb_milestone(record, PhaseFact("b1", "nlp", SUCCESS, "r1", at(0)))
    assert absorb_milestone(record, other)
    assert len(record.milestones) == 2


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_registrations_in_any_order(order: tuple[int, ...]) -> None:
    facts = [
        RegistrationFact("b1", 24, (), at(1), "first"),
        RegistrationFact("b1", 20, (), at(5), "second"),
        RegistrationFact("b1", 0, (), at(9), ""),
        RegistrationFact("b1", 3, (), at(5), "also"),
    ]
    record = BatchRecord("b1")
    for place in order:
        absorb_registration(record, facts[place])
    assert (record.expected, record.owner, record.owner_at) == (24, "second", at(5))


def test_what_is_news_of_a_registration() -> None:
    record = BatchRecord("b1")
    assert absorb_registration(record, RegistrationFact("b1", 0, (), at(1), "a"))
    assert not absorb_registration(record, RegistrationFact("b1", 0, (), at(1), "a"))
    assert not absorb_registration(record, RegistrationFact("b1", 0, (), at(2), "a"))
    assert absorb_registration(record, RegistrationFact("b1", 0, (), at(3), "b"))
    assert absorb_registration(record, RegistrationFact("b1", 1, (), at(0)))


def test_uploads_are_counted_by_what_became_of_them() -> None:
    record = BatchRecord("b1")
    for status in ("provisioned", "rejected", "provisioned"):
        absorb_upload(record, BatchFact("b1", status, "u", "", at(0)))
    assert (record.provisioned, record.rejected) == (2, 1)


def test_the_span_of_a_batch_tells_whether_it_grew() -> None:
    record = BatchRecord("b1")
    assert [record.saw(at(second)) for second in (5, 5, 3, 4, 9, 9)] == [
        True, False, True, False, True, False,
    ]  # fmt: skip
    assert (record.first_at, record.last_at) == (at(3), at(9))


def test_an_unknown_time_is_the_earliest() -> None:
    assert earlier(at(1), at(2)) == earlier(at(2), at(1)) == at(1)
    assert earlier(None, at(2)) is None
    assert earlier(at(2), None) is None


def test_of_milestones_with_equal_times_one_is_the_newest() -> None:
    marks = [milestone(PhaseFact("b1", "nlp", word, "r", at(1))) for word in ("a", "c", "b")]
    assert newest(marks) == newest(reversed(marks)) == marks[1]
    assert newest([]) is None


def test_a_copy_shares_nothing_that_changes() -> None:
    record = BatchRecord("b1", counts={"nlp": [1, 0]})
    other = record.copy()
    count_step(other.counts, "nlp", PENDING, FAILED)
    absorb_milestone(other, BatchFact("b1", "ready", "", "r", at(0)))
    assert (record.counts, record.milestones) == ({"nlp": [1, 0]}, {})


def test_essays_move_between_counts() -> None:
    counts: dict[str, list[int]] = {}
    for before, after, expected in [
        (PENDING, PENDING, [0, 0]),
        (PENDING, FAILED, [0, 1]),
        (FAILED, COMPLETED, [1, 0]),
        (COMPLETED, PENDING, [0, 0]),
    ]:
        count_step(counts, "nlp", before, after)
        assert counts == {"nlp": expected}


def test_the_pseudo_essay_is_that_of_its_own_batch() -> None:
    assert is_aggregate("b1", aggregate_essay_id("b1"))
    assert not is_aggregate("b1", aggregate_essay_id("b2"))
    assert not is_aggregate("b1", "b1")


def test_when_an_essay_was_last_updated() -> None:
    assert EssayState("e1", at(1), {}).last_updated == at(1)
    assert EssayState("e1", at(1), {"a": step(seconds=9), "b": step(seconds=4)}).last_updated == at(
        9
    )


# Counts


def summary(
    *facts: PhaseFact | BatchFact,
    expected: int | None = 4,
    seen: int = 4,
    **counts: tuple[int, int],
) -> BatchSummary:
    record = BatchRecord("b1", expected=expected, seen=seen)
    record.counts = {name: list(pair) for name, pair in counts.items()}
    for fact in facts:
        absorb_milestone(record, fact)
    result = summarize(record, phases_of())
    for known in result.steps:
        parts = (known.completed, known.failed, known.skipped, known.pending)
        assert min(parts) >= 0
        assert sum(parts) == known.total == result.total
    return result


def counts_of(result: BatchSummary, name: str) -> StepCounts:
    return next(counts for counts in result.steps if counts.step == name)


def phase(name: str, status: str, seconds: float | None = 9, run: str = "r1") -> PhaseFact:
    return PhaseFact("b1", name, status, run, None if seconds is None else at(seconds))


def batch(status: str, value: str = "", seconds: float = 0, run: str = "r1") -> BatchFact:
    return BatchFact("b1", status, value, run, at(seconds))


ASKED = batch("requested", "nlp")


@pytest.mark.parametrize(
    ("expected", "seen", "total"),
    [(24, 3, 24), (3, 5, 5), (None, 5, 5), (0, 0, 0), (0, 2, 2), (None, 0, 0)],
)
def test_the_total(expected: int | None, seen: int, total: int) -> None:
    result = summary(expected=expected, seen=seen)
    assert (result.total, result.expected, result.seen) == (total, expected, seen)


@pytest.mark.parametrize(
    ("completed", "total", "percentage"),
    [(0, 0, 0.0), (0, 3, 0.0), (1, 3, 33.3), (2, 3, 66.6), (3, 3, 100.0), (9999, 10000, 99.9)],
)
def test_percentages_are_floored(completed: int, total: int, percentage: float) -> None:
    result = summary(expected=total, seen=completed, nlp=(completed, 0))
    assert counts_of(result, "nlp").percentage == percentage


def test_essays_are_pending_until_their_phase_has_ended() -> None:
    assert counts_of(summary(ASKED, nlp=(1, 1)), "nlp").pending == 2
    ended = counts_of(summary(ASKED, phase("nlp", PARTIAL), nlp=(1, 1)), "nlp")
    assert (ended.pending, ended.skipped) == (0, 2)
    pruned = counts_of(summary(ASKED, phase("nlp", "skipped")), "nlp")
    assert (pruned.pending, pruned.skipped, pruned.phase_status) == (0, 4, "skipped")
    over = summary(ASKED, batch("completed", SUCCESS, 9), nlp=(1, 1))
    assert [(counts.pending, counts.skipped) for counts in over.steps] == [(0, 4), (0, 2)]


def test_an_outcome_before_the_last_result_skips_it_only_until_it_comes() -> None:
    for completed in (1, 2, 3, 4):
        counts = counts_of(summary(phase("nlp", SUCCESS), nlp=(completed, 0)), "nlp")
        assert (counts.completed, counts.skipped) == (completed, 4 - completed)


def test_a_report_of_a_service_ends_nothing() -> None:
    counts = counts_of(summary(phase("nlp", "started", 1), phase("nlp", "reported", 2)), "nlp")
    assert (counts.running, counts.phase_status, counts.pending) == (True, None, 4)


def test_steps_stand_in_the_order_of_the_pipeline_then_of_the_alphabet() -> None:
    result = summary(
        batch("requested", "cj_assessment"), zeta=(1, 0), alpha=(1, 0), ai_feedback=(1, 0)
    )
    names = [counts.step for counts in result.steps]
    assert names == ["spellcheck", "cj_assessment", "ai_feedback", "alpha", "zeta"]


def test_when_a_phase_ran() -> None:
    facts = [
        phase("nlp", "started", 3),
        PhaseFact("b1", "nlp", "started", "r1", at(4), "dispatched"),
        phase("nlp", SUCCESS, 8),
    ]
    counts = counts_of(summary(*facts), "nlp")
    assert (counts.started_at, counts.ended_at, counts.running) == (at(3), at(8), False)
    open_ended = counts_of(summary(*facts[:2]), "nlp")
    assert (open_ended.started_at, open_ended.ended_at, open_ended.running) == (at(3), None, True)


def test_the_newest_outcome_of_a_phase_counts_and_one_without_a_time_is_the_oldest() -> None:
    stored = phase("nlp", "failed", None, "stored")
    assert counts_of(summary(stored), "nlp").phase_status == "failed"
    for facts in permutations([stored, phase("nlp", PARTIAL, 5), phase("nlp", SUCCESS, 6)]):
        assert counts_of(summary(*facts), "nlp").phase_status == SUCCESS


# Several runs

FIRST = [phase("nlp", "started", 1), phase("nlp", PARTIAL, 2)]
AGAIN = phase("nlp", "started", 5, "r2")


@pytest.mark.parametrize("known", ["completed_with_failures", "failed_critically", "cancelled"])
def test_a_stored_failure_says_less_than_a_known_outcome(known: str) -> None:
    told, stored = phase("nlp", known, 5), phase("nlp", "failed", 6, "")
    counts = counts_of(summary(told, stored), "nlp")
    assert (counts.phase_status, counts.ended_at) == (known, told.time)
    assert summary(told, stored).status == summary(told).status


def test_a_stored_failure_after_a_full_success_is_another_outcome() -> None:
    success, stored = phase("nlp", "completed_successfully", 5), phase("nlp", "failed", 6, "")
    assert counts_of(summary(success, stored), "nlp").phase_status == "failed"


def test_a_stored_failure_ends_a_run_of_which_nothing_else_is_known() -> None:
    first = [phase("nlp", "started", 1), phase("nlp", "completed_with_failures", 5)]
    second = [phase("nlp", "started", 10, "r2"), phase("nlp", "failed", 20, "")]
    counts = counts_of(summary(*first, *second), "nlp")
    assert (counts.running, counts.ended_at) == (False, second[1].time)


def test_a_phase_that_was_started_again_is_running() -> None:
    counts = counts_of(summary(*FIRST, AGAIN, nlp=(3, 0)), "nlp")
    assert (counts.running, counts.pending, counts.started_at, counts.ended_at) == (
        True, 1, at(5), None,
    )  # fmt: skip


def test_the_outcome_of_an_old_run_does_not_end_a_new_one() -> None:
    late = phase("nlp", "failed_critically", 7)
    counts = counts_of(summary(*FIRST, AGAIN, late, nlp=(3, 0)), "nlp")
    assert (counts.running, counts.pending) == (True, 1)
    ended = counts_of(summary(*FIRST, AGAIN, late, phase("nlp", SUCCESS, 6, "r2")), "nlp")
    assert (ended.running, ended.ended_at) == (False, at(6))


@pytest.mark.parametrize(("seconds", "running"), [(4, True), (5, False), (6, False)])
@pytest.mark.parametrize("run", ["unheard-of", ""])
def test_an_end_of_an_unknown_run_is_judged_by_its_time(
    run: str, seconds: float, running: bool
) -> None:
    end = phase("nlp", SUCCESS, seconds, run)
    assert counts_of(summary(*FIRST, AGAIN, end), "nlp").running is running


def test_an_end_may_seem_to_come_before_its_start() -> None:
    counts = counts_of(summary(phase("nlp", "started", 9), phase("nlp", SUCCESS, 8)), "nlp")
    assert not counts.running


# Status

ENDED = [phase("spellcheck", SUCCESS, 2), phase("nlp", SUCCESS, 3)]
FULL: dict[str, Any] = {"spellcheck": (4, 0), "nlp": (4, 0)}
SOME: dict[str, Any] = {"spellcheck": (4, 0), "nlp": (3, 1)}


@pytest.mark.parametrize(
    ("facts", "counts", "status"),
    [
        ([], {}, "pending_content"),
        ([batch("content_errors")], {}, "pending_content"),
        ([batch("matching", "initiated")], {}, "pending_content"),
        ([batch("content_complete")], {}, "ready"),
        ([batch("ready")], {}, "ready"),
        ([batch("content_failed")], {}, "failed"),
        ([batch("content_failed", seconds=1), batch("ready", seconds=2)], {}, "ready"),
        ([batch("content_failed", seconds=3), batch("ready", seconds=2)], {}, "failed"),
        ([ASKED], {}, "processing"),
        ([], {"nlp": (1, 0)}, "processing"),
        ([], {"nlp": (0, 1)}, "processing"),
        ([], {"nlp": (0, 0)}, "pending_content"),
        ([phase("nlp", "started")], {}, "processing"),
        ([phase("nlp", SUCCESS)], FULL, "processing"),
        ([phase("nlp", SUCCESS)], {}, "processing"),
        ([phase("nlp", "failed")], {}, "processing"),
        ([batch("ready"), phase("nlp", PARTIAL)], {}, "processing"),
        ([ASKED, *ENDED], FULL, SUCCESS),
        ([ASKED, *ENDED], SOME, PARTIAL),
        ([ASKED, ENDED[0], phase("nlp", PARTIAL)], FULL, PARTIAL),
        ([ASKED, ENDED[0], phase("nlp", "skipped")], FULL, SUCCESS),
        ([ASKED, ENDED[0]], FULL, "processing"),
        ([ASKED, phase("spellcheck", "failed_critically")], {}, "failed"),
        ([ASKED, phase("spellcheck", "cancelled")], {}, "cancelled"),
        ([ASKED, phase("spellcheck", "failed")], {}, "processing"),
        ([batch("requested", "unheard_of"), *ENDED], FULL, "processing"),
        ([batch("requested", "unheard_of"), batch("completed", SUCCESS)], FULL, SUCCESS),
        ([batch("completed", SUCCESS)], FULL, SUCCESS),
        ([batch("completed", "failed_critically")], FULL, "failed"),
        ([batch("completed", "cancelled")], FULL, "cancelled"),
        ([batch("completed", "content_ingestion_failed")], {}, "failed"),
        ([batch("completed", "processing_pipelines")], {}, "processing"),
        ([batch("completed", PARTIAL)], FULL, PARTIAL),
    ],
)
def test_the_status(facts: list[Any], counts: dict[str, Any], status: str) -> None:
    for order in permutations(facts):
        assert summary(*order, **counts).status == status


def test_success_is_not_believed_when_essays_failed() -> None:
    result = summary(ASKED, *ENDED, batch("completed", SUCCESS, 9), **SOME)
    assert (result.status, result.failed) == (PARTIAL, 1)
    assert "essays failed" in result.reason
    assert summary(ASKED, *ENDED, batch("completed", SUCCESS, 9), **FULL).reason == ""


def test_a_phase_that_failed_critically_stops_the_batch_and_says_which() -> None:
    result = summary(ASKED, phase("nlp", "started", 1), phase("nlp", "failed_critically", 2))
    assert (result.status, result.reason) == ("failed", "nlp failed_critically")


def test_a_denied_pipeline_leaves_the_batch_ready() -> None:
    denied = batch("denied", "insufficient_credits", 4)
    result = summary(batch("ready"), ASKED, denied)
    assert (result.status, result.pipeline) == ("ready", None)
    assert result.reason == "pipeline denied: insufficient_credits"
    assert summary(denied).status == "ready"


SECOND = batch("requested", "nlp", 10, "r2")
WHOLE = [ASKED, *ENDED, batch("completed", SUCCESS, 4)]


def test_a_second_request_makes_the_batch_process_again() -> None:
    assert summary(*WHOLE, **FULL).status == SUCCESS
    assert summary(*WHOLE, SECOND, **FULL).status == "processing"
    assert summary(*WHOLE[:-1], SECOND, **FULL).status == "processing"
    pruned = [phase(name, "skipped", 11, "r2") for name in ("spellcheck", "nlp")]
    assert summary(*WHOLE, SECOND, *pruned, **FULL).status == SUCCESS


def test_ends_of_an_old_run_that_come_late_do_not_end_the_new_one() -> None:
    late = [batch("completed", SUCCESS, 12), phase("nlp", "failed_critically", 12)]
    for end in late:
        assert summary(*WHOLE, SECOND, end, **FULL).status == "processing"
    own = batch("completed", PARTIAL, 11, "r2")
    assert summary(*WHOLE, SECOND, *late, own, **FULL).status == PARTIAL


def test_a_failure_of_the_first_run_does_not_stop_the_second() -> None:
    failed = [ASKED, phase("nlp", "started", 1), phase("nlp", "failed_critically", 2)]
    assert summary(*failed, SECOND).status == "processing"
    assert summary(*failed, SECOND, phase("nlp", "started", 11, "r2")).status == "processing"
    assert summary(*failed, SECOND, phase("nlp", "failed_critically", 12, "r2")).status == "failed"


def test_a_denied_second_request_leaves_the_end_of_the_first() -> None:
    result = summary(*WHOLE, SECOND, batch("denied", "why", 11, "r2"), **FULL)
    assert (result.status, result.pipeline) == (SUCCESS, "nlp")


def test_runs_without_a_name_are_told_apart_by_time() -> None:
    first = [batch("requested", "nlp", 0, ""), batch("completed", SUCCESS, 4, "")]
    assert summary(*first, **FULL).status == SUCCESS
    assert summary(*first, batch("requested", "cj_assessment", 10, ""), **FULL).status == (
        "processing"
    )


def test_student_matching_that_was_cancelled_before_the_request_stops_nothing() -> None:
    cancelled = phase("student_matching", "cancelled", 1, "r0")
    assert summary(cancelled, batch("requested", "nlp", 2)).status == "processing"
    assert summary(cancelled).status == "cancelled"


# Times


def test_when_a_batch_started_and_what_happened_last() -> None:
    record = BatchRecord("b1")
    assert (summarize(record, {}).started_at, summarize(record, {}).last_event_at) == (None, None)
    absorb_milestone(record, batch("ready", seconds=3))
    assert summarize(record, {}).started_at == at(3)
    record.saw(at(2))
    record.saw(at(7))
    assert (summarize(record, {}).started_at, summarize(record, {}).last_event_at) == (at(2), at(7))
    absorb_milestone(record, batch("requested", "nlp", seconds=5))
    absorb_milestone(record, phase("nlp", SUCCESS, 9))
    assert (summarize(record, {}).started_at, summarize(record, {}).last_event_at) == (at(5), at(9))


def test_a_stored_outcome_without_a_time_dates_nothing() -> None:
    result = summary(phase("nlp", SUCCESS, None))
    assert (result.started_at, result.last_event_at) == (None, None)
    assert counts_of(result, "nlp").ended_at is None

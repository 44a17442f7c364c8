"""The contract of the port, the same for every backend."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from conftest import OpenRepository

from engine.clock import ManualClock
from engine.errors import NotFound
from engine.models import (
    BatchFact,
    EssaysFact,
    EssayState,
    Fact,
    Milestone,
    Outcome,
    PhaseFact,
    RegistrationFact,
    StepFact,
    aggregate_essay_id,
)
from engine.repository import BatchStateRepository, Change, DeadLetter, dated

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PENDING, FAILED, COMPLETED = Outcome


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def result(
    essay_id: str = "e1",
    step: str = "spellcheck",
    outcome: int = COMPLETED,
    seconds: float = 10,
    *,
    batch_id: str = "b1",
    event_id: str = "",
    detail: int = 1,
    metadata: str = "{}",
) -> StepFact:
    return StepFact(batch_id, essay_id, step, outcome, at(seconds), event_id, detail, metadata)


def listed(*essay_ids: str, seconds: float = 0, batch_id: str = "b1", file: str = "") -> EssaysFact:
    return EssaysFact(batch_id, essay_ids, at(seconds), file)


async def essay(repository: BatchStateRepository, essay_id: str = "e1") -> EssayState:
    [found] = await repository.essays("b1", [essay_id])
    return found


async def step_of(repository: BatchStateRepository, step: str = "spellcheck") -> StepFact:
    return (await essay(repository)).steps[step]


async def counts(repository: BatchStateRepository, batch_id: str = "b1") -> dict[str, list[int]]:
    return (await repository.batch_record(batch_id)).counts


# Results of steps


async def test_a_result_is_kept_and_counted(repository: BatchStateRepository) -> None:
    fact = result(event_id="x1", detail=2, metadata='{"a": "\u00e9\u4e2d\U0001f600"}')
    recorded = await repository.record([fact])

    assert list(recorded.news) == [True]
    assert list(recorded.changes) == [Change(fact, PENDING, 1)]
    assert await essay(repository) == EssayState("e1", at(10), {"spellcheck": fact})
    record = await repository.batch_record("b1")
    assert (record.seen, record.expected, record.total) == (1, None, 1)
    assert record.counts == {"spellcheck": [1, 0]}
    assert (record.first_at, record.last_at) == (at(10), at(10))


async def test_an_empty_chunk_is_nothing(repository: BatchStateRepository) -> None:
    recorded = await repository.record([])
    assert (list(recorded.news), list(recorded.changes)) == ([], [])
    assert await repository.summaries() == []


async def test_the_same_result_again_is_no_news(repository: BatchStateRepository) -> None:
    await repository.record([result()])
    for again in ([result()], [result(), result()]):
        recorded = await repository.record(again)
        assert not any(recorded.news)
        assert list(recorded.changes) == []
    assert await counts(repository) == {"spellcheck": [1, 0]}


async def test_news_are_told_fact_by_fact_within_a_chunk(repository: BatchStateRepository) -> None:
    facts = [result(outcome=FAILED), result(outcome=FAILED), result(seconds=20), result()]
    recorded = await repository.record(facts)
    assert list(recorded.news) == [True, False, True, False]
    assert list(recorded.changes) == [Change(facts[0], PENDING, 1), Change(facts[2], FAILED, 0)]
    assert await counts(repository) == {"spellcheck": [1, 0]}


@pytest.mark.parametrize("one_chunk", [True, False])
@pytest.mark.parametrize("better_first", [True, False])
async def test_a_better_outcome_wins_whenever_it_comes(
    repository: BatchStateRepository, one_chunk: bool, better_first: bool
) -> None:
    facts = [result(seconds=5), result(outcome=FAILED, seconds=50)]
    if not better_first:
        facts.reverse()
    for chunk in [facts] if one_chunk else [facts[:1], facts[1:]]:
        await repository.record(chunk)
    assert await step_of(repository) == result(seconds=5)
    assert await counts(repository) == {"spellcheck": [1, 0]}


async def test_a_failure_counts_until_it_is_overcome(repository: BatchStateRepository) -> None:
    await repository.record([result(outcome=FAILED)])
    assert await counts(repository) == {"spellcheck": [0, 1]}
    await repository.record([result(seconds=1)])
    assert await counts(repository) == {"spellcheck": [1, 0]}


async def test_a_pending_step_is_stored_and_counts_nowhere(
    repository: BatchStateRepository,
) -> None:
    recorded = await repository.record([result(outcome=PENDING)])
    assert list(recorded.news) == [True]
    assert (await step_of(repository)).outcome == PENDING
    assert await counts(repository) == {"spellcheck": [0, 0]}


async def test_of_equal_outcomes_the_newest_content_is_kept(
    repository: BatchStateRepository,
) -> None:
    await repository.record([result(seconds=20, metadata='{"n": 2}')])
    older = await repository.record([result(seconds=10, metadata='{"n": 1}')])
    newer = await repository.record([result(seconds=30, metadata='{"n": 3}')])
    assert (list(older.news), list(newer.news)) == ([False], [True])
    assert newer.changes[0].before == COMPLETED
    assert (await step_of(repository)).metadata == '{"n": 3}'
    assert await counts(repository) == {"spellcheck": [1, 0]}


async def test_a_republication_is_no_news_but_its_event_id_decides_later(
    repository: BatchStateRepository,
) -> None:
    await repository.record([result(event_id="b")])
    recorded = await repository.record([result(event_id="c")])
    assert list(recorded.news) == [False]
    assert list(recorded.changes) == []
    assert (await step_of(repository)).event_id == "c"
    await repository.record([result(event_id="bb", metadata='{"z": 1}')])
    assert (await step_of(repository)).metadata == "{}"


async def test_a_listing_yields_to_a_result_of_its_own(repository: BatchStateRepository) -> None:
    await repository.record([result(seconds=99, detail=0)])
    await repository.record([result(seconds=1, detail=1)])
    assert (await step_of(repository)).time == at(1)


async def test_only_results_of_their_own_stretch_the_span(repository: BatchStateRepository) -> None:
    await repository.record([result(seconds=50), result("e2", seconds=90, detail=0)])
    await repository.record([result("e3", seconds=1, detail=0)])
    record = await repository.batch_record("b1")
    assert (record.first_at, record.last_at) == (at(50), at(50))
    # A result that changes nothing else still happened when it says.
    recorded = await repository.record([result(outcome=FAILED, seconds=70)])
    assert list(recorded.news) == [False]
    assert (await repository.batch_record("b1")).last_at == at(70)


async def test_an_essay_is_as_old_as_the_first_fact_that_names_it(
    repository: BatchStateRepository,
) -> None:
    await repository.record([result(seconds=50)])
    await repository.record([listed("e1", seconds=30)])
    assert (await essay(repository)).created_at == at(30)
    await repository.record([result(outcome=FAILED, seconds=20)])
    await repository.record([RegistrationFact("b1", 1, ("e1",), at(40))])
    assert (await essay(repository)).created_at == at(20)
    assert (await essay(repository)).last_updated == at(50)


async def test_microseconds_and_times_before_1970_survive(repository: BatchStateRepository) -> None:
    odd = [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        at(0.000001),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
    ]
    facts = [
        StepFact("b1", "e1", f"step{number}", COMPLETED, moment, "", 1)
        for number, moment in enumerate(odd)
    ]
    await repository.record(facts)
    steps = (await essay(repository)).steps
    assert [steps[fact.step].time for fact in facts] == odd


# The pseudo essay


async def test_the_pseudo_essay_is_kept_and_never_counted(repository: BatchStateRepository) -> None:
    pseudo = aggregate_essay_id("b1")
    recorded = await repository.record([result(pseudo), result("e1"), listed(pseudo)])
    assert list(recorded.news) == [True, True, False]
    own = Change(result("e1"), PENDING, 1)
    assert list(recorded.changes) == [dated("b1", at(10)), own, dated("b1", at(0))]
    record = await repository.batch_record("b1")
    assert (record.seen, record.counts) == (1, {"spellcheck": [1, 0]})
    assert [state.essay_id for state in await repository.essays("b1")] == ["e1"]
    assert (await essay(repository, pseudo)).steps == {"spellcheck": result(pseudo)}
    columns = await repository.load_batch("b1")
    assert (columns.essay_ids, columns.outcomes) == (["e1"], {"spellcheck": bytearray([COMPLETED])})


async def test_the_pseudo_essay_of_another_batch_is_an_essay(
    repository: BatchStateRepository,
) -> None:
    await repository.record([result(aggregate_essay_id("b2"))])
    assert (await repository.batch_record("b1")).seen == 1


# Results that name no batch


async def test_a_homeless_result_takes_effect_when_its_batch_is_found(
    repository: BatchStateRepository,
) -> None:
    homeless = result(seconds=5, batch_id="")
    recorded = await repository.record([homeless])
    assert (list(recorded.news), list(recorded.changes)) == ([True], [])
    assert await repository.summaries() == []

    tie = listed("e1", "e2", seconds=9)
    recorded = await repository.record([tie])
    assert list(recorded.news) == [True]
    assert list(recorded.changes) == [Change(tie, 0, 2), Change(result(seconds=5), PENDING, 0)]
    record = await repository.batch_record("b1")
    assert record.counts == {"spellcheck": [1, 0]}
    assert (record.first_at, record.last_at) == (at(5), at(9))
    assert (await essay(repository)).created_at == at(5)


async def test_a_homeless_result_takes_effect_where_its_essay_is_known(
    repository: BatchStateRepository,
) -> None:
    await repository.record(
        [listed("e1"), listed("e1", batch_id="b2"), listed("e1", batch_id="b3")]
    )
    recorded = await repository.record([result(batch_id="")])
    assert list(recorded.news) == [True]
    homes = ["b1", "b2", "b3"]
    changes = sorted(recorded.changes, key=lambda change: change.fact.batch_id)
    assert changes == [Change(result(batch_id=home)) for home in homes]
    for home in homes:
        assert await counts(repository, home) == {"spellcheck": [1, 0]}


async def test_a_homeless_result_goes_to_every_further_batch(
    repository: BatchStateRepository,
) -> None:
    await repository.record(
        [result(batch_id=""), result("e1", "nlp"), result("e1", "nlp", batch_id="b2")]
    )
    for home in ("b1", "b2"):
        assert await counts(repository, home) == {"nlp": [1, 0], "spellcheck": [1, 0]}
    registration = RegistrationFact("b3", 1, ("e1",), at(0))
    recorded = await repository.record([registration])
    assert [change.fact.batch_id for change in recorded.changes] == ["b3", "b3"]
    assert await counts(repository, "b3") == {"spellcheck": [1, 0]}


async def test_homeless_news_are_about_the_kept_result_alone(
    repository: BatchStateRepository,
) -> None:
    await repository.record([result()])
    first, again = result(batch_id="", outcome=FAILED), result(batch_id="", event_id="x")
    recorded = await repository.record([first, first, again, result(batch_id="", event_id="y")])
    assert list(recorded.news) == [True, False, True, False]
    # The batch knew as much already.
    assert list(recorded.changes) == []


async def test_a_homeless_result_that_lost_still_dates_its_essay_and_batch(
    repository: BatchStateRepository,
) -> None:
    won, early, late = (
        result(batch_id="", seconds=20),
        result(batch_id="", seconds=5, outcome=FAILED),
        result(batch_id="", seconds=70, outcome=FAILED),
    )
    await repository.record([won, early])
    await repository.record([late])
    await repository.record([result(batch_id="", seconds=1, outcome=FAILED, detail=0)])
    await repository.record([listed("e1", seconds=30)])
    record = await repository.batch_record("b1")
    assert (record.first_at, record.last_at) == (at(5), at(70))
    assert (await essay(repository)).created_at == at(1)


# Facts about batches


async def test_essays_become_known_once(repository: BatchStateRepository) -> None:
    first = await repository.record([listed("e1", "e2", "e1")])
    again = await repository.record([listed("e2", "e1"), listed("e2", "e3")])
    assert [change.new_essays for change in first.changes] == [2]
    assert list(again.news) == [False, True]
    assert [change.new_essays for change in again.changes] == [1]
    record = await repository.batch_record("b1")
    assert (record.seen, record.counts) == (3, {})
    assert set((await repository.load_batch("b1")).essay_ids) == {"e1", "e2", "e3"}


async def test_the_newest_file_name_is_kept(repository: BatchStateRepository) -> None:
    assert (await essay_after(repository, listed("e1", file="b.txt", seconds=5))) == "b.txt"
    assert (await essay_after(repository, listed("e1", file="a.txt", seconds=4))) == "b.txt"
    assert (await essay_after(repository, listed("e1", file="c.txt", seconds=5))) == "c.txt"
    assert (await essay_after(repository, listed("e1", file="", seconds=9))) == "c.txt"
    assert (await essay_after(repository, listed("e1", file="a.txt", seconds=9))) == "a.txt"
    recorded = await repository.record([listed("e1", file="a.txt", seconds=11)])
    assert (list(recorded.news), list(recorded.changes)) == ([False], [dated("b1", at(11))])
    assert (await essay(repository)).file_name_at == at(11)


async def essay_after(repository: BatchStateRepository, fact: EssaysFact) -> str:
    before = [state.file_name for state in await repository.essays("b1", ["e1"])]
    recorded = await repository.record([fact])
    after = (await essay(repository)).file_name
    assert list(recorded.news) == [before != [after]]
    return after


async def test_a_registration_gives_the_denominator(repository: BatchStateRepository) -> None:
    facts = [
        RegistrationFact("b1", 24, ("e1", "e2"), at(0), "teacher-1"),
        RegistrationFact("b1", 20, ("e2",), at(1)),
        RegistrationFact("b1", 24, (), at(2), "teacher-2"),
        RegistrationFact("b1", 24, (), at(1), "teacher-9"),
        RegistrationFact("b1", 25, (), at(0)),
    ]
    recorded = await repository.record(facts)
    assert list(recorded.news) == [True, False, True, False, True]
    assert [change.new_essays for change in recorded.changes] == [2, 0, 0, 0]
    assert recorded.changes[1] == dated("b1", at(1))
    record = await repository.batch_record("b1")
    assert (record.expected, record.seen, record.total) == (25, 2, 25)
    assert (record.owner, record.owner_at) == ("teacher-2", at(2))
    assert (record.first_at, record.last_at) == (at(0), at(2))


async def test_a_registration_for_none_is_known(repository: BatchStateRepository) -> None:
    await repository.record([RegistrationFact("b1", 0, (), at(0))])
    assert (await repository.batch_record("b1")).expected == 0


async def test_milestones_keep_their_earliest_time(repository: BatchStateRepository) -> None:
    started = PhaseFact("b1", "nlp", "started", "run1", at(5))
    ready = BatchFact("b1", "ready", "", "run1", at(7))
    moved = [
        msgspec.structs.replace(started, time=at(6)),
        msgspec.structs.replace(started, time=at(4)),
        msgspec.structs.replace(started, time=None),
        started,
        msgspec.structs.replace(started, run="run2", value="x"),
    ]
    recorded = await repository.record([started, ready])
    assert list(recorded.news) == [True, True]
    assert list(recorded.changes) == [Change(started), Change(ready)]
    assert list((await repository.record(moved)).news) == [False, True, True, False, True]
    record = await repository.batch_record("b1")
    assert sorted(record.milestones.values()) == [
        Milestone("", "ready", "", "run1", at(7)),
        Milestone("nlp", "started", "", "run1", None),
        Milestone("nlp", "started", "x", "run2", at(5)),
    ]
    assert all(identity == mark.identity for identity, mark in record.milestones.items())
    assert (record.first_at, record.last_at, record.seen) == (None, None, 0)


async def test_uploads_are_counted_once_each(repository: BatchStateRepository) -> None:
    facts = [
        BatchFact("b1", status, value, run, at(seconds))
        for status, value, run, seconds in (
            ("provisioned", "f1", "r1", 1),
            ("provisioned", "f2", "r1", 2),
            ("provisioned", "f1", "r2", 0),
            ("rejected", "f1", "r1", 3),
        )
    ]
    recorded = await repository.record(facts)
    assert list(recorded.news) == [True, True, False, True]
    assert [change.fact for change in recorded.changes] == [facts[0], facts[1], facts[3]]
    again = await repository.record(facts)
    assert not any(again.news)
    record = await repository.batch_record("b1")
    assert (record.provisioned, record.rejected) == (2, 1)
    assert (record.milestones, record.first_at) == ({}, None)


# Reading


async def test_batches_come_in_pages_in_the_order_of_their_ids(
    repository: BatchStateRepository,
) -> None:
    names = ["b10", "B", "b2", "\u00e9", "z", "\U0001f600"]
    await repository.record([result(batch_id=name) for name in names])
    ordered = sorted(names)
    assert [record.batch_id for record in await repository.summaries()] == ordered
    assert [record.batch_id for record in await repository.summaries(limit=2)] == ordered[:2]
    page = await repository.summaries(after=ordered[1], limit=3)
    assert [record.batch_id for record in page] == ordered[2:5]
    chosen = await repository.summaries(["z", "nobody", "B", "z"])
    assert [record.batch_id for record in chosen] == ["B", "z"]
    chosen = await repository.summaries(["z", "b2", "B"], after="B", limit=1)
    assert [record.batch_id for record in chosen] == ["b2"]
    assert await repository.summaries([]) == []


async def test_essays_come_in_pages_in_the_order_of_their_ids(
    repository: BatchStateRepository,
) -> None:
    names = ["e10", "E", "e2", "\u00e9"]
    await repository.record([result(name) for name in names])
    ordered = sorted(names)
    assert [state.essay_id for state in await repository.essays("b1")] == ordered
    page = await repository.essays("b1", after=ordered[0], limit=2)
    assert [state.essay_id for state in page] == ordered[1:3]
    chosen = await repository.essays("b1", ["e2", "nobody", "E", "E"])
    assert [state.essay_id for state in chosen] == ["E", "e2"]
    chosen = await repository.essays("b1", ["e2", "E", "e10"], after="E", limit=1)
    assert [state.essay_id for state in chosen] == ["e10"]
    assert await repository.essays("b1", []) == []


async def test_a_batch_loads_as_columns(repository: BatchStateRepository) -> None:
    await repository.record(
        [
            listed("e1", "e2", "e3"),
            result("e1"),
            result("e2", outcome=FAILED),
            result("e3", "nlp"),
            result("e1", batch_id="b2"),
        ]
    )
    record, essay_ids, outcomes = await repository.load_batch("b1")
    assert record == await repository.batch_record("b1")
    table = {step: dict(zip(essay_ids, column, strict=True)) for step, column in outcomes.items()}
    assert table == {
        "spellcheck": {"e1": COMPLETED, "e2": FAILED, "e3": PENDING},
        "nlp": {"e1": PENDING, "e2": PENDING, "e3": COMPLETED},
    }


async def test_what_was_read_is_not_shared(repository: BatchStateRepository) -> None:
    await repository.record([result()])
    [record] = await repository.summaries()
    record.counts["spellcheck"][0] = 99
    record.seen = 99
    columns = await repository.load_batch("b1")
    columns.record.counts.clear()
    columns.outcomes["spellcheck"][0] = PENDING
    assert await counts(repository) == {"spellcheck": [1, 0]}
    assert (await repository.load_batch("b1")).outcomes == {"spellcheck": bytearray([COMPLETED])}


async def test_an_unknown_batch_is_not_found(repository: BatchStateRepository) -> None:
    await repository.record([result()])
    with pytest.raises(NotFound, match="nobody"):
        await repository.load_batch("nobody")
    with pytest.raises(NotFound, match="nobody"):
        await repository.batch_record("nobody")
    with pytest.raises(NotFound, match="nobody"):
        await repository.is_batch_step_complete("nobody", "spellcheck")
    assert await repository.essays("nobody") == []
    assert await repository.essays("nobody", ["e1"]) == []


async def test_large_chunks(repository: BatchStateRepository) -> None:
    essay_ids = tuple(f"e{number:05d}" for number in range(25_000))
    facts: list[Fact] = [RegistrationFact("b1", 25_000, essay_ids, at(0))]
    facts += [result(essay_id) for essay_id in essay_ids[:12_000]]
    recorded = await repository.record(facts)
    assert recorded.changes[0].new_essays == 25_000
    assert not any((await repository.record(facts)).news)
    record = await repository.batch_record("b1")
    assert (record.seen, record.counts) == (25_000, {"spellcheck": [12_000, 0]})
    assert len(await repository.essays("b1", essay_ids, limit=20_000)) == 20_000


async def test_ids_are_never_mixed_up(repository: BatchStateRepository) -> None:
    odd = ["b:", "b", "%", "_", "'; DROP TABLE batches; --", " ", "\x00", "b\x00c", "[]", "NULL"]
    facts = [
        result(essay_id, step, batch_id=batch_id)
        for batch_id in odd
        for essay_id in odd
        for step in odd[:3]
    ]
    await repository.record(facts)
    assert not any((await repository.record(facts)).news)
    for record in await repository.summaries():
        assert record.seen == len(odd)
        assert record.counts == {step: [len(odd), 0] for step in odd[:3]}


# Concurrency


async def test_nothing_is_lost_between_tasks(repository: BatchStateRepository) -> None:
    facts = [result(f"e{number % 5}", f"step{number}", seconds=number) for number in range(50)]
    chances = random.Random(7)
    await asyncio.gather(
        *(repository.record([fact]) for fact in chances.sample(facts * 3, 150)),
        *(repository.summaries() for _ in range(10)),
    )
    record = await repository.batch_record("b1")
    assert record.counts == {fact.step: [1, 0] for fact in facts}
    states = await repository.essays("b1")
    assert sorted(fact.step for state in states for fact in state.steps.values()) == sorted(
        fact.step for fact in facts
    )


# The seed's methods


async def test_the_seeds_methods(repository: BatchStateRepository) -> None:
    record = repository.record_essay_step_completion
    assert await record("b1", "e1", "spellcheck", {"words": 3}) is True
    assert await record("b1", "e1", "spellcheck", {"words": 3}) is True
    assert await record("b1", "e2", "spellcheck", {"completion_status": "failed"}) is True
    assert await record("b1", "e2", "nlp") is True
    assert await repository.get_essay_completed_steps("b1", "e1") == {"spellcheck"}
    assert await repository.get_essay_completed_steps("b1", "e2") == {"nlp"}
    assert await repository.get_batch_completion_summary("b1") == {
        "spellcheck": {"completed": 1, "total": 2},
        "nlp": {"completed": 1, "total": 2},
    }
    assert await repository.is_batch_step_complete("b1", "spellcheck") is False
    await record("b1", "e2", "spellcheck")
    assert await repository.is_batch_step_complete("b1", "spellcheck") is True


async def test_the_seeds_methods_keep_their_shapes_for_the_unknown(
    repository: BatchStateRepository,
) -> None:
    assert await repository.get_essay_completed_steps("nobody", "e1") == set()
    assert await repository.get_batch_completion_summary("nobody") == {}
    assert await repository.get_completed_phases("nobody") == set()


async def test_the_last_call_about_a_phase_wins(
    open_repository: OpenRepository, tmp_path: Path
) -> None:
    clock = ManualClock(START)
    repository = await open_repository(tmp_path, clock)
    for completed, phases in ((True, {"nlp"}), (False, set()), (True, {"nlp"})):
        clock.advance(1)
        assert await repository.record_batch_phase_completion("b1", "nlp", completed) is True
        assert await repository.get_completed_phases("b1") == phases
    await repository.aclose()


# Dead letters


def letter(position: int, *, reason: str = "json", sha256: str = "aa") -> DeadLetter:
    payload = b"\xff\x00{" + str(position).encode()
    return DeadLetter(
        at(position), "feed.jsonl", str(position), reason, "no \u00e9", "data", payload, sha256, 9
    )


async def test_dead_letters_come_back_in_the_order_of_their_arrival(
    repository: BatchStateRepository,
) -> None:
    letters = [letter(position) for position in (5, 3, 9, 1)]
    await repository.record_dead_letters(letters[:3])
    await repository.record_dead_letters(letters[3:])
    await repository.record_dead_letters([])
    assert await repository.dead_letters() == letters
    assert await repository.dead_letters(after=1, limit=2) == letters[1:3]
    assert await repository.dead_letters(after=4) == []
    assert await repository.count_dead_letters() == 4


async def test_a_dead_letter_is_kept_once_by_its_place_and_bytes(
    repository: BatchStateRepository,
) -> None:
    first, other = letter(1), letter(1, sha256="bb")
    await repository.record_dead_letters([first, first])
    await repository.record_dead_letters([letter(1, reason="depth"), other])
    assert await repository.dead_letters() == [first, other]


async def test_uploads_are_listed_once_each(repository: BatchStateRepository) -> None:
    marks = [("provisioned", "u2"), ("rejected", "u1"), ("provisioned", "u1"), ("rejected", "u1")]
    await repository.record([BatchFact("b1", status, value, "", at(1)) for status, value in marks])
    listed_uploads = [("provisioned", "u1"), ("provisioned", "u2"), ("rejected", "u1")]
    assert await repository.uploads("b1") == listed_uploads
    assert await repository.uploads("nobody") == []


async def test_nothing_waits_where_there_is_one_record(repository: BatchStateRepository) -> None:
    await repository.record([result()])
    await repository.settled()
    assert not repository.is_provisional

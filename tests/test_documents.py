from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from engine import BatchCompletionSummary, EssayProcessingState, StepCompletionSummary
from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.models import (
    BatchFact,
    EssaysFact,
    Fact,
    Outcome,
    PhaseFact,
    RegistrationFact,
    StepFact,
)
from engine.pipelines import phases_of
from engine.summaries import summarize

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
BATCH = "b1"


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def result(essay: str, step: str, outcome: Outcome, metadata: str = "{}") -> StepFact:
    return StepFact(BATCH, essay, step, outcome, at(3), "event", 2, metadata)


FACTS: Sequence[Fact] = (
    RegistrationFact(BATCH, 4, ("e1", "e2"), at(0), "teacher"),
    BatchFact(BATCH, "requested", "nlp", "run", at(1)),
    PhaseFact(BATCH, "spellcheck", "started", "run", at(2)),
    result("e2", "nlp", Outcome.COMPLETED),
    result("e1", "spellcheck", Outcome.FAILED, '{"error": "no text"}'),
    result("e2", "spellcheck", Outcome.COMPLETED, '{"n": 123456789012345678901234567890}'),
    EssaysFact(BATCH, ("e3",), at(3)),
    PhaseFact(BATCH, "spellcheck", "completed_with_failures", "run", at(4)),
)


async def published(
    facts: Sequence[Fact],
) -> tuple[BatchCompletionSummary, dict[str, EssayProcessingState]]:
    repository = MockBatchStateRepository(ManualClock(NOON))
    await repository.record(facts)
    summary = summarize(await repository.batch_record(BATCH), phases_of())
    essays = await repository.essays(BATCH)
    return (
        BatchCompletionSummary.from_summary(summary, at(5)),
        {essay.essay_id: EssayProcessingState.from_state(summary, essay) for essay in essays},
    )


async def test_a_batch_is_published_with_the_promised_members() -> None:
    batch, _ = await published(FACTS)
    spellcheck = {
        "step_name": "spellcheck",
        "completed_count": 1,
        "failed_count": 1,
        "skipped_count": 2,
        "pending_count": 0,
        "total_count": 4,
        "completion_percentage": 25.0,
        "phase_status": "completed_with_failures",
    }
    nlp = spellcheck | {
        "step_name": "nlp",
        "failed_count": 0,
        "skipped_count": 0,
        "pending_count": 3,
        "phase_status": None,
    }
    assert json.loads(batch.model_dump_json()) == {
        "batch_id": "b1",
        "status": "processing",
        "pipeline": "nlp",
        "total_essays": 4,
        "expected_essays": 4,
        "seen_essays": 3,
        "step_summaries": {"spellcheck": spellcheck, "nlp": nlp},
        "started_at": "2026-02-03T12:01:00Z",
        "last_event_at": "2026-02-03T12:04:00Z",
        "generated_at": "2026-02-03T12:05:00Z",
        "cache_ttl_seconds": 3600,
        "owner": "teacher",
        "reason": None,
    }
    assert list(batch.step_summaries) == ["spellcheck", "nlp"]


async def test_what_is_not_known_of_a_batch_is_null() -> None:
    batch, _ = await published([EssaysFact(BATCH, ("e1",), at(0))])
    document = batch.model_dump()
    unknown = ("pipeline", "expected_essays", "started_at", "owner", "reason")
    assert [name for name in unknown if document[name] is not None] == ["started_at"]
    assert document["total_essays"] == 1


async def test_an_essay_has_every_step_of_its_batch() -> None:
    _, essays = await published(FACTS)
    failed, done, silent = essays["e1"], essays["e2"], essays["e3"]
    assert failed.step_status == {"spellcheck": "failed", "nlp": "pending"}
    assert failed.completed_steps == []
    assert failed.step_metadata == {"spellcheck": {"error": "no text"}}
    assert done.step_status == {"spellcheck": "completed", "nlp": "completed"}
    assert silent.step_status == {"spellcheck": "skipped", "nlp": "pending"}
    assert silent.step_metadata == {}


async def test_completed_steps_stand_in_the_order_of_the_pipeline() -> None:
    _, essays = await published(FACTS)
    assert essays["e2"].completed_steps == ["spellcheck", "nlp"]
    assert list(essays["e2"].step_metadata) == ["spellcheck", "nlp"]


async def test_a_step_that_only_the_essay_knows_is_not_lost() -> None:
    repository = MockBatchStateRepository(ManualClock(NOON))
    await repository.record([EssaysFact(BATCH, ("e1",), at(0))])
    before = summarize(await repository.batch_record(BATCH), phases_of())
    await repository.record([result("e1", "nlp", Outcome.COMPLETED)])
    (essay,) = await repository.essays(BATCH)
    assert EssayProcessingState.from_state(before, essay).completed_steps == ["nlp"]


async def test_metadata_keeps_its_numbers_exactly() -> None:
    text = '{"big": 123456789012345678901234567890, "zero": -0.0, "one": 1.0, "tiny": 5e-324}'
    _, essays = await published([result("e1", "nlp", Outcome.COMPLETED, text)])
    printed = json.loads(essays["e1"].model_dump_json())["step_metadata"]["nlp"]
    assert json.dumps(printed) == text


async def test_numbers_that_json_lacks_are_strings() -> None:
    text = '{"a": NaN, "b": -Infinity}'
    _, essays = await published([result("e1", "nlp", Outcome.COMPLETED, text)])
    printed = json.loads(essays["e1"].model_dump_json())["step_metadata"]["nlp"]
    assert printed == {"a": "NaN", "b": "-Infinity"}


async def test_documents_can_be_read_back() -> None:
    batch, essays = await published(FACTS)
    assert BatchCompletionSummary.model_validate_json(batch.model_dump_json()) == batch
    for essay in essays.values():
        assert EssayProcessingState.model_validate_json(essay.model_dump_json()) == essay


def test_the_seeds_fields_are_enough() -> None:
    step = StepCompletionSummary(
        step_name="nlp", completed_count=1, total_count=2, completion_percentage=50.0
    )
    assert step.phase_status is None
    essay = EssayProcessingState(essay_id="e", batch_id="b", created_at=NOON, last_updated=NOON)
    assert essay.completed_steps == []


def test_times_are_written_in_utc_and_naive_ones_are_refused() -> None:
    local = datetime(2026, 2, 3, 14, 0, 0, 250_000, timezone(timedelta(hours=2)))
    essay = EssayProcessingState(essay_id="e", batch_id="b", created_at=local, last_updated=NOON)
    assert json.loads(essay.model_dump_json())["created_at"] == "2026-02-03T12:00:00.250000Z"
    with pytest.raises(ValidationError):
        EssayProcessingState(
            essay_id="e",
            batch_id="b",
            created_at=local.replace(tzinfo=None),
            last_updated=NOON,
        )


@pytest.mark.parametrize("percentage", [-0.1, 100.1])
def test_percentages_have_bounds(percentage: float) -> None:
    with pytest.raises(ValidationError):
        StepCompletionSummary(
            step_name="nlp", completed_count=1, total_count=2, completion_percentage=percentage
        )

"""What single essays have to say: results of steps, one by one or in a batch's lists."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from engine.bounds import (
    MAX_METADATA_BYTES,
    Refused,
    accepted,
    bounded_object,
    identifier,
    identifiers,
)
from engine.models import (
    COMPLETED,
    FAILED,
    LISTED,
    PENDING,
    RICH,
    SUCCESSFUL,
    THIN,
    WITH_FAILURES,
    EssaysFact,
    Fact,
    PhaseFact,
    StepFact,
)
from engine.shapes import (
    AiFeedback,
    Assessment,
    CjCompleted,
    CjFailed,
    EssayUpdate,
    Lists,
    NlpBatch,
    NlpEssay,
    SpellcheckRich,
    SpellcheckThin,
    System,
)


class Context(Protocol):
    """What a payload's facts take from the envelope around it; `run` is the correlation id."""

    event_id: str
    run: str
    time: datetime


FINAL_STATUSES: Final = frozenset({SUCCESSFUL, WITH_FAILURES, "failed_critically", "cancelled"})
_UNDER_WAY: Final = frozenset(
    {
        "awaiting_content_validation",
        "content_ingestion_failed",
        "awaiting_pipeline_configuration",
        "ready_for_pipeline_execution",
        "processing_pipelines",
        "awaiting_student_validation",
        "student_validation_completed",
        "validation_timeout_processed",
    }
)
_PROCESSING: Final = {
    "pending": PENDING,
    "in_progress": PENDING,
    "completed": COMPLETED,
    "failed": FAILED,
}
_ESSAY_STATUS: Final[dict[str, tuple[str, int] | None]] = {
    **dict.fromkeys(
        (
            "uploaded",
            "text_extracted",
            "content_ingesting",
            "content_ingestion_failed",
            "ready_for_processing",
            "all_processing_completed",
            "essay_critical_failure",
        )
    ),
    "awaiting_spellcheck": ("spellcheck", PENDING),
    "spellchecking_in_progress": ("spellcheck", PENDING),
    "spellchecked_success": ("spellcheck", COMPLETED),
    "spellcheck_failed": ("spellcheck", FAILED),
    "awaiting_editor_revision": ("editor_revision", PENDING),
    **{
        f"{step}{ending}": (step, outcome)
        for step in ("nlp", "ai_feedback", "editor_revision", "grammar_check", "cj_assessment")
        for ending, outcome in (
            ("_processing_in_progress", PENDING),
            ("_success", COMPLETED),
            ("_failed", FAILED),
        )
    },
    **{
        f"awaiting_{step}": (step, PENDING)
        for step in ("nlp", "ai_feedback", "grammar_check", "cj_assessment")
    },
}


def _unknown_status(status: str, field: str) -> Refused:
    return Refused("status", f"unknown status {status[:40]!r}", field)


def batch_status(status: str, field: str) -> str:
    """Return a status of a batch if it is one.

    Raises:
        Refused: No service has such a status.
    """
    if status not in FINAL_STATUSES and status not in _UNDER_WAY:
        raise _unknown_status(status, field)
    return status


def _essay_status(status: str) -> tuple[str, int] | None:
    try:
        return _ESSAY_STATUS[status]
    except KeyError:
        raise _unknown_status(status, "data.status") from None


_encode = msgspec.json.Encoder().encode
_WORDS: Final = ("pending", "failed", "success")


class _Notes(msgspec.Struct, gc=False, omit_defaults=True):
    """Step metadata as it is stored: JSON text; members that say nothing are left out."""

    completion_status: str
    timestamp: datetime
    status: str = ""
    processing_duration_ms: int | None = None
    processing_time_seconds: float | None = None
    corrections_made: int | None = None
    word_count: int | None = None
    sentence_count: int | None = None
    grammar_errors: int | None = None
    language: str = ""
    processor_version: str = ""
    model_version: str = ""
    feedback_type: str = ""
    cj_job_id: str = ""
    rank: int | None = None
    letter_grade: str = ""
    normalized_score: float | None = None
    confidence: str = ""
    metrics: dict[str, Any] | None = None
    error_code: str | None = None
    error: dict[str, Any] | None = None


class _ThinNotes(msgspec.Struct, gc=False, omit_defaults=True):
    """The same of the most frequent event of all, without the many members it never has."""

    completion_status: str
    timestamp: datetime
    processing_duration_ms: int
    error_code: str | None = None


def dispatch_spellcheck(data: EssayUpdate, context: Context) -> tuple[Fact, ...]:
    """Return that a step of an essay was asked for."""
    essay_id = identifier(data.entity_id, "data.entity_id")
    batch_id = _parent(data.parent_id)
    return (StepFact(batch_id, essay_id, "spellcheck", 0, context.time, context.event_id),)


def _parent(batch_id: str | None) -> str:
    """Return the batch an essay's event names, or nothing."""
    return accepted(batch_id) or identifier(batch_id, "data.parent_id") if batch_id else ""


def spellcheck_thin(data: SpellcheckThin, context: Context) -> tuple[Fact, ...]:
    """Return the result that the spellchecker tells the conductor."""
    outcome = _PROCESSING.get(data.status)
    if outcome is None:
        raise _unknown_status(data.status, "data.status")
    notes = _ThinNotes(_WORDS[outcome], context.time, data.processing_duration_ms, data.error_code)
    batch_id = accepted(data.batch_id) or identifier(data.batch_id, "data.batch_id")
    return _result(batch_id, data.entity_id, "spellcheck", outcome, context, THIN, notes)


def _result(
    batch_id: str,
    essay_id: str,
    step: str,
    outcome: int,
    context: Context,
    detail: int,
    notes: _Notes | _ThinNotes,
) -> tuple[Fact, ...]:
    metadata = _encode(notes)
    if len(metadata) > MAX_METADATA_BYTES:
        raise Refused("metadata", f"more than {MAX_METADATA_BYTES} bytes", "data")
    essay_id = accepted(essay_id) or identifier(essay_id, "data.entity_id")
    time, event_id = context.time, context.event_id
    return (StepFact(batch_id, essay_id, step, outcome, time, event_id, detail, metadata.decode()),)


def spellcheck_rich(data: SpellcheckRich, context: Context) -> tuple[Fact, ...]:
    """Return the result that the spellchecker tells the aggregator."""
    step, outcome = _step_of(data.status, "spellcheck")
    notes = _Notes(
        _WORDS[outcome],
        context.time,
        processing_duration_ms=data.processing_duration_ms,
        corrections_made=data.corrections_made,
        word_count=data.correction_metrics.word_count,
        processor_version=data.processor_version,
        error=_error_of(data.system_metadata),
    )
    batch_id = identifier(data.batch_id, "data.batch_id")
    return _result(batch_id, data.entity_id, step, outcome, context, RICH, notes)


def _step_of(status: str, expected: str) -> tuple[str, int]:
    """Return what an essay status says about the step that its event is about."""
    step = _essay_status(status)
    if step is None or step[0] != expected:
        raise _unknown_status(status, "data.status")
    return step


def _error_of(system: System) -> dict[str, Any] | None:
    if not system.error_info:
        return None
    return bounded_object(system.error_info, "data.system_metadata.error_info")


def essay_update(data: EssayUpdate, context: Context) -> tuple[Fact, ...]:
    """Return what the status of an essay says of one of its steps."""
    step = _essay_status(data.status)
    batch_id = _parent(data.parent_id)
    if step is None:
        essay_id = identifier(data.entity_id, "data.entity_id")
        return (EssaysFact(batch_id, (essay_id,), context.time),) if batch_id else ()
    name, outcome = step
    error = _error_of(data.system_metadata)
    notes = _Notes(_WORDS[outcome], context.time, status=data.status, error=error)
    return _result(batch_id, data.entity_id, name, outcome, context, THIN, notes)


def nlp_essay(data: NlpEssay, context: Context) -> tuple[Fact, ...]:
    """Return the result of one essay whose batch is not named."""
    metrics = data.nlp_metrics
    outcome = COMPLETED
    notes = _Notes(
        _WORDS[outcome],
        context.time,
        processing_duration_ms=metrics.processing_time_ms,
        word_count=metrics.word_count,
        sentence_count=metrics.sentence_count,
        language=metrics.language_detected,
        grammar_errors=data.grammar_analysis.error_count,
    )
    return _result(_parent(data.parent_id), data.essay_id, "nlp", outcome, context, RICH, notes)


def ai_feedback(data: AiFeedback, context: Context) -> tuple[Fact, ...]:
    """Return the result of one essay."""
    step, outcome = _step_of(data.status, "ai_feedback")
    details = data.feedback_details
    notes = _Notes(
        _WORDS[outcome],
        context.time,
        processing_time_seconds=details.processing_time_seconds,
        model_version=details.model_version,
        feedback_type=details.feedback_type,
        metrics=bounded_object(data.additional_metrics, "data.additional_metrics"),
        error=_error_of(data.system_metadata),
    )
    return _result(_parent(data.parent_id), data.entity_id, step, outcome, context, RICH, notes)


def listed(batch_id: str, step: str, lists: Lists, context: Context, job: str = "") -> list[Fact]:
    """Return a result for every essay of a batch's lists of successes and failures.

    With the job that gave the results they count as results of the essays' own.
    """
    facts: list[Fact] = []
    for outcome, essay_ids, field in (
        (COMPLETED, lists.successful_essay_ids, "successful_essay_ids"),
        (FAILED, lists.failed_essay_ids, "failed_essay_ids"),
    ):
        notes = _Notes(_WORDS[outcome], context.time, cj_job_id=job)
        metadata = _encode(notes).decode() if job else "{}"
        detail = THIN if job else LISTED
        facts += [
            StepFact(
                batch_id, essay_id, step, outcome, context.time, context.event_id, detail, metadata
            )
            for essay_id in identifiers(essay_ids, f"data.processing_summary.{field}")
        ]
    return facts


def nlp_batch(data: NlpBatch, context: Context) -> tuple[Fact, ...]:
    """Return the results of a whole batch: the only place where failures stand."""
    batch_id = identifier(data.batch_id, "data.batch_id")
    status = batch_status(data.status, "data.status")
    report = PhaseFact(batch_id, "nlp", "reported", context.run, context.time, status)
    return (report, *listed(batch_id, "nlp", data.processing_summary, context))


def cj_completed(data: CjCompleted, context: Context) -> tuple[Fact, ...]:
    """Return the results of a whole batch."""
    batch_id = identifier(data.entity_id, "data.entity_id")
    status = batch_status(data.status, "data.status")
    report = PhaseFact(batch_id, "cj_assessment", "reported", context.run, context.time, status)
    job = data.cj_assessment_job_id[:100]
    return (report, *listed(batch_id, "cj_assessment", data.processing_summary, context, job))


def cj_failed(data: CjFailed, context: Context) -> tuple[Fact, ...]:
    """Return that a phase came to nothing."""
    batch_id = identifier(data.entity_id, "data.entity_id")
    error = _error_of(data.system_metadata) or {}
    message = str(error.get("error_message") or error.get("error_code") or "")[:500]
    status = "failed_critically"
    return (PhaseFact(batch_id, "cj_assessment", status, context.run, context.time, message),)


def assessment(data: Assessment, context: Context) -> tuple[Fact, ...]:
    """Return the grades of a batch; anchors are no essays of it."""
    batch_id = identifier(data.batch_id, "data.batch_id")
    outcome = COMPLETED
    facts: list[Fact] = []
    for result in data.essay_results:
        if result.is_anchor:
            continue
        notes = _Notes(
            _WORDS[outcome],
            context.time,
            cj_job_id=data.cj_assessment_job_id[:100],
            rank=result.rank,
            letter_grade=result.letter_grade,
            normalized_score=result.normalized_score,
            confidence=result.confidence_label,
            model_version=data.model_used,
        )
        facts += _result(batch_id, result.essay_id, "cj_assessment", outcome, context, RICH, notes)
    return tuple(facts)

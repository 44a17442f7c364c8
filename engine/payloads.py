"""What the payload of each event type says: its shape, its own time, its facts.

Shapes hold only the members that matter; services send more (wire.md section 3.3).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from engine.models import (
    COMPLETED,
    FAILED,
    PENDING,
    SUCCESSFUL,
    WITH_FAILURES,
    BatchFact,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
)

MAX_ID_LENGTH: Final = 128
MAX_ESSAYS: Final = 10_000_000
MAX_METADATA_BYTES: Final = 64 * 1024
MAX_METADATA_NODES: Final = 2000
MAX_METADATA_DEPTH: Final = 16
MAX_INTEGER: Final = 2**63 - 1
"""The largest integer that every store keeps exactly."""


class Refused(Exception):
    """An envelope cannot be used: a reason code, a message for a person, the field."""

    def __init__(self, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field


class Context(msgspec.Struct, frozen=True, gc=False):
    """What a payload's facts take from around it; `run` is the correlation id."""

    event_id: str
    run: str
    time: datetime


class Payload(NamedTuple):
    """How one type of payload is decoded and understood."""

    shape: Any
    facts_of: Callable[[Any, Context], tuple[Fact, ...]]
    time_of: Callable[[Any], datetime | None]


# --- identifiers -----------------------------------------------------------------------------

_accepted: dict[str, str] = {}
_MOST_ACCEPTED: Final = 200_000
_FORBIDDEN: Final = frozenset("*?[]\\{}")


def identifier(text: str, field: str) -> str:
    """Return an id that is safe as part of a key; the same object for the same id.

    Raises:
        Refused: The id is empty, too long, or has characters that keys cannot bear.
    """
    known = _accepted.get(text)
    if known is not None:
        return known
    if not 0 < len(text) <= MAX_ID_LENGTH:
        raise Refused("length", f"{len(text)} characters; 1 to {MAX_ID_LENGTH} are allowed", field)
    if ":" in text:
        raise Refused("id_has_separator", "an id must not contain ':'", field)
    unsafe = not text.isprintable() or text != text.strip() or not _FORBIDDEN.isdisjoint(text)
    if unsafe or not unicodedata.is_normalized("NFC", text):
        raise Refused("identifier", "an id has characters that ids must not have", field)
    if len(_accepted) >= _MOST_ACCEPTED:
        _accepted.clear()
    _accepted[text] = text
    return text


def _identifiers(texts: Sequence[str], field: str) -> tuple[str, ...]:
    """Return ids in their order, each once; usually all of them are known already."""
    known = tuple([_accepted.get(text) or identifier(text, field) for text in texts])
    return known if len(set(known)) == len(known) else tuple(dict.fromkeys(known))


# --- shapes ----------------------------------------------------------------------------------


class _Shape(msgspec.Struct, gc=False):
    """Base of all shapes: plain records that the garbage collector need not visit."""


_Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class _System(_Shape):
    timestamp: datetime | None = None
    error_info: dict[str, Any] | None = None


class _Ref(_Shape):
    essay_id: str


class _Registered(_Shape):
    entity_id: str
    expected_essay_count: _Integer
    essay_ids: list[str]
    metadata: _System
    user_id: str = ""


class _Provisioned(_Shape):
    entity_id: str
    file_upload_id: str
    timestamp: datetime | None = None


class _Slot(_Shape):
    batch_id: str
    essay_id: str
    original_file_name: str = ""
    timestamp: datetime | None = None


class _Excess(_Shape):
    batch_id: str
    text_storage_id: str
    timestamp: datetime | None = None


class _ContentComplete(_Shape):
    batch_id: str
    essays_for_processing: list[_Ref] = []
    timestamp: datetime | None = None


class _ErrorSummary(_Shape):
    critical_failure: bool = False


class _ValidationErrors(_Shape):
    batch_id: str
    failed_essays: list[_Ref]
    error_summary: _ErrorSummary
    metadata: _System


class _Ready(_Shape):
    batch_id: str
    ready_essays: list[_Ref]
    metadata: _System


class _Requested(_Shape):
    batch_id: str
    requested_pipeline: str


class _Denied(_Shape):
    batch_id: str
    requested_pipeline: str
    denial_reason: str
    timestamp: datetime | None = None


class _Skipped(_Shape):
    batch_id: str
    phase_name: str
    metadata: _System
    skip_reason: str = "already_completed"


class _Start(_Shape):
    entity_id: str
    essays_to_process: list[_Ref]
    timestamp: datetime | None = None


class _CjDispatch(_Shape):
    entity_id: str
    essays_for_cj: list[_Ref]
    timestamp: datetime | None = None


class _Matches(_Shape):
    batch_id: str
    match_results: list[_Ref] = []
    associations: list[_Ref] = []
    timestamp: datetime | None = None


class _SpellcheckThin(_Shape):
    entity_id: str
    batch_id: str
    status: str
    processing_duration_ms: _Integer
    timestamp: datetime
    error_code: str | None = None
    corrected_text_storage_id: str | None = None


class _Corrections(_Shape):
    word_count: _Integer = 0
    correction_density: float = 0.0


class _SpellcheckRich(_Shape):
    entity_id: str
    batch_id: str
    status: str
    system_metadata: _System
    corrections_made: _Integer
    processing_duration_ms: _Integer
    correction_metrics: _Corrections
    processor_version: str = ""
    timestamp: datetime | None = None


class _EssayUpdate(_Shape):
    entity_id: str
    status: str
    system_metadata: _System
    parent_id: str | None = None
    timestamp: datetime | None = None


class _NlpMetrics(_Shape):
    word_count: _Integer
    sentence_count: _Integer
    language_detected: str
    processing_time_ms: _Integer = 0


class _Grammar(_Shape):
    error_count: _Integer


class _NlpEssay(_Shape):
    essay_id: str
    nlp_metrics: _NlpMetrics
    grammar_analysis: _Grammar
    parent_id: str | None = None
    timestamp: datetime | None = None


class _Feedback(_Shape):
    model_version: str
    feedback_type: str
    processing_time_seconds: float | None = None


class _AiFeedback(_EssayUpdate, kw_only=True):
    feedback_details: _Feedback
    additional_metrics: dict[str, Any] | None = None


class _Lists(_Shape):
    successful_essay_ids: list[str]
    failed_essay_ids: list[str]


class _NlpBatch(_Shape):
    batch_id: str
    status: str
    processing_summary: _Lists
    timestamp: datetime | None = None


class _CjCompleted(_Shape):
    entity_id: str
    status: str
    cj_assessment_job_id: str
    processing_summary: _Lists
    timestamp: datetime | None = None


class _CjFailed(_Shape):
    entity_id: str
    cj_assessment_job_id: str
    system_metadata: _System
    timestamp: datetime | None = None


class _CjResult(_Shape):
    essay_id: str
    rank: _Integer
    letter_grade: str
    normalized_score: float
    confidence_label: str = ""
    is_anchor: bool = False


class _Assessment(_Shape):
    batch_id: str
    cj_assessment_job_id: str
    essay_results: list[_CjResult]
    model_used: str = ""
    timestamp: datetime | None = None


class _PhaseOutcome(_Shape):
    batch_id: str
    phase_name: str
    phase_status: str
    processed_essays: list[_Ref]
    failed_essay_ids: list[str]


class _PipelineCompleted(_Shape):
    batch_id: str
    final_status: str
    metadata: _System


class _Results(_Shape):
    batch_id: str
    overall_status: str
    timestamp: datetime | None = None


# --- statuses --------------------------------------------------------------------------------

_FINAL: Final = frozenset({SUCCESSFUL, WITH_FAILURES, "failed_critically", "cancelled"})
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


def _batch_status(status: str, field: str) -> str:
    if status not in _FINAL and status not in _UNDER_WAY:
        raise _unknown_status(status, field)
    return status


def _essay_status(status: str) -> tuple[str, int] | None:
    try:
        return _ESSAY_STATUS[status]
    except KeyError:
        raise _unknown_status(status, "data.status") from None


# --- metadata --------------------------------------------------------------------------------

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


def bounded_object(value: dict[str, Any] | None, field: str) -> dict[str, Any] | None:
    """Return an open-ended object if its size is bounded, `None` for none or an empty one.

    Raises:
        Refused: It has more values or levels than any real one, or a number that not every
            store can keep.
    """
    if not value:
        return None
    nodes = 0
    level: list[Any] = [value]
    for _ in range(MAX_METADATA_DEPTH):
        below: list[Any] = []
        for node in level:
            inner = node.values() if type(node) is dict else node
            nodes += len(inner)
            kinds = set(map(type, inner))
            if int in kinds and not all(map(_fits, inner)):
                raise Refused("number", "an integer of more than 64 bits", field)
            if dict in kinds or list in kinds:
                below += [deeper for deeper in inner if type(deeper) in (dict, list)]
        if not below and nodes <= MAX_METADATA_NODES:
            return value
        level = below
    raise Refused("metadata", "too many values, or nested too deeply", field)


def _fits(value: Any) -> bool:
    return type(value) is not int or -MAX_INTEGER <= value <= MAX_INTEGER


# --- facts -----------------------------------------------------------------------------------


def _essays(refs: Iterable[_Ref], field: str) -> tuple[str, ...]:
    return _identifiers([ref.essay_id for ref in refs], field)


def _registered(data: _Registered, context: Context) -> tuple[Fact, ...]:
    if not 0 <= data.expected_essay_count <= MAX_ESSAYS:
        raise Refused("range", f"0 to {MAX_ESSAYS} essays", "data.expected_essay_count")
    batch_id = identifier(data.entity_id, "data.entity_id")
    essay_ids = _identifiers(data.essay_ids, "data.essay_ids")
    count = data.expected_essay_count
    return (RegistrationFact(batch_id, count, essay_ids, context.time, data.user_id[:200]),)


def _upload(status: str) -> Callable[[_Provisioned, Context], tuple[Fact, ...]]:
    def facts(data: _Provisioned, context: Context) -> tuple[Fact, ...]:
        batch_id = identifier(data.entity_id, "data.entity_id")
        upload_id = identifier(data.file_upload_id, "data.file_upload_id")
        return (BatchFact(batch_id, status, upload_id, "", context.time),)

    return facts


def _slot(data: _Slot, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    essay_id = identifier(data.essay_id, "data.essay_id")
    return (EssaysFact(batch_id, (essay_id,), context.time, data.original_file_name[:1000]),)


def _excess(data: _Excess, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    storage_id = identifier(data.text_storage_id, "data.text_storage_id")
    return (BatchFact(batch_id, "excess", storage_id, "", context.time),)


def _about_batch(
    batch_id: str, status: str, value: str, refs: Iterable[_Ref], field: str, context: Context
) -> tuple[Fact, ...]:
    """Return a fact about a batch, and the essays that the event names with it."""
    batch_id = identifier(batch_id, "data.batch_id")
    fact = BatchFact(batch_id, status, value, context.run, context.time)
    essay_ids = _essays(refs, f"data.{field}")
    return (fact, EssaysFact(batch_id, essay_ids, context.time)) if essay_ids else (fact,)


def _content_complete(data: _ContentComplete, context: Context) -> tuple[Fact, ...]:
    refs = data.essays_for_processing
    return _about_batch(
        data.batch_id, "content_complete", "", refs, "essays_for_processing", context
    )


def _validation_errors(data: _ValidationErrors, context: Context) -> tuple[Fact, ...]:
    status = "content_failed" if data.error_summary.critical_failure else "content_errors"
    return _about_batch(data.batch_id, status, "", data.failed_essays, "failed_essays", context)


def _ready(data: _Ready, context: Context) -> tuple[Fact, ...]:
    return _about_batch(data.batch_id, "ready", "", data.ready_essays, "ready_essays", context)


def _matches(word: str) -> Callable[[_Matches, Context], tuple[Fact, ...]]:
    def facts(data: _Matches, context: Context) -> tuple[Fact, ...]:
        refs = data.match_results or data.associations
        return _about_batch(data.batch_id, "matching", word, refs, "match_results", context)

    return facts


def _matching_start(word: str) -> Callable[[_Start, Context], tuple[Fact, ...]]:
    def facts(data: _Start, context: Context) -> tuple[Fact, ...]:
        refs = data.essays_to_process
        return _about_batch(data.entity_id, "matching", word, refs, "essays_to_process", context)

    return facts


def _requested(data: _Requested, context: Context) -> tuple[Fact, ...]:
    pipeline = identifier(data.requested_pipeline.strip(), "data.requested_pipeline")
    return _about_batch(data.batch_id.strip(), "requested", pipeline, (), "", context)


def _denied(data: _Denied, context: Context) -> tuple[Fact, ...]:
    return _about_batch(data.batch_id, "denied", data.denial_reason[:200], (), "", context)


def _skipped(data: _Skipped, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    phase = identifier(data.phase_name, "data.phase_name")
    reason = data.skip_reason[:200]
    return (PhaseFact(batch_id, phase, "skipped", context.run, context.time, reason),)


def _start(phase: str) -> Callable[[_Start, Context], tuple[Fact, ...]]:
    def facts(data: _Start, context: Context) -> tuple[Fact, ...]:
        return _started(data.entity_id, phase, "", data.essays_to_process, context)

    return facts


def _dispatch_nlp(data: _Start, context: Context) -> tuple[Fact, ...]:
    return _started(data.entity_id, "nlp", "dispatched", data.essays_to_process, context)


def _dispatch_cj(data: _CjDispatch, context: Context) -> tuple[Fact, ...]:
    return _started(data.entity_id, "cj_assessment", "dispatched", data.essays_for_cj, context)


def _started(
    batch_id: str, phase: str, value: str, refs: Iterable[_Ref], context: Context
) -> tuple[Fact, ...]:
    batch_id = identifier(batch_id, "data.entity_id")
    fact = PhaseFact(batch_id, phase, "started", context.run, context.time, value)
    essay_ids = _essays(refs, "data.essays_to_process")
    return (fact, EssaysFact(batch_id, essay_ids, context.time)) if essay_ids else (fact,)


def _dispatch_spellcheck(data: _EssayUpdate, context: Context) -> tuple[Fact, ...]:
    essay_id = identifier(data.entity_id, "data.entity_id")
    batch_id = _parent(data.parent_id)
    return (StepFact(batch_id, essay_id, "spellcheck", 0, context.time, context.event_id),)


def _parent(batch_id: str | None) -> str:
    """Return the batch an essay's event names, or nothing."""
    return identifier(batch_id, "data.parent_id") if batch_id else ""


def _spellcheck_thin(data: _SpellcheckThin, context: Context) -> tuple[Fact, ...]:
    outcome = _PROCESSING.get(data.status)
    if outcome is None:
        raise _unknown_status(data.status, "data.status")
    notes = _Notes(
        _WORDS[outcome],
        context.time,
        processing_duration_ms=data.processing_duration_ms,
        error_code=data.error_code,
    )
    batch_id = identifier(data.batch_id, "data.batch_id")
    return _result(batch_id, data.entity_id, "spellcheck", outcome, context, 1, notes)


def _result(
    batch_id: str,
    essay_id: str,
    step: str,
    outcome: int,
    context: Context,
    detail: int,
    notes: _Notes,
) -> tuple[Fact, ...]:
    metadata = _encode(notes)
    if len(metadata) > MAX_METADATA_BYTES:
        raise Refused("metadata", f"more than {MAX_METADATA_BYTES} bytes", "data")
    essay_id = _accepted.get(essay_id) or identifier(essay_id, "data.entity_id")
    time, event_id = context.time, context.event_id
    return (StepFact(batch_id, essay_id, step, outcome, time, event_id, detail, metadata.decode()),)


def _spellcheck_rich(data: _SpellcheckRich, context: Context) -> tuple[Fact, ...]:
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
    return _result(batch_id, data.entity_id, step, outcome, context, 2, notes)


def _step_of(status: str, expected: str) -> tuple[str, int]:
    """Return what an essay status says about the step that its event is about."""
    step = _essay_status(status)
    if step is None or step[0] != expected:
        raise _unknown_status(status, "data.status")
    return step


def _error_of(system: _System) -> dict[str, Any] | None:
    if not system.error_info:
        return None
    return bounded_object(system.error_info, "data.system_metadata.error_info")


def _essay_update(data: _EssayUpdate, context: Context) -> tuple[Fact, ...]:
    step = _essay_status(data.status)
    batch_id = _parent(data.parent_id)
    if step is None:
        essay_id = identifier(data.entity_id, "data.entity_id")
        return (EssaysFact(batch_id, (essay_id,), context.time),) if batch_id else ()
    name, outcome = step
    error = _error_of(data.system_metadata)
    notes = _Notes(_WORDS[outcome], context.time, status=data.status, error=error)
    return _result(batch_id, data.entity_id, name, outcome, context, 1, notes)


def _nlp_essay(data: _NlpEssay, context: Context) -> tuple[Fact, ...]:
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
    return _result(_parent(data.parent_id), data.essay_id, "nlp", outcome, context, 2, notes)


def _ai_feedback(data: _AiFeedback, context: Context) -> tuple[Fact, ...]:
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
    return _result(_parent(data.parent_id), data.entity_id, step, outcome, context, 2, notes)


def _listed(batch_id: str, step: str, lists: _Lists, context: Context, job: str = "") -> list[Fact]:
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
        detail = 1 if job else 0
        facts += [
            StepFact(
                batch_id, essay_id, step, outcome, context.time, context.event_id, detail, metadata
            )
            for essay_id in _identifiers(essay_ids, f"data.processing_summary.{field}")
        ]
    return facts


def _nlp_batch(data: _NlpBatch, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    status = _batch_status(data.status, "data.status")
    report = PhaseFact(batch_id, "nlp", "reported", context.run, context.time, status)
    return (report, *_listed(batch_id, "nlp", data.processing_summary, context))


def _cj_completed(data: _CjCompleted, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.entity_id, "data.entity_id")
    status = _batch_status(data.status, "data.status")
    report = PhaseFact(batch_id, "cj_assessment", "reported", context.run, context.time, status)
    job = data.cj_assessment_job_id[:100]
    return (report, *_listed(batch_id, "cj_assessment", data.processing_summary, context, job))


def _cj_failed(data: _CjFailed, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.entity_id, "data.entity_id")
    error = _error_of(data.system_metadata) or {}
    message = str(error.get("error_message") or error.get("error_code") or "")[:500]
    status = "failed_critically"
    return (PhaseFact(batch_id, "cj_assessment", status, context.run, context.time, message),)


def _assessment(data: _Assessment, context: Context) -> tuple[Fact, ...]:
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
        facts += _result(batch_id, result.essay_id, "cj_assessment", outcome, context, 2, notes)
    return tuple(facts)


def _phase_outcome(data: _PhaseOutcome, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    phase = identifier(data.phase_name, "data.phase_name")
    status = _batch_status(data.phase_status, "data.phase_status")
    value = ""
    if status not in _FINAL:
        status, value = "reported", status
    lists = _Lists([ref.essay_id for ref in data.processed_essays], data.failed_essay_ids)
    fact = PhaseFact(batch_id, phase, status, context.run, context.time, value)
    return (fact, *_listed(batch_id, phase, lists, context))


def _pipeline_completed(data: _PipelineCompleted, context: Context) -> tuple[Fact, ...]:
    status = _batch_status(data.final_status, "data.final_status")
    return _about_batch(data.batch_id, "completed", status, (), "", context)


def _results(data: _Results, context: Context) -> tuple[Fact, ...]:
    status = _batch_status(data.overall_status, "data.overall_status")
    return _about_batch(data.batch_id, "results", status, (), "", context)


# --- the table -------------------------------------------------------------------------------


def _own(data: Any) -> datetime | None:
    moment: datetime | None = data.timestamp
    return moment


def _of_metadata(data: Any) -> datetime | None:
    moment: datetime | None = data.metadata.timestamp
    return moment


def _of_update(data: _EssayUpdate) -> datetime | None:
    return data.timestamp or data.system_metadata.timestamp


def _none(data: Any) -> datetime | None:
    return None


_pipeline_end: Final = Payload(_PipelineCompleted, _pipeline_completed, _of_metadata)
_feedback: Final = Payload(_AiFeedback, _ai_feedback, _of_update)
_update: Final = Payload(_EssayUpdate, _essay_update, _of_update)

PAYLOADS: Final[dict[str, Payload]] = {
    "huleedu.batch.essays.registered.v1": Payload(_Registered, _registered, _of_metadata),
    "huleedu.file.essay.content.provisioned.v1": Payload(
        _Provisioned, _upload("provisioned"), _own
    ),
    "huleedu.file.essay.validation.failed.v1": Payload(_Provisioned, _upload("rejected"), _own),
    "huleedu.els.essay.slot.assigned.v1": Payload(_Slot, _slot, _own),
    "huleedu.els.excess.content.provisioned.v1": Payload(_Excess, _excess, _own),
    "huleedu.batch.content.provisioning.completed.v1": Payload(
        _ContentComplete, _content_complete, _own
    ),
    "huleedu.els.batch.validation.errors.v1": Payload(
        _ValidationErrors, _validation_errors, _of_metadata
    ),
    "huleedu.batch.student.matching.initiate.command.v1": Payload(
        _Start, _matching_start("initiated"), _own
    ),
    "huleedu.batch.student.matching.requested.v1": Payload(
        _Start, _matching_start("requested"), _own
    ),
    "huleedu.batch.author.matches.suggested.v1": Payload(_Matches, _matches("suggested"), _own),
    "huleedu.class.student.associations.confirmed.v1": Payload(
        _Matches, _matches("confirmed"), _own
    ),
    "huleedu.els.batch.essays.ready.v1": Payload(_Ready, _ready, _of_metadata),
    "huleedu.commands.batch.pipeline.v1": Payload(_Requested, _requested, _none),
    "huleedu.pipeline.denied.v1": Payload(_Denied, _denied, _own),
    "huleedu.batch.phase.skipped.v1": Payload(_Skipped, _skipped, _of_metadata),
    "huleedu.els.spellcheck.initiate.command.v1": Payload(_Start, _start("spellcheck"), _own),
    "huleedu.batch.cj_assessment.initiate.command.v1": Payload(
        _Start, _start("cj_assessment"), _own
    ),
    "huleedu.batch.nlp.initiate.command.v2": Payload(_Start, _start("nlp"), _own),
    "huleedu.batch.ai_feedback.initiate.command.v1": Payload(_Start, _start("ai_feedback"), _own),
    "huleedu.essay.spellcheck.requested.v1": Payload(
        _EssayUpdate, _dispatch_spellcheck, _of_update
    ),
    "huleedu.els.cj_assessment.requested.v1": Payload(_CjDispatch, _dispatch_cj, _own),
    "huleedu.batch.nlp.processing.requested.v2": Payload(_Start, _dispatch_nlp, _own),
    "huleedu.batch.spellcheck.phase.completed.v1": Payload(_SpellcheckThin, _spellcheck_thin, _own),
    "huleedu.essay.spellcheck.results.v1": Payload(_SpellcheckRich, _spellcheck_rich, _of_update),
    "huleedu.essay.spellcheck.completed.v1": _update,
    "huleedu.essay.nlp.completed.v1": Payload(_NlpEssay, _nlp_essay, _own),
    "huleedu.batch.nlp.analysis.completed.v1": Payload(_NlpBatch, _nlp_batch, _own),
    "huleedu.cj_assessment.completed.v1": Payload(_CjCompleted, _cj_completed, _own),
    "huleedu.cj_assessment.failed.v1": Payload(_CjFailed, _cj_failed, _own),
    "huleedu.assessment.result.published.v1": Payload(_Assessment, _assessment, _own),
    "huleedu.essay.aifeedback.completed.v1": _feedback,
    "essay.aifeedback.completed": _feedback,
    "huleedu.els.batch.phase.outcome.v1": Payload(_PhaseOutcome, _phase_outcome, _none),
    "huleedu.batch.pipeline.completed.v1": _pipeline_end,
    "batch.pipeline.completed": _pipeline_end,
    "huleedu.ras.batch.results.ready.v1": Payload(_Results, _results, _own),
    "essay.status.updated.v1": _update,
    "essay.status.events": _update,
}
"""Every event type that carries progress, by each of its spellings."""

IGNORED_TYPES: Final = frozenset(
    {
        "huleedu.file.batch.file.added.v1",
        "huleedu.file.batch.file.removed.v1",
        "huleedu.notification.teacher.requested.v1",
        "huleedu.resource.consumption.v1",
        "huleedu.ras.batch.assessment.completed.v1",
        "huleedu.class.validation.timeout.processed.v1",
        "huleedu.class.essay.association.updated.v1",
    }
)
"""Known event types that say nothing about progress."""

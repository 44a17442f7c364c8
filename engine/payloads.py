"""What the payload of each event type says: its shape, its own time, its facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple

from engine.bounds import (
    Refused,
    identifier,
    identifiers,
)
from engine.essay_results import (
    FINAL_STATUSES,
    Context,
    ai_feedback,
    assessment,
    batch_status,
    cj_completed,
    cj_failed,
    dispatch_spellcheck,
    essay_update,
    listed,
    nlp_batch,
    nlp_essay,
    spellcheck_rich,
    spellcheck_thin,
)
from engine.models import (
    BatchFact,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
)
from engine.shapes import (
    AiFeedback,
    Assessment,
    CjCompleted,
    CjDispatch,
    CjFailed,
    ContentComplete,
    Denied,
    EssayUpdate,
    Excess,
    Lists,
    Matches,
    NlpBatch,
    NlpEssay,
    PhaseOutcome,
    PipelineCompleted,
    Provisioned,
    Ready,
    Ref,
    Registered,
    Requested,
    Results,
    Skipped,
    Slot,
    SpellcheckRich,
    SpellcheckThin,
    Start,
    ValidationErrors,
)


class Payload(NamedTuple):
    """How one type of payload is decoded and understood."""

    shape: Any
    facts_of: Callable[[Any, Context], tuple[Fact, ...]]
    time_of: Callable[[Any], datetime | None]


MAX_ESSAYS: Final = 10_000_000


def _essays(refs: Iterable[Ref], field: str) -> tuple[str, ...]:
    return identifiers([ref.essay_id for ref in refs], field)


def _registered(data: Registered, context: Context) -> tuple[Fact, ...]:
    if not 0 <= data.expected_essay_count <= MAX_ESSAYS:
        raise Refused("range", f"0 to {MAX_ESSAYS} essays", "data.expected_essay_count")
    batch_id = identifier(data.entity_id, "data.entity_id")
    essay_ids = identifiers(data.essay_ids, "data.essay_ids")
    count = data.expected_essay_count
    return (RegistrationFact(batch_id, count, essay_ids, context.time, data.user_id[:200]),)


def _upload(status: str) -> Callable[[Provisioned, Context], tuple[Fact, ...]]:
    def facts(data: Provisioned, context: Context) -> tuple[Fact, ...]:
        batch_id = identifier(data.entity_id, "data.entity_id")
        upload_id = identifier(data.file_upload_id, "data.file_upload_id")
        return (BatchFact(batch_id, status, upload_id, "", context.time),)

    return facts


def _slot(data: Slot, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    essay_id = identifier(data.essay_id, "data.essay_id")
    return (EssaysFact(batch_id, (essay_id,), context.time, data.original_file_name[:1000]),)


def _excess(data: Excess, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    storage_id = identifier(data.text_storage_id, "data.text_storage_id")
    return (BatchFact(batch_id, "excess", storage_id, "", context.time),)


def _about_batch(
    batch_id: str, status: str, value: str, refs: Iterable[Ref], field: str, context: Context
) -> tuple[Fact, ...]:
    """Return a fact about a batch, and the essays that the event names with it."""
    batch_id = identifier(batch_id, "data.batch_id")
    fact = BatchFact(batch_id, status, value, context.run, context.time)
    essay_ids = _essays(refs, f"data.{field}")
    return (fact, EssaysFact(batch_id, essay_ids, context.time)) if essay_ids else (fact,)


def _content_complete(data: ContentComplete, context: Context) -> tuple[Fact, ...]:
    refs = data.essays_for_processing
    return _about_batch(
        data.batch_id, "content_complete", "", refs, "essays_for_processing", context
    )


def _validation_errors(data: ValidationErrors, context: Context) -> tuple[Fact, ...]:
    status = "content_failed" if data.error_summary.critical_failure else "content_errors"
    return _about_batch(data.batch_id, status, "", data.failed_essays, "failed_essays", context)


def _ready(data: Ready, context: Context) -> tuple[Fact, ...]:
    return _about_batch(data.batch_id, "ready", "", data.ready_essays, "ready_essays", context)


def _matches(word: str) -> Callable[[Matches, Context], tuple[Fact, ...]]:
    def facts(data: Matches, context: Context) -> tuple[Fact, ...]:
        refs = data.match_results or data.associations
        return _about_batch(data.batch_id, "matching", word, refs, "match_results", context)

    return facts


def _matching_start(word: str) -> Callable[[Start, Context], tuple[Fact, ...]]:
    def facts(data: Start, context: Context) -> tuple[Fact, ...]:
        refs = data.essays_to_process
        return _about_batch(data.entity_id, "matching", word, refs, "essays_to_process", context)

    return facts


def _requested(data: Requested, context: Context) -> tuple[Fact, ...]:
    pipeline = identifier(data.requested_pipeline.strip(), "data.requested_pipeline")
    return _about_batch(data.batch_id.strip(), "requested", pipeline, (), "", context)


def _denied(data: Denied, context: Context) -> tuple[Fact, ...]:
    return _about_batch(data.batch_id, "denied", data.denial_reason[:200], (), "", context)


def _skipped(data: Skipped, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    phase = identifier(data.phase_name, "data.phase_name")
    reason = data.skip_reason[:200]
    return (PhaseFact(batch_id, phase, "skipped", context.run, context.time, reason),)


def _start(phase: str) -> Callable[[Start, Context], tuple[Fact, ...]]:
    def facts(data: Start, context: Context) -> tuple[Fact, ...]:
        return _started(data.entity_id, phase, "", data.essays_to_process, context)

    return facts


def _dispatch_nlp(data: Start, context: Context) -> tuple[Fact, ...]:
    return _started(data.entity_id, "nlp", "dispatched", data.essays_to_process, context)


def _dispatch_cj(data: CjDispatch, context: Context) -> tuple[Fact, ...]:
    return _started(data.entity_id, "cj_assessment", "dispatched", data.essays_for_cj, context)


def _started(
    batch_id: str, phase: str, value: str, refs: Iterable[Ref], context: Context
) -> tuple[Fact, ...]:
    batch_id = identifier(batch_id, "data.entity_id")
    fact = PhaseFact(batch_id, phase, "started", context.run, context.time, value)
    essay_ids = _essays(refs, "data.essays_to_process")
    return (fact, EssaysFact(batch_id, essay_ids, context.time)) if essay_ids else (fact,)


def _phase_outcome(data: PhaseOutcome, context: Context) -> tuple[Fact, ...]:
    batch_id = identifier(data.batch_id, "data.batch_id")
    phase = identifier(data.phase_name, "data.phase_name")
    status = batch_status(data.phase_status, "data.phase_status")
    value = ""
    if status not in FINAL_STATUSES:
        status, value = "reported", status
    lists = Lists([ref.essay_id for ref in data.processed_essays], data.failed_essay_ids)
    fact = PhaseFact(batch_id, phase, status, context.run, context.time, value)
    return (fact, *listed(batch_id, phase, lists, context))


def _pipeline_completed(data: PipelineCompleted, context: Context) -> tuple[Fact, ...]:
    status = batch_status(data.final_status, "data.final_status")
    return _about_batch(data.batch_id, "completed", status, (), "", context)


def _results(data: Results, context: Context) -> tuple[Fact, ...]:
    status = batch_status(data.overall_status, "data.overall_status")
    return _about_batch(data.batch_id, "results", status, (), "", context)


_own: Final = attrgetter("timestamp")
_of_metadata: Final = attrgetter("metadata.timestamp")


def _of_update(data: EssayUpdate) -> datetime | None:
    return data.timestamp or data.system_metadata.timestamp


def _none(data: Any) -> datetime | None:
    return None


_pipeline_end: Final = Payload(PipelineCompleted, _pipeline_completed, _of_metadata)
_feedback: Final = Payload(AiFeedback, ai_feedback, _of_update)
_update: Final = Payload(EssayUpdate, essay_update, _of_update)

PAYLOADS: Final[dict[str, Payload]] = {
    "huleedu.batch.essays.registered.v1": Payload(Registered, _registered, _of_metadata),
    "huleedu.file.essay.content.provisioned.v1": Payload(Provisioned, _upload("provisioned"), _own),
    "huleedu.file.essay.validation.failed.v1": Payload(Provisioned, _upload("rejected"), _own),
    "huleedu.els.essay.slot.assigned.v1": Payload(Slot, _slot, _own),
    "huleedu.els.excess.content.provisioned.v1": Payload(Excess, _excess, _own),
    "huleedu.batch.content.provisioning.completed.v1": Payload(
        ContentComplete, _content_complete, _own
    ),
    "huleedu.els.batch.validation.errors.v1": Payload(
        ValidationErrors, _validation_errors, _of_metadata
    ),
    "huleedu.batch.student.matching.initiate.command.v1": Payload(
        Start, _matching_start("initiated"), _own
    ),
    "huleedu.batch.student.matching.requested.v1": Payload(
        Start, _matching_start("requested"), _own
    ),
    "huleedu.batch.author.matches.suggested.v1": Payload(Matches, _matches("suggested"), _own),
    "huleedu.class.student.associations.confirmed.v1": Payload(
        Matches, _matches("confirmed"), _own
    ),
    "huleedu.els.batch.essays.ready.v1": Payload(Ready, _ready, _of_metadata),
    "huleedu.commands.batch.pipeline.v1": Payload(Requested, _requested, _none),
    "huleedu.pipeline.denied.v1": Payload(Denied, _denied, _own),
    "huleedu.batch.phase.skipped.v1": Payload(Skipped, _skipped, _of_metadata),
    "huleedu.els.spellcheck.initiate.command.v1": Payload(Start, _start("spellcheck"), _own),
    "huleedu.batch.cj_assessment.initiate.command.v1": Payload(
        Start, _start("cj_assessment"), _own
    ),
    "huleedu.batch.nlp.initiate.command.v2": Payload(Start, _start("nlp"), _own),
    "huleedu.batch.ai_feedback.initiate.command.v1": Payload(Start, _start("ai_feedback"), _own),
    "huleedu.essay.spellcheck.requested.v1": Payload(EssayUpdate, dispatch_spellcheck, _of_update),
    "huleedu.els.cj_assessment.requested.v1": Payload(CjDispatch, _dispatch_cj, _own),
    "huleedu.batch.nlp.processing.requested.v2": Payload(Start, _dispatch_nlp, _own),
    "huleedu.batch.spellcheck.phase.completed.v1": Payload(SpellcheckThin, spellcheck_thin, _own),
    "huleedu.essay.spellcheck.results.v1": Payload(SpellcheckRich, spellcheck_rich, _of_update),
    "huleedu.essay.spellcheck.completed.v1": _update,
    "huleedu.essay.nlp.completed.v1": Payload(NlpEssay, nlp_essay, _own),
    "huleedu.batch.nlp.analysis.completed.v1": Payload(NlpBatch, nlp_batch, _own),
    "huleedu.cj_assessment.completed.v1": Payload(CjCompleted, cj_completed, _own),
    "huleedu.cj_assessment.failed.v1": Payload(CjFailed, cj_failed, _own),
    "huleedu.assessment.result.published.v1": Payload(Assessment, assessment, _own),
    "huleedu.essay.aifeedback.completed.v1": _feedback,
    "essay.aifeedback.completed": _feedback,
    "huleedu.els.batch.phase.outcome.v1": Payload(PhaseOutcome, _phase_outcome, _none),
    "huleedu.batch.pipeline.completed.v1": _pipeline_end,
    "batch.pipeline.completed": _pipeline_end,
    "huleedu.ras.batch.results.ready.v1": Payload(Results, _results, _own),
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

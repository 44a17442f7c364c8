"""The shapes of payloads as services send them: of their members only those that matter."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from engine.bounds import MAX_INTEGER


class Shape(msgspec.Struct, gc=False):
    """Base of all shapes: plain records that the garbage collector need not visit."""


_Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class System(Shape):
    """The system metadata that many payloads carry."""

    timestamp: datetime | None = None
    error_info: dict[str, Any] | None = None


class Ref(Shape):
    """An essay in a list."""

    essay_id: str


class Registered(Shape):
    """batch.essays.registered: the only source of the expected count."""

    entity_id: str
    expected_essay_count: _Integer
    essay_ids: list[str]
    metadata: System
    user_id: str = ""


class Provisioned(Shape):
    """essay.content.provisioned and essay.validation.failed; `entity_id` is the batch."""

    entity_id: str
    file_upload_id: str
    timestamp: datetime | None = None


class Slot(Shape):
    """essay.slot.assigned: ties a file to an essay."""

    batch_id: str
    essay_id: str
    original_file_name: str = ""
    timestamp: datetime | None = None


class Excess(Shape):
    """excess.content.provisioned."""

    batch_id: str
    text_storage_id: str
    timestamp: datetime | None = None


class ContentComplete(Shape):
    """batch.content.provisioning.completed."""

    batch_id: str
    essays_for_processing: list[Ref] = []
    timestamp: datetime | None = None


class ErrorSummary(Shape):
    """Part of batch.validation.errors."""

    critical_failure: bool = False


class ValidationErrors(Shape):
    """batch.validation.errors."""

    batch_id: str
    failed_essays: list[Ref]
    error_summary: ErrorSummary
    metadata: System


class Ready(Shape):
    """batch.essays.ready."""

    batch_id: str
    ready_essays: list[Ref]
    metadata: System


class Requested(Shape):
    """client.batch.pipeline.request."""

    batch_id: str
    requested_pipeline: str


class Denied(Shape):
    """pipeline.denied."""

    batch_id: str
    requested_pipeline: str
    denial_reason: str
    timestamp: datetime | None = None


class Skipped(Shape):
    """batch.phase.skipped."""

    batch_id: str
    phase_name: str
    metadata: System
    skip_reason: str = "already_completed"


class Start(Shape):
    """A command that starts a phase; `entity_id` is the batch."""

    entity_id: str
    essays_to_process: list[Ref]
    timestamp: datetime | None = None


class CjDispatch(Shape):
    """els.cj_assessment.requested."""

    entity_id: str
    essays_for_cj: list[Ref]
    timestamp: datetime | None = None


class Matches(Shape):
    """batch.author.matches.suggested and student.associations.confirmed."""

    batch_id: str
    match_results: list[Ref] = []
    associations: list[Ref] = []
    timestamp: datetime | None = None


class SpellcheckThin(Shape):
    """spellcheck.phase.completed; `entity_id` is the essay."""

    entity_id: str
    batch_id: str
    status: str
    processing_duration_ms: _Integer
    timestamp: datetime
    error_code: str | None = None
    corrected_text_storage_id: str | None = None


class Corrections(Shape):
    """Part of spellcheck.results."""

    word_count: _Integer = 0
    correction_density: float = 0.0


class SpellcheckRich(Shape):
    """spellcheck.results; `entity_id` is the essay."""

    entity_id: str
    batch_id: str
    status: str
    system_metadata: System
    corrections_made: _Integer
    processing_duration_ms: _Integer
    correction_metrics: Corrections
    processor_version: str = ""
    timestamp: datetime | None = None


class EssayUpdate(Shape):
    """essay.status.updated and older results; `parent_id` is the batch, if any."""

    entity_id: str
    status: str
    system_metadata: System
    parent_id: str | None = None
    timestamp: datetime | None = None


class NlpMetrics(Shape):
    """Part of essay.nlp.completed."""

    word_count: _Integer
    sentence_count: _Integer
    language_detected: str
    processing_time_ms: _Integer = 0


class Grammar(Shape):
    """Part of essay.nlp.completed."""

    error_count: _Integer


class NlpEssay(Shape):
    """essay.nlp.completed, which names no batch."""

    essay_id: str
    nlp_metrics: NlpMetrics
    grammar_analysis: Grammar
    parent_id: str | None = None
    timestamp: datetime | None = None


class Feedback(Shape):
    """Part of essay.aifeedback.completed."""

    model_version: str
    feedback_type: str
    processing_time_seconds: float | None = None


class AiFeedback(EssayUpdate, kw_only=True):
    """essay.aifeedback.completed."""

    feedback_details: Feedback
    additional_metrics: dict[str, Any] | None = None


class Lists(Shape):
    """The successes and failures of a batch."""

    successful_essay_ids: list[str]
    failed_essay_ids: list[str]


class NlpBatch(Shape):
    """batch.nlp.analysis.completed."""

    batch_id: str
    status: str
    processing_summary: Lists
    timestamp: datetime | None = None


class CjCompleted(Shape):
    """cj_assessment.completed, once for a batch."""

    entity_id: str
    status: str
    cj_assessment_job_id: str
    processing_summary: Lists
    timestamp: datetime | None = None


class CjFailed(Shape):
    """cj_assessment.failed."""

    entity_id: str
    cj_assessment_job_id: str
    system_metadata: System
    timestamp: datetime | None = None


class CjResult(Shape):
    """One essay of assessment.result.published."""

    essay_id: str
    rank: _Integer
    letter_grade: str
    normalized_score: float
    confidence_label: str = ""
    is_anchor: bool = False


class Assessment(Shape):
    """assessment.result.published."""

    batch_id: str
    cj_assessment_job_id: str
    essay_results: list[CjResult]
    model_used: str = ""
    timestamp: datetime | None = None


class PhaseOutcome(Shape):
    """els.batch.phase.outcome, which has no time of its own."""

    batch_id: str
    phase_name: str
    phase_status: str
    processed_essays: list[Ref]
    failed_essay_ids: list[str]


class PipelineCompleted(Shape):
    """batch.pipeline.completed."""

    batch_id: str
    final_status: str
    metadata: System


class Results(Shape):
    """batch.results.ready."""

    batch_id: str
    overall_status: str
    timestamp: datetime | None = None

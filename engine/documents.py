"""What the outside reads: essays and batches as JSON documents, with the seed's names.

Inside, facts and counts are structs (`engine.models`); these models are their published form.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from engine.clock import rfc3339
from engine.models import OUTCOME_NAMES, EssayState, told
from engine.summaries import BatchSummary, StepCounts

CACHE_TTL_SECONDS = 3600
"""How long a summary counts as fresh for its readers."""

Moment = Annotated[AwareDatetime, PlainSerializer(rfc3339, when_used="json")]
"""An aware time; in JSON it is RFC 3339 in UTC with `Z`."""


class ProcessingStepStatus(StrEnum):
    """Where one step of one essay stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


def _is_none(value: str | None) -> bool:
    """Tell whether a member is left out: those that only trouble brings."""
    return value is None


def _is_zero(value: int) -> bool:
    """The same for a number."""
    return value == 0


class _Document(BaseModel):
    """Frozen; numbers that JSON lacks (NaN, Infinity) are written as strings."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


class EssayProcessingState(_Document):
    """One essay of a batch.

    `completed_steps` holds, in the order of the pipeline, only what was truly completed;
    `step_status` has every step that its batch knows. A time is `None` where nothing tells it.
    `trouble` says why what is stored of the essay cannot be read; a step of which it may tell
    more is `unknown`.
    """

    batch_id: str
    essay_id: str
    completed_steps: list[str] = Field(default_factory=list)
    step_status: dict[str, ProcessingStepStatus] = Field(default_factory=dict)
    step_metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: Moment | None
    last_updated: Moment | None
    trouble: str | None = Field(default=None, exclude_if=_is_none)

    @classmethod
    def from_state(cls, summary: BatchSummary, essay: EssayState) -> EssayProcessingState:
        """Describe an essay as a member of its batch."""
        status = {counts.step: _status(counts, essay) for counts in summary.steps}
        for step in sorted(essay.steps.keys() - status.keys()):
            status[step] = ProcessingStepStatus(OUTCOME_NAMES[essay.steps[step].outcome])
        return cls(
            batch_id=summary.batch_id,
            essay_id=essay.essay_id,
            completed_steps=[
                step for step, state in status.items() if state is ProcessingStepStatus.COMPLETED
            ],
            step_status=status,
            step_metadata={
                step: json.loads(essay.steps[step].metadata)
                for step in status
                if step in essay.steps
            },
            created_at=told(essay.created_at),
            last_updated=told(essay.last_updated),
            trouble=essay.trouble or None,
        )


def _status(counts: StepCounts, essay: EssayState) -> ProcessingStepStatus:
    """Return the state of a step; without a result it was skipped once its phase is over."""
    fact = essay.steps.get(counts.step)
    if fact is not None and fact.outcome:
        return ProcessingStepStatus(OUTCOME_NAMES[fact.outcome])
    if essay.trouble:
        return ProcessingStepStatus.UNKNOWN
    return ProcessingStepStatus.SKIPPED if counts.skipped else ProcessingStepStatus.PENDING


class StepCompletionSummary(_Document):
    """The counts of one step over a batch.

    Completed, failed, skipped and pending ones sum to `total_count`. `unknown_count`, where it is
    not 0, tells how many of the skipped or pending ones are essays that cannot be read.
    """

    step_name: str
    completed_count: int = Field(ge=0)
    failed_count: int = Field(default=0, ge=0)
    skipped_count: int = Field(default=0, ge=0)
    pending_count: int = Field(default=0, ge=0)
    unknown_count: int = Field(default=0, ge=0, exclude_if=_is_zero)
    total_count: int = Field(ge=0)
    completion_percentage: float = Field(ge=0.0, le=100.0)
    phase_status: str | None = None

    @classmethod
    def from_counts(cls, counts: StepCounts) -> StepCompletionSummary:
        """Publish the counts of a step."""
        return cls(
            step_name=counts.step,
            completed_count=counts.completed,
            failed_count=counts.failed,
            skipped_count=counts.skipped,
            pending_count=counts.pending,
            unknown_count=counts.unknown,
            total_count=counts.total,
            completion_percentage=counts.percentage,
            phase_status=counts.phase_status,
        )


class BatchCompletionSummary(_Document):
    """A batch as a whole; `None` stands for what is not known.

    `expected_essays` comes from the registration only, `seen_essays` counts those that any
    event named, `total_essays` is the larger. `reason` says why, where `status` is not plain,
    `doubt` why the counts may be wrong, where nothing proves them.
    """

    batch_id: str
    status: str
    pipeline: str | None = None
    total_essays: int = Field(ge=0)
    expected_essays: int | None = None
    seen_essays: int = Field(default=0, ge=0)
    step_summaries: dict[str, StepCompletionSummary]
    started_at: Moment | None = None
    last_event_at: Moment | None = None
    generated_at: Moment
    cache_ttl_seconds: int = CACHE_TTL_SECONDS
    owner: str | None = None
    reason: str | None = None
    doubt: str | None = Field(default=None, exclude_if=_is_none)

    @classmethod
    def from_summary(cls, summary: BatchSummary, generated_at: datetime) -> BatchCompletionSummary:
        """Publish the summary of a batch, computed at `generated_at`."""
        return cls(
            batch_id=summary.batch_id,
            status=summary.status,
            pipeline=summary.pipeline,
            total_essays=summary.total,
            expected_essays=summary.expected,
            seen_essays=summary.seen,
            step_summaries={
                counts.step: StepCompletionSummary.from_counts(counts) for counts in summary.steps
            },
            started_at=summary.started_at,
            last_event_at=summary.last_event_at,
            generated_at=generated_at,
            owner=summary.owner or None,
            reason=summary.reason or None,
            doubt=summary.doubt or None,
        )

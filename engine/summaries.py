"""What a person is told about a batch: everything that is computed from its record.

Written once, so that no two screens, commands or backends can disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from engine.models import SUCCESSFUL, WITH_FAILURES, BatchRecord
from engine.standing import PhaseState, Standing, newest, standing_of


class StepCounts(msgspec.Struct, frozen=True, gc=False):
    """The counts of one step over a batch.

    `completed`, `failed`, `skipped` and `pending` always sum to `total`. Of so many as are
    `unknown`, the skipped or pending ones are essays that cannot be read.
    """

    step: str
    completed: int
    failed: int
    skipped: int
    pending: int
    total: int
    phase_status: str | None
    running: bool
    started_at: datetime | None
    ended_at: datetime | None
    unknown: int = 0

    @property
    def missing(self) -> tuple[int, int]:
        """The skipped and the pending essays without those that are unknown."""
        if not self.unknown:
            return self.skipped, self.pending
        skipped = max(0, self.skipped - self.unknown)
        return skipped, self.pending - (self.unknown - (self.skipped - skipped))

    @property
    def percentage(self) -> float:
        """Completed in percent, floored to a tenth; 100 only when nothing is missing."""
        return self.completed * 1000 // self.total / 10 if self.total else 0.0


class BatchSummary(msgspec.Struct, frozen=True):
    """What a person is told about a batch; computed by `summarize` from a record.

    `doubt` says why the counts may be wrong; empty if they are proved. `is_disputed` means that
    a stored count contradicts the essays: an audit tells which.
    """

    batch_id: str
    status: str
    pipeline: str | None
    expected: int | None
    seen: int
    total: int
    steps: tuple[StepCounts, ...]
    owner: str
    started_at: datetime | None
    last_event_at: datetime | None
    provisioned: int
    rejected: int
    reason: str
    doubt: str = ""
    is_disputed: bool = False

    @property
    def failed(self) -> int:
        """Failed results over all steps."""
        return sum(counts.failed for counts in self.steps)


TERMINAL_STATUSES: Final = frozenset({SUCCESSFUL, WITH_FAILURES, "failed", "cancelled"})
"""The client statuses after which nothing more is expected."""

_CLIENT_STATUS: Final = {
    SUCCESSFUL: SUCCESSFUL,
    WITH_FAILURES: WITH_FAILURES,
    "failed_critically": "failed",
    "failed": "failed",
    "content_ingestion_failed": "failed",
    "cancelled": "cancelled",
}


def _step_counts(record: BatchRecord, step: str, state: PhaseState, over: bool) -> StepCounts:
    completed, failed = record.counts.get(step, (0, 0))
    rest = max(0, record.total - completed - failed)
    skipped = rest if state.end or over else 0
    return StepCounts(
        step,
        completed,
        failed,
        skipped,
        rest - skipped,
        record.total,
        state.status,
        state.running and not over,
        state.started_at,
        state.end.time if state.end else None,
        min(rest, record.unread - record.unread_results.get(step, 0)) if record.unread else 0,
    )


def summarize(
    record: BatchRecord,
    phases_of: Mapping[str, tuple[str, ...]],
    standing: Standing | None = None,
) -> BatchSummary:
    """Compute what a batch looks like from its record.

    Args:
        record: What is known of the batch.
        phases_of: The phases of each pipeline, in order.
        standing: What its milestones say, where that is known already.
    """
    if standing is None:
        standing = standing_of(record.milestones.values())
    states, pipeline = standing.states, standing.pipeline
    name = pipeline.request.value if pipeline.request else None
    over = pipeline.end is not None and pipeline.end.value in _CLIENT_STATUS
    planned = phases_of.get(name, ()) if name else ()
    names = record.counts.keys() | states.keys()
    known = [step for step in _KNOWN_ORDER if step in names]
    steps = tuple(
        [
            _step_counts(record, step, states.get(step, _UNKNOWN_PHASE), over)
            for step in dict.fromkeys((*planned, *known, *sorted(names.difference(known))))
        ]
    )
    status, reason = _status_of(standing, steps, planned)
    times = [time for time in (record.last_at, standing.first_at, standing.last_at) if time]
    return BatchSummary(
        record.batch_id,
        status,
        name,
        record.expected,
        record.seen,
        record.total,
        steps,
        record.owner,
        standing.started_at or record.first_at or min(times, default=None),
        max(times, default=None),
        record.provisioned,
        record.rejected,
        reason,
        record.doubt,
        record.is_disputed,
    )


_KNOWN_ORDER: Final = ("spellcheck", "cj_assessment", "nlp", "ai_feedback")
_UNKNOWN_PHASE: Final = PhaseState(None, None, None, False)


def _status_of(
    standing: Standing, steps: Sequence[StepCounts], planned: Sequence[str]
) -> tuple[str, str]:
    """Return the client status of a batch and, where it is not plain, the reason.

    The orchestrator's final word is believed about the end, never about success: it counts
    phases with failed essays as successes. It stops without a word after a phase that failed
    critically or was cancelled.
    """
    request, end, ended_phases = standing.pipeline
    if end is not None:
        status = _CLIENT_STATUS.get(end.value, "processing")
        if status == SUCCESSFUL and _is_troubled(steps):
            what = "essays" if any(counts.failed for counts in steps) else "phases"
            return WITH_FAILURES, f"reported as successful, but {what} failed"
        return status, ""
    stop = newest(mark for mark in ended_phases.values() if mark.status in _STOPS)
    if stop is not None:
        return _CLIENT_STATUS[stop.status], f"{stop.phase} {stop.status}"
    if planned and all(name in ended_phases for name in planned):
        return (WITH_FAILURES if _is_troubled(steps) else SUCCESSFUL), "every phase has ended"
    if request or any(map(_has_begun, steps)):
        return "processing", ""
    content, denied = standing.content, standing.denied
    if content is not None and content.status == "content_failed":
        return "failed", "content could not be validated"
    if content or denied:
        return "ready", f"pipeline denied: {denied.value}" if denied else ""
    return "pending_content", ""


def _has_begun(counts: StepCounts) -> bool:
    """Tell whether anything is known that only comes after the content was there."""
    return bool(counts.completed or counts.failed or counts.running or counts.phase_status)


def _is_troubled(steps: Iterable[StepCounts]) -> bool:
    """Tell whether something failed, of essays or of phases."""
    return any(counts.failed or counts.phase_status not in _CLEAN for counts in steps)


_STOPS: Final = frozenset({"failed_critically", "cancelled"})
_CLEAN: Final = frozenset({None, SUCCESSFUL, "skipped"})

"""What a person is told about a batch: everything that is computed from its record.

Written once, so that no two screens, commands or backends can disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from engine.models import NOT_OUTCOMES, SUCCESSFUL, WITH_FAILURES, BatchRecord, Milestone


class StepCounts(msgspec.Struct, frozen=True, gc=False):
    """The counts of one step over a batch; they always sum to `total`."""

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

    @property
    def percentage(self) -> float:
        """Completed in percent, floored to a tenth; 100 only when nothing is missing."""
        return self.completed * 1000 // self.total / 10 if self.total else 0.0


class BatchSummary(msgspec.Struct, frozen=True):
    """What a person is told about a batch; computed by `summarize` from a record.

    `doubt` says why the counts may be wrong; empty if they are proved.
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


def newest(milestones: Iterable[Milestone]) -> Milestone | None:
    """Return the milestone with the newest time; of equal times the larger identity."""
    return max(milestones, key=lambda mark: (mark.when, mark.identity), default=None)


def _ends(end: Milestone, opening: Milestone, openings: Iterable[Milestone]) -> bool:
    """Tell whether an end is that of an opening (a start, a request).

    The end of a run that was opened itself ends that run only, however late it comes; one of
    an unknown run ends whatever was opened before it.
    """
    if end.run and any(end.run == other.run for other in openings):
        return end.run == opening.run
    return end.when >= opening.when


def _outcome(ends: Iterable[Milestone]) -> Milestone | None:
    """Return the newest of the ends of a phase.

    Existing services store `failed` for every outcome but full success, when they hear of it:
    that says less than what is known of an outcome which is no full success, and never undoes it.
    """
    known = list(ends)
    last = newest(known)
    if last is None or last.status != "failed":
        return last
    told = newest(mark for mark in known if mark.status not in _STORED)
    return last if told is None or told.status == SUCCESSFUL else told


_STORED: Final = NOT_OUTCOMES | {"failed"}


class _PhaseState(NamedTuple):
    status: str | None
    started_at: datetime | None
    end: Milestone | None
    running: bool


def _phase_state(marks: Sequence[Milestone]) -> _PhaseState:
    """Tell where a phase stands from what is known about it: about its newest run, if several."""
    outcome = _outcome(mark for mark in marks if mark.status not in NOT_OUTCOMES)
    ends = [mark for mark in marks if mark.status not in ("started", "reported")]
    starts = [mark for mark in marks if mark.status == "started"]
    start = newest(starts)
    if start is not None:
        ends = [mark for mark in ends if _ends(mark, start, starts)]
        start = min((mark for mark in starts if mark.run == start.run), key=lambda mark: mark.when)
    end = _outcome(ends)
    skipped = any(mark.status == "skipped" for mark in marks)
    return _PhaseState(
        outcome.status if outcome else "skipped" if skipped else None,
        start.time if start else None,
        end,
        start is not None and end is None,
    )


def _step_counts(record: BatchRecord, step: str, state: _PhaseState, over: bool) -> StepCounts:
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
    )


class _Pipeline(NamedTuple):
    """The newest pipeline request that was not denied, and what has ended in its run."""

    request: Milestone | None
    end: Milestone | None
    ended_phases: Mapping[str, Milestone]


def _pipeline_of(batch_marks: Sequence[Milestone], states: Mapping[str, _PhaseState]) -> _Pipeline:
    denied = {mark.run for mark in batch_marks if mark.status == "denied"}
    requests = [mark for mark in batch_marks if mark.status == "requested"]
    request = newest(mark for mark in requests if mark.run not in denied)
    ends = [mark for mark in batch_marks if mark.status == "completed"]
    phases = {name: state.end for name, state in states.items() if state.end}
    if request is not None:
        ends = [mark for mark in ends if _ends(mark, request, requests)]
        phases = {name: mark for name, mark in phases.items() if _ends(mark, request, requests)}
    return _Pipeline(request, newest(ends), phases)


def summarize(record: BatchRecord, phases_of: Mapping[str, tuple[str, ...]]) -> BatchSummary:
    """Compute what a batch looks like from its record.

    Args:
        record: What is known of the batch.
        phases_of: The phases of each pipeline, in order.
    """
    marks_of: dict[str, list[Milestone]] = {}
    for mark in record.milestones.values():
        marks_of.setdefault(mark.phase, []).append(mark)
    batch_marks = marks_of.pop("", [])
    states = {name: _phase_state(marks) for name, marks in marks_of.items()}
    pipeline = _pipeline_of(batch_marks, states)
    over = pipeline.end is not None and pipeline.end.value in _CLIENT_STATUS
    name = pipeline.request.value if pipeline.request else None
    planned = phases_of.get(name, ()) if name else ()
    known = [step for step in _KNOWN_ORDER if step in record.counts or step in states]
    others = sorted((record.counts.keys() | states.keys()) - set(_KNOWN_ORDER))
    steps = tuple(
        _step_counts(record, step, states.get(step, _UNKNOWN_PHASE), over)
        for step in dict.fromkeys((*planned, *known, *others))
    )
    status, reason = _status_of(batch_marks, steps, planned, pipeline)
    starts = [
        mark.time
        for mark in record.milestones.values()
        if mark.status in ("requested", "started") and mark.time
    ]
    times = [mark.time for mark in record.milestones.values() if mark.time]
    if record.last_at:
        times.append(record.last_at)
    first = min(starts) if starts else record.first_at
    return BatchSummary(
        record.batch_id,
        status,
        name,
        record.expected,
        record.seen,
        record.total,
        steps,
        record.owner,
        first or min(times, default=None),
        max(times, default=None),
        record.provisioned,
        record.rejected,
        reason,
        record.doubt,
    )


_KNOWN_ORDER: Final = ("spellcheck", "cj_assessment", "nlp", "ai_feedback")
_UNKNOWN_PHASE: Final = _PhaseState(None, None, None, False)


def _status_of(
    batch_marks: Sequence[Milestone],
    steps: Sequence[StepCounts],
    planned: Sequence[str],
    pipeline: _Pipeline,
) -> tuple[str, str]:
    """Return the client status of a batch and, where it is not plain, the reason.

    The orchestrator's final word is believed about the end, never about success: it counts
    phases with failed essays as successes. It stops without a word after a phase that failed
    critically or was cancelled.
    """
    request, end, ended_phases = pipeline
    troubled = any(counts.failed or counts.phase_status not in _CLEAN for counts in steps)
    if end is not None:
        status = _CLIENT_STATUS.get(end.value, "processing")
        if status == SUCCESSFUL and troubled:
            what = "essays" if any(counts.failed for counts in steps) else "phases"
            return WITH_FAILURES, f"reported as successful, but {what} failed"
        return status, ""
    stop = newest(mark for mark in ended_phases.values() if mark.status in _STOPS)
    if stop is not None:
        return _CLIENT_STATUS[stop.status], f"{stop.phase} {stop.status}"
    if planned and all(name in ended_phases for name in planned):
        return (WITH_FAILURES if troubled else SUCCESSFUL), "every phase has ended"
    if request or any(counts.completed or counts.failed or counts.running for counts in steps):
        return "processing", ""
    denied = newest(mark for mark in batch_marks if mark.status == "denied")
    content = newest(mark for mark in batch_marks if mark.status in _CONTENT_WORDS)
    if content is not None and content.status == "content_failed":
        return "failed", "content could not be validated"
    if content or denied:
        return "ready", f"pipeline denied: {denied.value}" if denied else ""
    return "pending_content", ""


_CONTENT_WORDS: Final = frozenset({"content_failed", "content_complete", "ready"})
_STOPS: Final = frozenset({"failed_critically", "cancelled"})
_CLEAN: Final = frozenset({None, SUCCESSFUL, "skipped"})

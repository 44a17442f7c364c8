"""Where the phases and the pipeline of a batch stand: what its milestones say together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from engine.models import NOT_OUTCOMES, SUCCESSFUL, Milestone


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


class PhaseState(NamedTuple):
    """Where a phase stands: its outcome, when its run started, what ended that, if anything."""

    status: str | None
    started_at: datetime | None
    end: Milestone | None
    running: bool


def _phase_state(marks: Sequence[Milestone]) -> PhaseState:
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
    return PhaseState(
        outcome.status if outcome else "skipped" if skipped else None,
        start.time if start else None,
        end,
        start is not None and end is None,
    )


class PipelineState(NamedTuple):
    """The newest pipeline request that was not denied, and what has ended in its run."""

    request: Milestone | None
    end: Milestone | None
    ended_phases: Mapping[str, Milestone]


def _pipeline_of(
    batch_marks: Sequence[Milestone], states: Mapping[str, PhaseState]
) -> PipelineState:
    denied = {mark.run for mark in batch_marks if mark.status == "denied"}
    requests = [mark for mark in batch_marks if mark.status == "requested"]
    request = newest(mark for mark in requests if mark.run not in denied)
    ends = [mark for mark in batch_marks if mark.status == "completed"]
    phases = {name: state.end for name, state in states.items() if state.end}
    if request is not None:
        ends = [mark for mark in ends if _ends(mark, request, requests)]
        phases = {name: mark for name, mark in phases.items() if _ends(mark, request, requests)}
    return PipelineState(request, newest(ends), phases)


class Standing(NamedTuple):
    """What the milestones of a batch say; it stays the same until one of them changes."""

    states: Mapping[str, PhaseState]
    pipeline: PipelineState
    content: Milestone | None
    denied: Milestone | None
    started_at: datetime | None
    first_at: datetime | None
    last_at: datetime | None


def standing_of(milestones: Collection[Milestone]) -> Standing:
    """Return what the milestones of a batch say."""
    if not milestones:
        return _NO_STANDING
    marks_of: dict[str, list[Milestone]] = {}
    for mark in milestones:
        marks_of.setdefault(mark.phase, []).append(mark)
    batch_marks = marks_of.pop("", [])
    states = {name: _phase_state(marks) for name, marks in marks_of.items()}
    pipeline = _pipeline_of(batch_marks, states)
    times = [mark.time for mark in milestones if mark.time]
    starts = [
        mark.time for mark in milestones if mark.time and mark.status in ("requested", "started")
    ]
    return Standing(
        states,
        pipeline,
        newest(mark for mark in batch_marks if mark.status in _CONTENT_WORDS),
        newest(mark for mark in batch_marks if mark.status == "denied"),
        min(starts, default=None),
        min(times, default=None),
        max(times, default=None),
    )


_NO_STANDING: Final = Standing({}, PipelineState(None, None, {}), *(None,) * 5)
_CONTENT_WORDS: Final = frozenset({"content_failed", "content_complete", "ready"})

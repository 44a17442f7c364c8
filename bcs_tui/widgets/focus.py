"""The selected batch in three lines: how it stands, why, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.cells import cell_len

from bcs_tui.format import Glyph, clean, clock, duration, fit
from bcs_tui.widgets.ink import Line, Piece, clip, fitting
from bcs_tui.widgets.states import INK_OF, disagreement, mark, state_of, step_state
from engine import BatchRow, StepCounts, dependencies

DISPUTED: Final = "a stored count contradicts the essays"
AHEAD: Final = "ahead of the clock here"
"""What is said of an event that is dated later than now."""


def focus(row: BatchRow, now: datetime, glyphs: Glyph, width: int) -> list[Line]:
    """Return the lines for a batch."""
    summary = row.summary
    state = state_of(row)
    name, reason = clean(summary.batch_id, 80), why(row, now)
    room = max(12, width - 6 - cell_len(reason))
    if cell_len(name) > room:
        name = fit(name, room)
    about: Line = [mark(state, glyphs), (f" {name}   ", "strong"), (reason, INK_OF[state])]
    return [
        [(" ", ""), *clip(about, width - 1)],
        [("   ", ""), *fitting(_steps(row, glyphs), width - 3)],
        [("   ", ""), *fitting(_facts(row, now), width - 3)],
    ]


def why(row: BatchRow, now: datetime) -> str:
    """Say in a few words why a batch is in its state."""
    summary = row.summary
    running = [clean(step.step, 40) for step in summary.steps if step.running]
    at = f" at {', '.join(running)}" if running else ""
    if row.stalled_since is not None:
        waiting = sum(step.pending for step in summary.steps if step.running)
        silence = duration((now - row.stalled_since).total_seconds())
        behind = f"; {waiting:,} essays wait" if waiting else ""
        return f"stalled{at}: no event for {silence}{behind}"
    if summary.reason and state_of(row) != "problems":
        reason = clean(summary.reason.replace("failed_critically", "failed critically"))
        return f"{_WORDS[state_of(row)]}: {reason}"
    if summary.failed and summary.status == "processing":
        return f"processing{at}, {_failures(row)}"
    if summary.failed:
        return f"ended with {_failures(row)}"
    for step in summary.steps:
        if word := disagreement(step):
            return f"{clean(step.step, 40)}: {word}"
    if summary.status == "processing":
        return f"processing{at}" if at else f"processing: {next_step(row)}"
    return _WORDS[state_of(row)]


_WORDS = {
    "done": "every essay completed every step",
    "ready": "ready: no pipeline was requested yet",
    "waiting": "waiting for content",
    "failed": "failed",
    "cancelled": "cancelled",
    "problems": "ended with failures",
    "processing": "processing",
    "stalled": "stalled",
}


def next_step(row: BatchRow) -> str:
    """Say what has to happen next."""
    steps = {step.step: step for step in row.summary.steps}
    for step in row.summary.steps:
        if step.running and step.pending:
            return f"{step.pending:,} essays lack {clean(step.step, 40)}"
        if step.pending and not step.running:
            missing = [
                need for need in dependencies().get(step.step, ()) if _lacks(steps.get(need))
            ]
            if missing:
                return f"{clean(step.step, 40)} waits for {', '.join(missing)}"
            return f"{clean(step.step, 40)} has not started"
    return "the pipeline has not ended yet"


def _lacks(step: StepCounts | None) -> bool:
    return step is not None and bool(step.pending or step.running)


def _failures(row: BatchRow) -> str:
    """Say how many results failed, and in which steps."""
    failed = [step for step in row.summary.steps if step.failed]
    places = ", ".join(f"{step.failed:,} in {clean(step.step, 40)}" for step in failed)
    return f"failures: {places}"


def _steps(row: BatchRow, glyphs: Glyph) -> Sequence[Line]:
    parts: list[Line] = []
    for step in row.summary.steps:
        pieces: list[Piece] = [
            mark(step_state(step), glyphs),
            (f" {clean(step.step, 40)} ", ""),
            (f"{step.completed:,}/{step.total:,}", "muted"),
        ]
        parts.append(pieces)
    return parts or [[("no step known yet", "muted")]]


def _facts(row: BatchRow, now: datetime) -> Sequence[Line]:
    """Return what else is known, the most useful first."""
    summary = row.summary
    expected = "not registered" if summary.expected is None else f"{summary.expected:,} expected"
    last = f"last event {clock(summary.last_event_at, now)}"
    facts = [
        f"{expected}, {summary.seen:,} seen",
        clean(summary.pipeline or "no pipeline"),
        f"started {clock(summary.started_at, now)}",
        "" if row.is_ahead else last,
        f"owner {clean(summary.owner, 40)}" if summary.owner else "",
        f"{summary.rejected:,} uploads rejected" if summary.rejected else "",
    ]
    if row.eta is not None:
        facts.insert(1, f"ETA from {row.eta.basis}")
    warnings = [DISPUTED] if summary.is_disputed else []
    if row.is_ahead:
        warnings.append(f"{last}: {AHEAD}")
    told = [(text, "warn") for text in warnings] + [(fact, "muted") for fact in facts if fact]
    return [[piece] for piece in told]

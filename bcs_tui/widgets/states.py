"""Which state a batch, a step or an event is in, in one word, and the ink of that word."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from bcs_tui.format import Glyph, eta, span
from bcs_tui.widgets.ink import Piece
from engine import BatchRow, StepCounts

WORST_FIRST: Final = (
    "stalled", "failed", "problems", "processing", "ready", "waiting", "done", "cancelled"
)  # fmt: skip
"""The states of a batch; the worst are the ones that need somebody."""

RANK: Final = {state: rank for rank, state in enumerate(WORST_FIRST)}

INK_OF: Final = {
    "stalled": "warn",
    "failed": "failed",
    "problems": "failed",
    "processing": "running",
    "running": "running",
    "ready": "accent",
    "waiting": "muted",
    "pending": "muted",
    "done": "done",
    "completed": "done",
    "cancelled": "muted",
    "skipped": "muted",
    "unknown": "warn",
    "disputed": "warn",
}

_STATE_OF_STATUS: Final = {
    "pending_content": "waiting",
    "ready": "ready",
    "processing": "processing",
    "completed_successfully": "done",
    "completed_with_failures": "problems",
    "failed": "failed",
    "cancelled": "cancelled",
}


def state_of(row: BatchRow) -> str:
    """Return the state of a batch; one that goes on although essays failed has problems."""
    if row.stalled_since is not None:
        return "stalled"
    state = _STATE_OF_STATUS.get(row.summary.status, "waiting")
    return "problems" if state == "processing" and row.summary.failed else state


def mark(state: str, glyphs: Glyph) -> Piece:
    """Return the glyph of a state in its ink."""
    return glyphs[state], INK_OF.get(state, "")


def outlook(row: BatchRow, now: datetime) -> Piece:
    """Return when a batch may be done, or the word that stands instead of a false number."""
    state = state_of(row)
    if row.stalled_since is not None:
        return f"stalled {span((now - row.stalled_since).total_seconds())}", "warn"
    if row.summary.status == "processing":
        if row.eta is None:
            return "measuring" if row.is_measuring else "-", "muted"
        return eta(row.eta.low_seconds, row.eta.high_seconds), ""
    ended = row.summary.status == "completed_with_failures"
    return "done" if ended else state, "failed" if state == "failed" else "muted"


def step_state(step: StepCounts) -> str:
    """Return the state of a step over the whole batch."""
    if step.failed:
        return "running" if step.running else "failed"
    if step.total and step.completed == step.total:
        return "done"
    if step.running or (step.completed and step.pending):
        return "running"
    if step.skipped and not step.completed:
        return "skipped"
    return "problems" if step.skipped else "pending"


_GOOD_ENDS: Final = frozenset({"completed_successfully"})


def disagreement(step: StepCounts) -> str:
    """Say how the phase's own word differs from what its essays show, if it does."""
    if step.phase_status in _GOOD_ENDS and (step.failed or step.skipped):
        return f"the phase says completed, {step.completed:,} of {step.total:,} essays did"
    if step.phase_status == "completed_with_failures" and step.completed == step.total:
        return "the phase says failures, every essay completed"
    if (step.phase_status or "").startswith("failed") and step.completed == step.total:
        return "the phase says failed, every essay completed"
    return ""


_PHASE_WORDS: Final = {
    "completed_successfully": "completed",
    "completed_with_failures": "with failures",
    "failed_critically": "failed",
}


def phase_word(step: StepCounts) -> Piece:
    """Return what the phase says of itself, in few words."""
    if step.running:
        return "running", "running"
    if step.phase_status is None:
        return "-", "muted"
    word = _PHASE_WORDS.get(step.phase_status, step.phase_status.replace("_", " "))
    if word == "completed":
        return word, "warn" if disagreement(step) else "muted"
    bad = word in ("failed", "with failures")
    return word, "failed" if bad else "muted"

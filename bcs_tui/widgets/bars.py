"""Progress as text: thin lines in which failures have a shape of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bcs_tui.format import TIMES
from bcs_tui.widgets.ink import Line, Piece
from engine import StepCounts

_UNICODE: Final = {
    "done": "━", "half": "╸", "failed": TIMES, "unknown": "?", "skipped": "╌", "rest": "─"
}  # fmt: skip
_ASCII: Final = _UNICODE | {"done": "=", "half": ">", "failed": "x", "skipped": " ", "rest": "-"}


def progress(step: StepCounts, width: int, *, ascii_only: bool = False) -> Line:
    """Return the bar of a step: completed, failed, unknown, skipped and pending ones.

    The worst are never hidden: a full bar means that every essay completed; a single failure
    takes a cell.
    """
    chars = _ASCII if ascii_only else _UNICODE
    unknown = 0
    if step.unknown:
        parts = (step.failed, step.unknown, *step.missing)
        failed, unknown, skipped, pending = _shares(parts, step, width)
    else:
        failed, skipped, pending = _shares((step.failed, step.skipped, step.pending), step, width)
    room = width - failed - unknown - skipped - pending
    half = 0
    if pending and step.completed and step.completed * width * 2 // step.total > room * 2:
        half, pending = 1, pending - 1
    pieces: list[Piece] = [
        (chars["done"] * room + chars["half"] * half, "running" if step.running else "done"),
        (chars["failed"] * failed, "failed"),
        (chars["unknown"] * unknown, "warn"),
        (chars["skipped"] * skipped, "faint"),
        (chars["rest"] * pending, "faint"),
    ]
    return [piece for piece in pieces if piece[0]]


def _shares(parts: Sequence[int], step: StepCounts, width: int) -> list[int]:
    """Return the cells of what is not completed, pending ones last: at least one for each.

    What completed gets the rest, which is none as long as nothing did.
    """
    total = step.total
    if total <= 0 or width <= 0:
        return [*[0] * (len(parts) - 1), max(0, width)]
    cells = [min(width, max(1, part * width // total)) if part else 0 for part in parts]
    if parts[-1]:  # completed is rounded down, so pending is rounded up
        done = step.completed * width // total
        cells[-1] = max(1, width - done - sum(cells[:-1]))
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    if not step.completed:
        cells[cells.index(max(cells))] += width - sum(cells)
    return cells


def track(fraction: float, width: int, *, ascii_only: bool = False) -> Line:
    """Return a position bar: what lies behind, and what is still to come."""
    chars = _ASCII if ascii_only else _UNICODE
    halves = int(min(max(fraction, 0.0), 1.0) * width * 2)
    done, half = divmod(halves, 2)
    return [
        (chars["done"] * done + chars["half"] * half, "accent"),
        (chars["rest"] * (width - done - half), "faint"),
    ]

"""The essays of a batch as cells: which come first, and what one line of a band looks like."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from bcs_tui.format import Glyph, clean, fit
from bcs_tui.widgets.ink import Line, Piece
from bcs_tui.widgets.states import INK_OF, step_state
from engine import Grid, Outcome, StepCounts

GROUP: Final = 10
"""So many essays stand together; the ruler counts in these."""

LABEL: Final = 18
"""The width of what stands in front of the cells."""


def worst_first(grid: Grid, steps: Sequence[str]) -> list[int]:
    """Return the positions of all essays: failed, then unfinished, then done."""
    count = len(grid.essay_ids)
    columns = [grid.outcomes.get(step) or bytes(count) for step in steps]
    if not columns:
        return list(range(count))
    ranks: dict[tuple[int, ...], tuple[int, int, int]] = {}
    keys = []
    for outcomes in zip(*columns, strict=True):
        rank = ranks.get(outcomes)
        if rank is None:
            failed = outcomes.count(Outcome.FAILED)
            pending = outcomes.count(Outcome.PENDING)
            rank = ranks[outcomes] = (0 if failed else 1 if pending else 2, -failed, -pending)
        keys.append(rank)
    order = {rank: place for place, rank in enumerate(sorted(set(ranks.values())))}
    places = [order[rank] for rank in keys]
    return sorted(range(count), key=places.__getitem__)


def state_in(step: StepCounts, outcome: int, *, readable: bool = True) -> str:
    """Return the state of a cell; what is missing after its phase has ended is skipped.

    Args:
        step: The step, over its batch.
        outcome: What is known of the essay.
        readable: Whether that is all; else what is missing is unknown.
    """
    if outcome:
        return "done" if outcome == Outcome.COMPLETED else "failed"
    if not readable:
        return "unknown"
    return "skipped" if step.skipped and not step.pending else "pending"


def label(step: StepCounts, glyphs: Glyph, *, chosen: bool) -> Line:
    """Return what stands in front of the cells of a step."""
    state = step_state(step)
    return [
        (" ", ""),
        (glyphs[state], INK_OF.get(state, "")),
        (" " + fit(clean(step.step, 40), LABEL - 4) + " ", "strong" if chosen else "muted"),
    ]


def cells(
    step: StepCounts,
    outcomes: bytes | bytearray | None,
    places: Sequence[int],
    cursor: int,
    glyphs: Glyph,
    unreadable: Collection[int] = (),
) -> Line:
    """Return the cells of a step, with the one under the cursor (or -1) marked."""
    looks = [
        (glyphs[state], INK_OF[state]) for state in (state_in(step, value) for value in range(3))
    ]
    unknown = (glyphs["unknown"], INK_OF["unknown"])
    pieces: list[Piece] = []
    run, run_ink = "", ""
    for at, place in enumerate(places):
        outcome = outcomes[place] if outcomes else 0
        glyph, ink = looks[outcome] if outcome or place not in unreadable else unknown
        if at and at % GROUP == 0:
            run += " "
        if at == cursor:
            pieces += [(run, run_ink), (glyph, f"{ink} cursor")]
            run = ""
        elif ink == run_ink:
            run += glyph
        else:
            pieces.append((run, run_ink))
            run, run_ink = glyph, ink
    pieces.append((run, run_ink))
    return [piece for piece in pieces if piece[0]]


def ruler(start: int, end: int, cursor: int) -> Line:
    """Return the numbers above a band, with a mark above the cursor."""
    text = " " * LABEL
    for number in range(start + 1, end + 1, GROUP):
        text += fit(str(number), GROUP + 1)
    if cursor < 0:
        return [(text, "quiet")]
    at = LABEL + cursor + cursor // GROUP
    text = text.ljust(at + 1)
    return [(text[:at], "quiet"), ("▾", "accent"), (text[at + 1 :], "quiet")]

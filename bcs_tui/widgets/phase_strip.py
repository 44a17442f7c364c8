"""The phases of a batch with what each of them needs, and the counts of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from bcs_tui.format import NOTHING, Glyph, clean, clock, compact, duration, fit, percent, rate
from bcs_tui.widgets.bars import progress
from bcs_tui.widgets.ink import Line, Piece, clip, width_of
from bcs_tui.widgets.states import disagreement, mark, phase_word, step_state
from engine import BatchSummary, StepCounts, dependencies

_FEWEST_RESULTS = 5


def tree_of(names: Sequence[str], needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the children of each phase (of `""`: the first ones), each phase under one parent.

    The parent is the needed phase that itself comes latest, so that the drawing says what a
    phase really waits for.
    """
    depth: dict[str, int] = {}

    def depth_of(name: str) -> int:
        if name not in depth:
            depth[name] = 0  # ends a circle, should there ever be one
            depth[name] = max(
                (depth_of(n) + 1 for n in needs.get(name, ()) if n in names), default=0
            )
        return depth[name]

    children: dict[str, list[str]] = {"": []}
    for name in names:
        parents = [need for need in needs.get(name, ()) if need in names]
        parent = max(parents, key=depth_of, default="")
        children.setdefault(parent, []).append(name)
    return children


def strip(summary: BatchSummary, glyphs: Glyph, width: int) -> list[Line]:
    """Return the phases as a tree that grows to the right."""
    steps = {step.step: step for step in summary.steps}
    children = tree_of(list(steps), dependencies())
    lines: list[Line] = []
    for root in children[""]:
        lines += _branch(root, children, steps, glyphs)
    return [clip([(" ", ""), *line], width) for line in lines]


def _branch(
    name: str,
    children: Mapping[str, Sequence[str]],
    steps: Mapping[str, StepCounts],
    glyphs: Glyph,
) -> list[Line]:
    step = steps[name]
    state = step_state(step)
    head: list[Piece] = [
        mark(state, glyphs),
        (f" {clean(name, 24)}", "strong" if step.running else ""),
    ]
    # The longest line of descent goes straight on; the others branch off below it.
    heirs = sorted(children.get(name, ()), key=lambda child: not children.get(child))
    if not heirs:
        return [head]
    lines: list[Line] = []
    indent = " " * (width_of(head) + 3)
    for number, heir in enumerate(heirs):
        last = number == len(heirs) - 1
        for row, line in enumerate(_branch(heir, children, steps, glyphs)):
            if number == 0 and row == 0:
                joint = " ─── " if last else " ─┬─ "
                lines.append([*head, (joint, "faint"), *line])
            elif row == 0:
                lines.append([(indent[:-1], ""), ("└─ " if last else "├─ ", "faint"), *line])
            else:
                lines.append([(indent[:-1], ""), ("   " if last else "│  ", "faint"), *line])
    return lines


_NUMBER: Final = 7


def heading(width: int, *, unknown: bool = False) -> Line:
    """Return the line above the counts, with a column for what is unknown if anything is."""
    titles = ["DONE", "FAIL", *(["UNKN"] if unknown else []), "SKIP", "PEND"]
    width -= _NUMBER * (len(titles) - 4)
    name, bar, wide = _widths(width)
    text = "   " + fit("STEP", name) + "".join(fit(title, _NUMBER, right=True) for title in titles)
    text += fit("%", 6, right=True) + "  " + fit("", bar) + ("  " if bar else "")
    text += fit("PHASE", 13)
    if wide:
        text += fit("RATE", 7, right=True) + fit("STARTED", 14, right=True)
    if width >= 76:
        text += fit("TOOK", 8, right=True)
    return [(text, "muted")]


def counts(
    step: StepCounts, now: datetime, glyphs: Glyph, width: int, *, unknown: bool = False
) -> Line:
    """Return the counts of one step; what is zero is drawn faintly."""
    full, width = width, width - (_NUMBER if unknown else 0)
    name, bar, wide = _widths(width)
    skipped, pending = step.missing
    line: list[Piece] = [(" ", ""), mark(step_state(step), glyphs), (" ", "")]
    line.append((fit(clean(step.step, 40), name), ""))
    for number, ink in (
        (step.completed, "done"),
        (step.failed, "failed"),
        *([(step.unknown, "warn")] if unknown else []),
        (skipped, "muted"),
        (pending, ""),
    ):
        line.append((fit(compact(number), _NUMBER, right=True), ink if number else "quiet"))
    line.append((fit(percent(step.completed, step.total), 6, right=True) + "  ", ""))
    if bar:
        line += progress(step, bar, ascii_only=glyphs.ascii_only)
        line.append(("  ", ""))
    word, ink = phase_word(step)
    if disagreement(step):
        word = f"{word} !"
    line.append((fit(word, 13), ink))
    if wide:
        line.append((fit(rate(pace(step, now)), 7, right=True), "muted"))
        line.append((fit(clock(step.started_at, now), 14, right=True), "muted"))
    if width >= 76:
        line.append((fit(took(step, now), 8, right=True), "muted"))
    if wide and disagreement(step):
        line.append((f"   but {step.completed:,} of {step.total:,} essays did", "warn"))
    return clip(line, full)


def pace(step: StepCounts, now: datetime) -> float | None:
    """Return results per minute since the phase began; `None` while there are too few."""
    finished = step.completed + step.failed
    if step.started_at is None or finished < _FEWEST_RESULTS:
        return None
    seconds = ((step.ended_at or now) - step.started_at).total_seconds()
    return finished * 60 / seconds if seconds > 0 else None


def took(step: StepCounts, now: datetime) -> str:
    """Return how long the phase took, or has been going on."""
    if step.started_at is None or (step.ended_at is None and not step.running):
        return NOTHING
    return duration(((step.ended_at or now) - step.started_at).total_seconds())


def _widths(width: int) -> tuple[int, int, bool]:
    """Return the widths of the name and of the bar, and whether there is room for more."""
    name = 14
    wide = width >= 100
    used = 3 + name + 28 + 6 + 2 + 13 + (21 if wide else 0) + (8 if width >= 76 else 0)
    spare = width - used - 3
    if spare < 4:
        return name + max(0, min(4, spare + 2)), 0, wide
    bar = min(24, spare)
    return name + min(10, spare - bar), bar, wide

"""The phases of a batch with what each of them needs, and the counts of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from bcs_tui.format import NOTHING, Glyph, clean, clock, compact, duration, fit, percent, rate
from bcs_tui.widgets.bars import progress
from bcs_tui.widgets.ink import Line, Piece, clip, width_of
from bcs_tui.widgets.states import disagreement, mark, phase_word, step_state
from engine import BatchSummary, StepCounts, dependencies

_FEWEST_RESULTS = 5
_NAME, _PHASE = 14, 13
_ROOMY = 66


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


class Widths(NamedTuple):
    """How the columns of the counts share out a width; `bar` may be 0."""

    name: int
    number: int
    percent: int
    gap: int
    bar: int
    took: bool
    more: bool


def heading(width: int, *, unknown: bool = False) -> Line:
    """Return the line above the counts, with a column for what is unknown if anything is."""
    titles = ["DONE", "FAIL", *(["UNKN"] if unknown else []), "SKIP", "PEND"]
    to = _widths(width, len(titles))
    text = "   " + fit("STEP", to.name)
    text += "".join(fit(title, to.number, right=True) for title in titles)
    text += fit("%", to.percent, right=True) + " " * to.gap
    text += fit("", to.bar) + ("  " if to.bar else "") + fit("PHASE", _PHASE)
    if to.more:
        text += fit("RATE", 7, right=True) + fit("STARTED", 14, right=True)
    if to.took:
        text += fit("TOOK", 8, right=True)
    return [(text, "muted")]


def counts(
    step: StepCounts, now: datetime, glyphs: Glyph, width: int, *, unknown: bool = False
) -> Line:
    """Return the counts of one step; what is zero is drawn faintly."""
    to = _widths(width, 5 if unknown else 4)
    skipped, pending = step.missing
    line: list[Piece] = [(" ", ""), mark(step_state(step), glyphs), (" ", "")]
    line.append((fit(clean(step.step, 40), to.name), ""))
    for number, ink in (
        (step.completed, "done"),
        (step.failed, "failed"),
        *([(step.unknown, "warn")] if unknown else []),
        (skipped, "muted"),
        (pending, ""),
    ):
        line.append((fit(compact(number), to.number, right=True), ink if number else "quiet"))
    part = fit(percent(step.completed, step.total), to.percent, right=True)
    line.append((part + " " * to.gap, ""))
    if to.bar:
        line += progress(step, to.bar, ascii_only=glyphs.ascii_only)
        line.append(("  ", ""))
    word, ink = phase_word(step)
    differs = disagreement(step)
    line.append((fit(f"{fit(word, _PHASE - 2).rstrip()} !" if differs else word, _PHASE), ink))
    if to.more:
        line.append((fit(rate(pace(step, now)), 7, right=True), "muted"))
        line.append((fit(clock(step.started_at, now), 14, right=True), "muted"))
    if to.took:
        line.append((fit(took(step, now), 8, right=True), "muted"))
    but: Line = [(f"   but {step.completed:,} of {step.total:,} essays did", "warn")]
    if differs and width_of(line) + width_of(but) <= width:
        line += but
    return clip(line, width)


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


def _widths(width: int, numbers: int) -> Widths:
    """Share out a width among the name, so many numbers, and what else there is room for."""
    number, percent_room, gap = (7, 6, 2) if width >= _ROOMY else (6, 5, 1)
    more, lasted = width >= 100, width >= 76
    used = 3 + _NAME + number * numbers + percent_room + gap + _PHASE
    used += (21 if more else 0) + (8 if lasted else 0)
    if used > width and lasted:
        lasted, used = False, used - 8
    spare = width - used - 3
    if spare < 4:
        name = _NAME + max(0, min(4, spare + 2))
        return Widths(name, number, percent_room, gap, 0, lasted, more)
    bar = min(24, spare)
    name = _NAME + min(10, spare - bar)
    return Widths(name, number, percent_room, gap, bar, lasted, more)

"""One essay: what is known of it in every step, to the last detail."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from rich.cells import cell_len, chop_cells
from textual.binding import Binding, BindingType
from textual.widget import Widget

from bcs_tui.format import CRUMB, Glyph, clean, clock, duration, fit, stamp
from bcs_tui.screens.page import Context, Page
from bcs_tui.widgets.ink import Line
from bcs_tui.widgets.line_view import LineView, Sight
from bcs_tui.widgets.states import INK_OF, mark
from engine import OUTCOME_NAMES, BCSError, EssayState, Outcome, StepCounts, StepFact, View, told

_LONGEST_VALUE = 4_000
_NAME = 18
_KEY = 26
_WITH_SOURCE = 70
"""From this width on the table has room for the source of a result; the details have it always."""

_ERROR_KEYS = ("error", "error_message", "error_detail", "error_code", "reason")
_DURATION_KEYS = ("processing_duration_ms", "processing_time_ms", "duration_ms")


class Lines:
    """Lines that are made at once for a width; a source for a `LineView` without a cursor."""

    def __init__(self) -> None:
        self._lines: Sequence[Line] = ()
        self._sights: list[Sight] = []

    def take(self, lines: Sequence[Line]) -> None:
        """Take new lines; those that are equal stay the same."""
        old = self._lines
        self._sights = [
            self._sights[i] if i < len(old) and old[i] == line else Sight(line)
            for i, line in enumerate(lines)
        ]
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def key(self, index: int) -> str:
        return str(index)

    def find(self, key: str) -> int | None:
        return int(key) if int(key) < len(self._lines) else None

    def sight(self, index: int) -> Sight:
        return self._sights[index]

    def paint(self, index: int, width: int) -> Line:
        return self._lines[index]


class EssayScreen(Page):
    """An essay that was opened from its batch."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "reload", show=False)]
    HINTS: ClassVar[Sequence[tuple[str, str]]] = (
        ("Esc", "batch"),
        ("j k", "scroll"),
        ("y", "copy id"),
    )
    KEYS: ClassVar[Sequence[tuple[str, str]]] = (
        ("j k   ↑ ↓", "scroll"),
        ("r", "read the essay again"),
    )

    def __init__(self, context: Context, batch_id: str, essay_id: str) -> None:
        super().__init__(context)
        self.batch_id = batch_id
        self.essay_id = essay_id
        self._lines = Lines()
        self.main = LineView(self._lines, id="main", cursor=False)
        self._essay: EssayState | None = None
        self._is_read = False
        self._seen: object = None
        self._steps: tuple[StepCounts, ...] = ()

    def body(self) -> Iterable[Widget]:
        yield self.main

    def update_view(self, view: View, changed: Iterable[str] | None) -> None:
        row = view.batches.get(self.batch_id)
        self._steps = row.summary.steps if row else ()
        if row is not self._seen and (self.may_settle() or not self._is_read):
            self._seen = row
            self.action_reload()
        self._draw()

    def batches_on_screen(self) -> Collection[str]:
        return (self.batch_id,)

    def second(self) -> None:
        row = self.view.batches.get(self.batch_id) if self.view else None
        if row is not self._seen:
            self._seen = row
            self.action_reload()

    def action_reload(self) -> None:
        """Read the essay again."""
        self.run_worker(self._read(), group="essay", exclusive=True)

    async def _read(self) -> None:
        try:
            self._essay = await self.context.engine.essay(self.batch_id, self.essay_id)
        except BCSError as error:
            self.say(str(error), "warn")
            return
        self._is_read = True
        self._draw()

    def _draw(self) -> None:
        view, main = self.view, self.main
        if view is None:
            return
        if self._essay is None:
            text = "   nothing is known of this essay" if self._is_read else "   reading …"
            self._lines.take([[], [(text, "muted")]])
        else:
            width = max(20, main.size.width)
            self._lines.take(
                essay_lines(
                    self.batch_id, self._essay, self._steps, view.now, self.context.glyphs, width
                )
            )
        main.update_rows()

    def on_resize(self) -> None:
        self._draw()

    def heading(self, view: View) -> tuple[Sequence[Line], Line]:
        left: Line = [
            (f"Fleet{CRUMB}{clean(self.batch_id, 13)}{CRUMB}", "muted"),
            (clean(self.essay_id, 80), "strong"),
        ]
        file_name = clean(self._essay.file_name, 60) if self._essay else ""
        return [left, [(file_name, "")]] if file_name else [left], []

    def selected_id(self) -> str | None:
        return self.essay_id


def essay_lines(
    batch_id: str,
    essay: EssayState,
    steps: Sequence[StepCounts],
    now: datetime,
    glyphs: Glyph,
    width: int,
) -> list[Line]:
    """Return everything that is known of an essay; what is long is broken, not cut."""
    counts = {step.step: step for step in steps}
    names = [*counts, *sorted(set(essay.steps).difference(counts))]
    head = "   " + fit("STEP", _NAME) + fit("STATE", 12) + fit("AT", 13)
    head += fit("TOOK", 9, right=True)
    lines: list[Line] = [[(head + ("   SOURCE" if width >= _WITH_SOURCE else ""), "muted")]]
    for name in names:
        shown = clean(name, _LONGEST_VALUE)
        if cell_len(shown) >= _NAME:
            lines += _broken(shown, "   ", width)
            shown = ""
        fact = essay.steps.get(name)
        line = _step_line(shown, fact, counts.get(name), now, glyphs, essay.trouble)
        lines.append(line if width >= _WITH_SOURCE else line[:-1])
    known = [(name, fact) for name in names if (fact := essay.steps.get(name)) is not None]
    for name, fact in sorted(known, key=lambda item: item[1].outcome != Outcome.FAILED):
        lines += _details(name, fact, width)
    lines += [[], [("   essay", "strong")]]
    for title, value in (
        ("batch", batch_id),
        ("essay", essay.essay_id),
        ("file", essay.file_name or "-"),
        ("first seen", stamp(told(essay.created_at))),
        ("last update", stamp(told(essay.last_updated))),
    ):
        lines += _entry(title, value, "", width)
    if essay.trouble:
        lines += _entry("cannot be read", essay.trouble, "warn", width)
    return lines


def _step_line(
    name: str,
    fact: StepFact | None,
    step: StepCounts | None,
    now: datetime,
    glyphs: Glyph,
    trouble: str,
) -> Line:
    state = "pending"
    if fact is not None and fact.outcome:
        state = "done" if fact.outcome == Outcome.COMPLETED else "failed"
    elif trouble:
        state = "unknown"
    elif step is not None and step.skipped and not step.pending:
        state = "skipped"
    took = duration(_seconds(_metadata(fact))) if fact else "-"
    return [
        (" ", ""),
        mark(state, glyphs),
        (" " + fit(name, _NAME), ""),
        (fit("completed" if state == "done" else state, 12), INK_OF[state]),
        (fit(clock(told(fact.time), now) if fact else "-", 13), ""),
        (fit(took, 9, right=True), ""),
        (f"   {_source(fact)}" if fact else "", "muted"),
    ]


def _source(fact: StepFact) -> str:
    """Return what kind of event told a result: of the batch, of the essay, of it in full."""
    return ("batch result", "own result", "rich result")[min(fact.detail, 2)]


def _details(name: str, fact: StepFact, width: int) -> list[Line]:
    """Return the metadata of a step, what explains a failure first."""
    metadata = _metadata(fact)
    lines: list[Line] = [[], *_broken(clean(name, _LONGEST_VALUE), "   ", width, "strong")]
    lines[-1] = [*lines[-1], (f"  {OUTCOME_NAMES[fact.outcome]}", "muted")]
    for key in sorted(metadata, key=lambda key: (key not in _ERROR_KEYS, key)):
        bad = key in _ERROR_KEYS and fact.outcome == Outcome.FAILED
        for path, value in _leaves(key, metadata[key]):
            lines += _entry(path, value, "failed" if bad else "", width)
    lines += _entry("time", stamp(told(fact.time)), "", width)
    lines += _entry("source", _source(fact), "", width)
    if fact.event_id:
        lines += _entry("event", fact.event_id, "muted", width)
    return lines


def _broken(text: str, indent: str, width: int, ink: str = "") -> list[Line]:
    """Return a text in as many lines as it takes."""
    room = max(10, width - len(indent) - 12)
    return [[(indent + part, ink)] for part in chop_cells(text, room)]


def _leaves(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Return the values of nested objects with their paths."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}", inner)


def _entry(key: str, value: Any, ink: str, width: int) -> list[Line]:
    """Return a key and its value, broken into as many lines as it takes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    room = max(10, width - _KEY - 6)
    rows: list[str] = []
    for paragraph in text[:_LONGEST_VALUE].split("\n"):
        shown = clean(paragraph, _LONGEST_VALUE)
        rows += chop_cells(shown, room) or [""]
    if len(text) > _LONGEST_VALUE:
        rows.append(f"… {len(text) - _LONGEST_VALUE:,} more characters")
    name = clean(key, _LONGEST_VALUE)
    above = _broken(name, "     ", width, "muted") if cell_len(name) >= _KEY else []
    label = "     " + fit("" if above else name, _KEY)
    return above + [
        [(label if number == 0 else " " * len(label), "muted"), (row, ink)]
        for number, row in enumerate(rows)
    ]


def _metadata(fact: StepFact | None) -> dict[str, Any]:
    """Return the metadata of a result; it was a JSON object when it was accepted."""
    if fact is None:
        return {}
    value = json.loads(fact.metadata)
    return value if isinstance(value, dict) else {"metadata": value}


def _seconds(metadata: dict[str, Any]) -> float | None:
    """Return how long the step took, where the metadata tells."""
    for key in _DURATION_KEYS:
        value = metadata.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value / 1000
    return None

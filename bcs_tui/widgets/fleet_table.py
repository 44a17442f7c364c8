"""The fleet as rows: which batches, in which order, and how one of them is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from bcs_tui.format import ELLIPSIS, Glyph, age, clean, compact, fit, percent, rate
from bcs_tui.widgets.bars import progress
from bcs_tui.widgets.filter import Filter, parse_filter
from bcs_tui.widgets.fleet_columns import Columns, plan_columns
from bcs_tui.widgets.fleet_orders import FAR, FIELDS, ORDERS, lets_through
from bcs_tui.widgets.ink import Line, Piece
from bcs_tui.widgets.line_view import Sight
from bcs_tui.widgets.states import mark, outlook, state_of
from engine import BatchRow, StepCounts

SHORT_STEPS: Final = {
    "spellcheck": "SPELL",
    "cj_assessment": "CJ",
    "nlp": "NLP",
    "ai_feedback": "AI",
}
_KNOWN_ORDER: Final = ("spellcheck", "cj_assessment", "nlp", "ai_feedback")
_MOST_STEPS = 6


class FleetRows:
    """The batches that the filter lets through, sorted; a source for a `LineView`.

    Rows are drawn from the newest view at once. Their order is a matter of `settle`, which the
    screen calls once or twice a second, so that nothing jumps about.
    """

    def __init__(self, glyphs: Glyph) -> None:
        self.order_name = "worst first"
        self.reverse = False
        self.filter = Filter("", ())
        self.steps: tuple[str, ...] = ()
        self.now = FAR
        self._glyphs = glyphs
        self._rows: Mapping[str, BatchRow] = {}
        self._keys: dict[str, Any] = {}
        self._shown: list[str] = []
        self._place: dict[str, int] = {}
        self._unsettled: set[str] = set()
        self._all_unsettled = True
        self._columns: tuple[int, tuple[str, ...], Columns] | None = None

    # --- what is there ---------------------------------------------------------------------

    def take(self, rows: Mapping[str, BatchRow], changed: Iterable[str], now: datetime) -> None:
        """Take the rows of a view and the ids of those that changed."""
        # A replay that goes back takes batches away; none of them may be drawn any more.
        shrunk = len(rows) < len(self._rows)
        self._rows = rows
        self.now = now
        self._unsettled.update(changed)
        if shrunk:
            self._all_unsettled = True
            self.settle()

    @property
    def known(self) -> Mapping[str, BatchRow]:
        """The rows of the view that was taken last."""
        return self._rows

    @property
    def is_settled(self) -> bool:
        """Whether order and filter take account of every change."""
        return not (self._unsettled or self._all_unsettled)

    def settle(self) -> None:
        """Sort and filter anew, at a cost that follows what changed."""
        if self._all_unsettled:
            key_of = ORDERS[self.order_name]
            self._keys = {
                batch_id: key_of(row)
                for batch_id, row in self._rows.items()
                if lets_through(self.filter, row)
            }
            self._arrange(list(self._keys))
        else:
            self._settle_changed()
        for batch_id in self._unsettled:
            if row := self._rows.get(batch_id):
                self._note_steps(row)
        self._unsettled.clear()
        self._all_unsettled = False

    def _settle_changed(self) -> None:
        """Sort and filter what changed; nothing moves where all keys are what they were."""
        rows, keys, key_of = self._rows, self._keys, ORDERS[self.order_name]
        come = []
        moved = False
        for batch_id in self._unsettled:
            row = rows.get(batch_id)
            key = key_of(row) if row is not None and lets_through(self.filter, row) else None
            old = keys.get(batch_id)
            if key == old:
                continue
            moved = True
            if key is None:
                del keys[batch_id]
                continue
            keys[batch_id] = key
            if old is None:
                come.append(batch_id)
        if moved:
            self._arrange([batch_id for batch_id in self._shown if batch_id in keys] + come)

    def _arrange(self, order: list[str]) -> None:
        """Show batches in the order of their keys; one that is nearly right already is cheap."""
        order.sort(key=self._keys.__getitem__, reverse=self.reverse)
        self._shown = order
        self._place = {batch_id: index for index, batch_id in enumerate(order)}

    def _note_steps(self, row: BatchRow) -> None:
        new = {step.step for step in row.summary.steps}.difference(self.steps)
        if new and len(self.steps) < _MOST_STEPS:
            names = new.union(self.steps)
            known = [name for name in _KNOWN_ORDER if name in names]
            self.steps = (*known, *sorted(names.difference(known)))[:_MOST_STEPS]

    def sort_by(self, order_name: str, reverse: bool) -> None:
        """Choose another order."""
        self.order_name, self.reverse = order_name, reverse
        self._all_unsettled = True
        self.settle()

    def filter_by(self, text: str) -> None:
        """Choose another filter."""
        self.filter = parse_filter(text, FIELDS)
        self._all_unsettled = True
        self.settle()

    # --- as rows ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._shown)

    def key(self, index: int) -> str:
        return self._shown[index]

    def find(self, key: str) -> int | None:
        return self._place.get(key)

    def row(self, key: str | None) -> BatchRow | None:
        """Return a batch of the newest view."""
        return self._rows.get(key) if key is not None else None

    def sight(self, index: int) -> Sight:
        row = self._rows[self._shown[index]]
        changing = age(row.summary.started_at, self.now)
        if row.stalled_since is not None:
            changing += outlook(row, self.now)[0]
        return Sight(row, changing)

    def columns(self, width: int) -> Columns:
        """Return the columns for a width."""
        known = self._columns
        if known and known[:2] == (width, self.steps):
            return known[2]
        columns = plan_columns(width, len(self.steps) or len(_KNOWN_ORDER))
        self._columns = (width, self.steps, columns)
        return columns

    def heading(self, width: int) -> Line:
        """Return the line above the rows."""
        columns = self.columns(width)
        cells: list[str] = ["   ", fit("BATCH", columns.batch)]
        if columns.pipeline:
            cells.append("  " + fit("PIPELINE", columns.pipeline))
        if columns.step:
            cells.append(fit("ESSAYS", columns.essays, right=True))
            for name in self.steps or _KNOWN_ORDER:
                title = name.upper() if columns.step >= len(name) else SHORT_STEPS.get(name)
                cells.append("  " + fit(title or clean(name).upper(), columns.step))
        else:
            cells.append(fit("DONE", columns.done, right=True))
        cells.append(fit("FAIL", columns.fail, right=True))
        if columns.at:
            cells.append("  " + fit("STEP", columns.at))
        if columns.rate:
            cells.append(fit("RATE", columns.rate, right=True))
        cells.append(fit("ETA", columns.eta, right=True))
        if columns.age:
            cells.append(fit("AGE", columns.age, right=True))
        return [("".join(cells), "muted")]

    def paint(self, index: int, width: int) -> Line:
        row = self._rows[self._shown[index]]
        summary, columns = row.summary, self.columns(width)
        state = state_of(row)
        over = state in ("done", "cancelled")
        line: list[Piece] = [
            mark("disputed", self._glyphs) if summary.is_disputed else (" ", ""),
            mark(state, self._glyphs),
            (" " + fit(clean(summary.batch_id, 80), columns.batch), "muted" if over else ""),
        ]
        if columns.pipeline:
            line.append(("  " + fit(clean(summary.pipeline or "-"), columns.pipeline), "muted"))
        if columns.step:
            total = compact(summary.total)
            if summary.expected is None:
                total = f"≥{total}"
            line.append((fit(total, columns.essays, right=True), "muted"))
            steps = {step.step: step for step in summary.steps}
            for name in self.steps:
                line.append(("  ", ""))
                if steps:
                    line += self._step(steps.get(name), columns.step)
                else:
                    line.append((" " * columns.step, ""))
        else:
            line.append((fit(_done_percent(row), columns.done, right=True), ""))
        failed = summary.failed
        line.append(
            (fit(compact(failed), columns.fail, right=True), "failed" if failed else "quiet")
        )
        if columns.at:
            line.append(("  " + fit(_current(row), columns.at), "muted"))
        if columns.rate:
            pace = row.rate_per_minute if summary.status == "processing" else None
            word = ELLIPSIS if row.is_measuring else rate(pace)
            line.append((fit(word, columns.rate, right=True), "" if pace else "quiet"))
        text, ink = outlook(row, self.now)
        line.append((fit(text, columns.eta, right=True), ink))
        if columns.age:
            text, ink = age(summary.started_at, self.now), "muted"
            if row.is_ahead:
                text, ink = "ahead", "warn"
            line.append((fit(text, columns.age, right=True), ink))
        return line

    def _step(self, step: StepCounts | None, width: int) -> Line:
        if step is None:
            return [(fit("n/a", width), "quiet")]
        ascii_only = self._glyphs.ascii_only
        if width < 10:
            return progress(step, width, ascii_only=ascii_only)
        number = percent(step.completed, step.total).rjust(4) + " "
        ink = "muted" if step.completed in (0, step.total) else ""
        return [(number, ink), *progress(step, width - len(number), ascii_only=ascii_only)]


def _done_percent(row: BatchRow) -> str:
    steps = row.summary.steps
    return percent(sum(step.completed for step in steps), sum(step.total for step in steps))


def _current(row: BatchRow) -> str:
    """Return the short name of the step that failed, is worked on, or is missing first."""
    steps = row.summary.steps
    if state_of(row) == "failed":
        step = next((step for step in steps if step.failed), None)
    else:
        step = next((step for step in steps if step.running), None) or next(
            (step for step in steps if step.pending), None
        )
    return SHORT_STEPS.get(step.step, clean(step.step)).lower() if step else "-"

"""The fleet: every batch in a line, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from bcs_tui.format import clean, count
from bcs_tui.screens.batch import BatchScreen
from bcs_tui.screens.filtered import FilteredPage
from bcs_tui.screens.page import Context
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.event_log import line_of
from bcs_tui.widgets.fleet_orders import ORDERS
from bcs_tui.widgets.fleet_table import FleetRows
from bcs_tui.widgets.focus import focus
from bcs_tui.widgets.ink import Line
from bcs_tui.widgets.line_view import LineView
from bcs_tui.widgets.preview import preview
from bcs_tui.widgets.states import INK_OF, WORST_FIRST, state_of
from engine import BatchRow, Mode, View


class FleetScreen(FilteredPage):
    """All batches, what is the matter with the selected one, and the newest events."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", show=False),
        Binding("S", "reverse", show=False),
    ]
    FILTER_HINT: ClassVar[str] = "text  state:failed  owner:x  is:audit  !x"
    HINTS: ClassVar[Sequence[tuple[str, str]]] = (
        ("Enter", "open"),
        ("/", "filter"),
        ("s", "sort"),
        (":", "command"),
        ("2", "events"),
        ("3", "dead letters"),
        ("q", "quit"),
    )
    KEYS: ClassVar[Sequence[tuple[str, str]]] = (
        ("Enter", "open the batch"),
        ("/", "filter: all words must match; !x must not"),
        ("", "state:failed,stalled  owner:x  pipeline:x  step:x"),
        ("", "is:audit  a stored count contradicts the essays"),
        ("s   S", "next order, reverse it"),
        ("n   N", "next, previous row, round and round"),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.rows = FleetRows(context.glyphs)
        self._states: dict[str, str] = {}
        self._tally: Counter[str] = Counter()
        self._was_starting = True
        self.columns = Block(id="columns")
        self.table = LineView(self.rows, id="main")
        self.empty = Block(id="empty")
        self.focus_block = Block(id="focus")
        self.newest = Block(id="newest")
        self.preview = Block(id="preview")

    def body(self) -> Iterable[Widget]:
        below = (self.empty, self.focus_block, self.newest)
        main = Vertical(self.columns, self.table, *below, id="fleet-list")
        yield Horizontal(main, self.preview, id="fleet")

    # --- drawing ---------------------------------------------------------------------------

    def update_view(self, view: View, changed: Iterable[str] | None) -> None:
        known = self.rows.known
        if changed is None or len(view.batches) < len(known):
            changed = [name for name, row in view.batches.items() if known.get(name) is not row]
        # A replay that went back may have taken away what changed before.
        changed = [name for name in changed if name in view.batches]
        self._count(view.batches, changed)
        self.rows.take(view.batches, changed, view.now)
        is_starting = view.health.mode is Mode.STARTING
        is_complete, self._was_starting = self._was_starting and not is_starting, is_starting
        if not self.rows.is_settled and (is_complete or not len(self.rows) or self.may_settle()):
            self._settle()
        self.table.update_rows()
        self.columns.show(lambda width: [self.rows.heading(width - 1)])
        glyphs = self.context.glyphs
        newest = [entry for entry in view.log[-12:] if entry.fate != "ignored"][::-1]
        self.newest.show(
            lambda width: [
                line_of(entry, view.now, glyphs, width)
                for entry in newest[: self.newest.size.height]
            ]
        )
        self._show_selected()
        self.set_class(not len(self.rows), "-nothing")
        self.empty.show(lambda _width: self._empty(view))

    def batches_on_screen(self) -> Collection[str]:
        return (*self.table.visible_keys(), self.table.key or "")

    def _count(self, rows: Mapping[str, BatchRow], changed: Sequence[str]) -> None:
        """Keep count of the states, at a cost that follows what changed."""
        if len(rows) < len(self._states):
            self._states = {name: self._states[name] for name in self._states if name in rows}
            self._tally = Counter(self._states.values())
        for name in changed:
            new, old = state_of(rows[name]), self._states.get(name)
            if new != old:
                self._tally[new] += 1
                if old is not None:
                    self._tally[old] -= 1
                self._states[name] = new

    def _settle(self) -> None:
        steps = self.rows.steps
        self.rows.settle()
        if self.rows.steps != steps:
            self.table.redraw()

    def second(self) -> None:
        if not self.rows.is_settled:
            self._settle()
            self.table.update_rows()

    def _show_selected(self) -> None:
        row, view = self.rows.row(self.table.key), self.view
        if row is None or view is None or not len(self.rows):
            self.focus_block.show(lambda _width: ())
            self.preview.show(lambda _width: ())
            return
        now, glyphs = view.now, self.context.glyphs
        self.focus_block.show(lambda width: focus(row, now, glyphs, width))
        self.preview.show(lambda width: preview(row, now, glyphs, width))

    def heading(self, view: View) -> tuple[Sequence[Line], Line]:
        shown, total = len(self.rows), len(view.batches)
        number = f"{count(shown)} of {count(total)}" if self.rows.filter.terms else count(total)
        noun = " batches" if total != 1 else " batch"
        parts: list[Line] = [[("Fleet", "strong"), (f"  {number}", ""), (noun, "muted")]]
        if self.rows.filter.terms:
            parts.append([("/", "muted"), (clean(self.rows.filter.text, 60), "accent")])
        for state in WORST_FIRST:
            if (of_state := self._tally[state]) and not self.rows.filter.terms:
                word = "problem" if (state, of_state) == ("problems", 1) else state
                parts.append([(f"{of_state:,} ", INK_OF[state]), (word, "muted")])
        order = self.rows.order_name + (", reversed" if self.rows.reverse else "")
        place = f"  {self.table.cursor + 1:,}/{shown:,}" if shown else ""
        return parts, [(order, "muted"), (place, "")]

    def _empty(self, view: View) -> list[Line]:
        if self.rows.filter.terms and view.batches:
            return [
                [("   No batch matches ", ""), (clean(self.rows.filter.text, 60), "accent")],
                [("   Esc clears the filter.", "muted")],
            ]
        state = view.health
        feed, backend = clean(state.feed, 60), clean(state.backend, 40)
        if state.trouble:
            word = "Stopped" if state.mode is Mode.FAILED else "Trying again"
            return [
                [(f"   {word}", "failed")],
                [("   The line at the top says why and what to do.", "")],
                [
                    (
                        "   q quits."
                        if state.read_only
                        else f"   {count(state.read)} events were read; q quits.",
                        "muted",
                    )
                ],
            ]
        if state.read_only and state.mode is Mode.STARTING:
            return [
                [("   Looking for batches", "strong")],
                [("   in ", "muted"), (backend, ""), ("; nothing is known yet.", "muted")],
            ]
        if state.read_only:
            return [
                [("   No batch yet", "strong")],
                [("   There is none in ", "muted"), (backend, "")],
                [("   One appears as soon as something of it was recorded.", "muted")],
            ]
        return [
            [("   No batch yet", "strong")],
            [("   Events are read from ", "muted"), (feed, ""), (" into ", "muted"), (backend, "")],
            [("   A batch appears with its first event; ", "muted"),
             (f"{count(state.read)} events were read so far.", "muted")],
        ]  # fmt: skip

    # --- keys ------------------------------------------------------------------------------

    @on(LineView.Moved)
    def _moved(self) -> None:
        self._show_selected()
        self.show_heading()

    @on(LineView.Chosen)
    def _chosen(self, event: LineView.Chosen) -> None:
        self.open_batch(event.key)

    def open_batch(self, batch_id: str) -> None:
        """Go to a batch."""
        if self.view is None or batch_id not in self.view.batches:
            self.say(f"no batch {batch_id}", "warn")
            return
        self.app.push_screen(BatchScreen(self.context, batch_id))

    def selected_id(self) -> str | None:
        return self.table.key if len(self.rows) else None

    def action_sort(self) -> None:
        """Go to the next order."""
        names = list(ORDERS)
        self.sort_by(names[(names.index(self.rows.order_name) + 1) % len(names)])

    def sort_by(self, order: str, reverse: bool = False) -> None:
        """Sort by an order of that name."""
        self.rows.sort_by(order, reverse)
        self.table.update_rows()
        self.show_heading()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.sort_by(self.rows.order_name, not self.rows.reverse)

    @property
    def filtered(self) -> FleetRows:
        return self.rows

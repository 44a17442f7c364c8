"""The events log: what came in, newest at the bottom, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from bcs_tui.format import CRUMB, clean, count, fit, stamp
from bcs_tui.screens.filtered import FilteredPage
from bcs_tui.screens.page import Context
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.event_log import EventRows, columns, short_type, tell
from bcs_tui.widgets.ink import Line, Piece
from bcs_tui.widgets.line_view import LineView
from engine import Event, Ignored, View


class EventsScreen(FilteredPage):
    """The newest events."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", show=False),
    ]
    FILTER_HINT: ClassVar[str] = "text  fate:dup  batch:x  !x"
    HINTS: ClassVar[Sequence[tuple[str, str]]] = (
        ("f", "follow"),
        ("/", "filter"),
        ("1", "fleet"),
        ("3", "dead letters"),
        ("q", "quit"),
    )
    KEYS: ClassVar[Sequence[tuple[str, str]]] = (
        ("f", "follow the newest event, or stay"),
        ("/", "filter: all words must match; !x must not"),
        ("", "fate:duplicate  batch:x  essay:x  step:x  type:x"),
        ("n   N", "next, previous row"),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.rows = EventRows(context.glyphs)
        self.follows = True
        self.columns = Block(id="columns")
        self.table = LineView(self.rows, id="main")
        self.empty = Block(id="empty")
        self.details = Block(id="details")

    def body(self) -> Iterable[Widget]:
        return (self.columns, self.table, self.empty, self.details)

    def update_view(self, view: View, changed: Iterable[str] | None) -> None:
        self.rows.take(view.log, view.now)
        table = self.table
        if self.follows and len(self.rows):
            table.key = self.rows.key(len(self.rows) - 1)
        table.update_rows()
        if self.follows:
            table.scroll_to(y=max(0, len(self.rows) - table.size.height), animate=False)
        self.columns.show(_columns)
        self.set_class(not len(self.rows), "-nothing")
        word = "No event matches the filter; Esc clears it." if view.log else "No event yet."
        if view.health.read_only:
            word = "An observer sees how batches stand, and not the events that others record."
        self.empty.show(lambda _width: [[(f"   {word}", "")]])
        self._show_details()

    def _show_details(self) -> None:
        entry = self.rows.entry(self.table.key)
        if entry is None:
            self.details.show(lambda _width: ())
            return
        event, told = entry.event, tell(entry)
        first: list[Piece] = [(f" {entry.number:,}", "strong"), (f"  {entry.fate}", "accent")]
        if isinstance(event, Event | Ignored):
            first.append((f"  {clean(short_type(event), 120)}", ""))
        second: list[Piece] = [(f" {stamp(told.time)}  ", "muted")]
        if isinstance(event, Event):
            second.append((f"event {clean(event.event_id)}  {_facts(event)}", "muted"))
        else:
            second.append((clean(told.text, 400), ""))
        ids = CRUMB.join(clean(name, 400) for name in (told.batch, told.essay) if name)
        self.details.show(lambda _width: [first, second, [(f" {ids}", "")]])

    def heading(self, view: View) -> tuple[Sequence[Line], Line]:
        state = view.health
        newest = f"  newest {count(len(view.log))} "
        parts: list[Line] = [
            [("Events", "strong"), (newest, ""), (f"of {count(state.read)}", "muted")]
        ]
        if self.rows.filter.terms:
            parts.append([("/", "muted"), (clean(self.rows.filter.text, 60), "accent")])
            parts.append([(f"{count(len(self.rows))} match", "muted")])
        for name, number, ink in (
            ("dead letters", state.dead_letters, "failed"),
            ("duplicates", state.duplicates, ""),
            ("ignored", state.ignored, ""),
            ("applied", state.applied, "done"),
        ):
            parts.append([(f"{count(number)} ", ink if number else "muted"), (name, "muted")])
        follow: Piece = ("following", "accent") if self.follows else ("staying", "muted")
        return parts, [follow]

    @on(LineView.Moved)
    def _moved(self, event: LineView.Moved) -> None:
        self.follows = self.table.cursor == len(self.rows) - 1
        self._show_details()
        self.show_heading()

    def action_follow(self) -> None:
        """Follow the newest event, or stay."""
        self.follows = not self.follows
        if self.view is not None:
            self.show(self.view, ())

    @property
    def filtered(self) -> EventRows:
        return self.rows

    def selected_id(self) -> str | None:
        entry = self.rows.entry(self.table.key)
        if entry is None or not isinstance(entry.event, Event):
            return None
        return entry.event.event_id


def _facts(event: Event) -> str:
    number = len(event.facts)
    return f"{number:,} facts" if number != 1 else "1 fact"


def _columns(width: int) -> list[Line]:
    to = columns(width - 1)  # the gutter of the scroll bar is not part of the rows
    text = f" {fit('TIME', to.time)}     {fit('BATCH', to.batch)}  "
    if to.essay:
        text += fit("ESSAY", to.essay) + "  "
    return [[(text + "WHAT", "muted")]]

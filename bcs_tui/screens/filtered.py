"""A page whose rows can be filtered: `/` asks, the rows follow every key, Esc clears."""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual import on
from textual.binding import Binding, BindingType

from bcs_tui.screens.page import Page
from bcs_tui.widgets.filter import Filter
from bcs_tui.widgets.line_view import LineView
from bcs_tui.widgets.prompt import Prompt


class FilteredRows(Protocol):
    """Rows that can leave some out."""

    @property
    def filter(self) -> Filter: ...

    def __len__(self) -> int: ...

    def filter_by(self, text: str) -> None:
        """Show only what matches."""
        ...


class FilteredPage(Page):
    """Shows one table of filtered rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "match(1)", show=False),
        Binding("N", "match(-1)", show=False),
    ]
    FILTER_HINT: ClassVar[str]

    table: LineView

    @property
    def filtered(self) -> FilteredRows:
        """The rows that the filter is about."""
        raise NotImplementedError

    def action_match(self, step: int) -> None:
        """Go to the next row that matches, round and round."""
        if count := len(self.filtered):
            self.table.move_cursor((self.table.cursor + step) % count)

    def action_filter(self) -> None:
        self.ask("filter", "/", self.filtered.filter.text, hint=self.FILTER_HINT)

    @on(Prompt.Edited)
    def _edited(self, event: Prompt.Edited) -> None:
        if event.kind == "filter":
            self.filter_by(event.text)

    def answer(self, kind: str, text: str | None) -> None:
        if kind == "filter":
            self.filter_by(text or "")
        else:
            super().answer(kind, text)

    def filter_by(self, text: str) -> None:
        """Show only what matches."""
        self.filtered.filter_by(text)
        if self.view is not None:
            self.show(self.view, ())

    def clear(self) -> bool:
        if not self.filtered.filter.terms:
            return False
        self.filter_by("")
        return True

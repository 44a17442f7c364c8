"""A sheet of lines over a page: read, scrolled, closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from bcs_tui.screens.essay import Lines
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.ink import Line
from bcs_tui.widgets.line_view import LineView


class Sheet(ModalScreen[None]):
    """Shows lines until it is closed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", show=False)]
    AUTO_FOCUS = "LineView"

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        lines = Lines()
        lines.take(self._lines)
        yield LineView(lines, id="sheet", cursor=False)
        yield Block(id="sheet-keys")

    def on_mount(self) -> None:
        self.query_one("#sheet-keys", Block).show(
            lambda _width: [[("   Esc", "accent"), (" closes this", "muted")]]
        )

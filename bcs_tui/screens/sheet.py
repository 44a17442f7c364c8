"""A sheet of lines over a page: read, scrolled, closed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from bcs_tui.screens.essay import Lines
from bcs_tui.theme import INK_CLASSES
from bcs_tui.widgets.block import Block, Painter
from bcs_tui.widgets.ink import fitting
from bcs_tui.widgets.line_view import LineView


class Sheet(ModalScreen[None]):
    """Shows lines, made for the width there is, until it is closed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(INK_CLASSES)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", show=False)]
    AUTO_FOCUS = "LineView"

    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self._painter = painter
        self._lines = Lines()
        self._sheet = LineView(self._lines, id="sheet", cursor=False)

    def compose(self) -> ComposeResult:
        yield self._sheet
        yield Block(id="sheet-keys")

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        self._lines.take(self._painter(max(20, self._sheet.scrollable_content_region.width)))
        self._sheet.update_rows()

    def on_mount(self) -> None:
        self.query_one("#sheet-keys", Block).show(
            lambda width: [
                fitting(
                    [
                        [("   Esc", "accent"), (" closes this", "muted")],
                        [("j k", "accent"), (" scroll", "muted")],
                    ],
                    width,
                )
            ]
        )

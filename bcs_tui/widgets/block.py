"""A few lines of text that are painted anew only where they changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from bcs_tui.widgets.ink import EMPTY, Ink, Line

Painter = Callable[[int], Sequence[Line]]
"""Takes the width in cells and returns the lines."""


class Block(Widget):
    """Shows what its painter returns; the height comes from the style sheet."""

    DEFAULT_CSS = "Block { height: 1; }"
    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._painter: Painter = lambda _width: ()
        self._lines: Sequence[Line] = ()
        self._strips: dict[int, Strip] = {}
        self._ink: Ink | None = None

    def show(self, painter: Painter) -> None:
        """Take a new painter; only lines that come out different are drawn."""
        self._painter = painter
        width, height = self.size
        if not width:
            return
        old, self._lines = self._lines, painter(width)
        for y in range(height):
            if _line_at(old, y) != _line_at(self._lines, y):
                self._strips.pop(y, None)
                self.refresh(Region(0, y, width, 1))

    def set_height(self, height: int) -> None:
        """Take so many lines; a new layout only when it is another number."""
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    def on_resize(self, event: events.Resize) -> None:
        self._lines = self._painter(event.size.width)
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        self._ink = None
        super().notify_style_update()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the strips, from the cache where a line is still the same.

        Every block is asked in every frame, mostly for what it gave before. The inks apply the
        app's line filters, which overriding this method would pass over.
        """
        if self._ink is None:
            self._ink = Ink(self)
            self._strips.clear()
        width = self.size.width
        strips = []
        for y in crop.line_range:
            strip = self._strips.get(y)
            if strip is None:
                strip = self._strips[y] = self._ink.strip(_line_at(self._lines, y), width)
            strips.append(
                strip if crop.column_span == (0, width) else strip.crop(*crop.column_span)
            )
        return strips


def _line_at(lines: Sequence[Line], y: int) -> Line:
    return lines[y] if y < len(lines) else EMPTY

"""Lines as data: pieces of text with the ink they are drawn in, and how they become strips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip
from textual.widget import Widget

from bcs_tui.format import fit
from bcs_tui.theme import INKS

Piece: TypeAlias = tuple[str, str]
"""A text and the name of its ink; an empty name is the ordinary one."""

Line: TypeAlias = Sequence[Piece]

EMPTY: Final[Line] = ()


def width_of(line: Line) -> int:
    """Return how many terminal cells a line takes."""
    return sum(cell_len(text) for text, _ in line)


def spread(left: Line, right: Line, width: int) -> Line:
    """Return a line with one part at the left and one at the right; the left one gives way."""
    room = width - width_of(right)
    if room < 0:
        return clip(right, width)
    left = clip(left, room)
    return [*left, (" " * (room - width_of(left)), ""), *right]


def clip(line: Line, width: int) -> Line:
    """Return a line cut (with `…`, unless only blanks are lost) to at most `width` cells."""
    used = 0
    kept: list[Piece] = []
    for text, ink in line:
        cells = cell_len(text)
        if used + cells > width:
            kept.append((fit(text.rstrip(" "), width - used), ink))
            break
        kept.append((text, ink))
        used += cells
    return kept


def joined(parts: Iterable[Line], gap: str = "   ") -> Line:
    """Return the parts that are not empty in one line, with gaps between them."""
    line: list[Piece] = []
    for part in parts:
        if part:
            if line:
                line.append((gap, ""))
            line += part
    return line


def fitting(parts: Sequence[Line], width: int, gap: str = "   ") -> Line:
    """Return as many parts as fit whole, left out from the end."""
    for count in range(len(parts), 1, -1):
        line = joined(parts[:count], gap)
        if width_of(line) <= width:
            return line
    return clip(joined(parts[:1], gap), width)


def wrapped(text: str, ink: str, width: int) -> list[Line]:
    """Return a text in lines that are broken between words."""
    lines: list[str] = [""]
    for word in text.split():
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [[(line, ink)] for line in lines]


class Ink:
    """The inks of one widget in the present theme."""

    def __init__(self, widget: Widget) -> None:
        self._base = widget.rich_style
        self._styles = {
            name: widget.get_component_rich_style(f"ink--{name}", partial=True) for name in INKS
        }
        self._styles[""] = Style.null()
        self._filters: Sequence[LineFilter] = widget.app.get_line_filters()
        self._background: Color = widget.background_colors[1]

    def strip(self, line: Line, width: int, ground: str = "") -> Strip:
        """Return a line as a strip of exactly `width` cells.

        Args:
            line: What to draw.
            width: In cells.
            ground: An ink laid under the whole line, for its background.
        """
        base = self._base + self._styles[ground]
        # What is quiet would be too quiet on another ground.
        quiet = "muted" if ground else "quiet"
        segments = [
            Segment(text, base + self._style(quiet if ink == "quiet" else ink))
            for text, ink in line
            if text
        ]
        strip = Strip(segments).adjust_cell_length(width, base)
        for line_filter in self._filters:
            strip = strip.apply_filter(line_filter, self._background)
        return strip

    def _style(self, ink: str) -> Style:
        """Return the style of an ink, or of several with spaces between, the last on top."""
        style = self._styles.get(ink)
        if style is None:
            style = Style.combine(self._styles[name] for name in ink.split())
            self._styles[ink] = style
        return style


class Backstop(LineFilter):
    """The last line of defence: no character that is not printable reaches the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment(_printable(segment.text), segment.style)
            for segment in segments
        ]


def _printable(text: str) -> str:
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd"
        for character in text
    )

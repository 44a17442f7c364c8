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
    """The inks of one widget in the present theme, as the app's line filters leave them.

    The screen has their styles: Textual would match the rules of every ink with every widget
    that had them, whenever it looks at styles anew, and does so many times before the first frame.
    """

    def __init__(self, widget: Widget) -> None:
        self._base = widget.rich_style
        self._inks = {
            name: widget.screen.get_component_rich_style(f"ink--{name}", partial=True)
            for name in INKS
        }
        self._inks[""] = Style.null()
        self._filters: Sequence[LineFilter] = widget.app.get_line_filters()
        self._background: Color = widget.background_colors[1]
        self._styles: dict[tuple[str, str], Style | None] = {}

    def strip(self, line: Line, width: int, ground: str = "") -> Strip:
        """Return a line as a strip of exactly `width` cells.

        Args:
            line: What to draw.
            width: In cells.
            ground: An ink laid under the whole line, for its background.
        """
        segments = [
            Segment(printable(text), self._style(ink, ground)) for text, ink in line if text
        ]
        cells = sum([len(text) if text.isascii() else cell_len(text) for text, _, _ in segments])
        return Strip(segments, cells).adjust_cell_length(width, self._style("", ground))

    def _style(self, ink: str, ground: str) -> Style | None:
        """Return the style of an ink, or of several with spaces between, the last on top."""
        style = self._styles.get((ink, ground))
        if style is None:
            # What is quiet would be too quiet on another ground.
            names = ["muted" if ground and ink == "quiet" else name for name in ink.split()]
            styles = (self._inks[name] for name in (ground, *names))
            style = self._filtered(Style.combine((self._base, *styles)))
            self._styles[ink, ground] = style
        return style

    def _filtered(self, style: Style) -> Style | None:
        """Return what the filters make of a style: once, and not of every line anew."""
        segments = [Segment(" ", style)]
        for line_filter in self._filters:
            segments = line_filter.apply(segments, self._background)
        return segments[0].style


class Backstop(LineFilter):
    """The last line of defence: no character that is not printable reaches the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment(printable(segment.text), segment.style)
            for segment in segments
        ]


def printable(text: str) -> str:
    """Return a text with blanks or replacement characters for what cannot be printed."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd"
        for character in text
    )

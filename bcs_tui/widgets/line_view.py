"""A list of any length drawn by the line API: only visible rows exist, and only changed ones
are drawn."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from bcs_tui.widgets.ink import Ink, Line

_CACHED_STRIPS = 2_000


class Sight(NamedTuple):
    """What a row shows: the object it was painted from, and texts that change by themselves."""

    thing: object
    text: str = ""

    def same_as(self, other: Sight | None) -> bool:
        """Tell whether painting again would give the same."""
        return other is not None and self.thing is other.thing and self.text == other.text


class Rows(Protocol):
    """What a `LineView` draws."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """Return the identity that the cursor follows."""
        ...

    def find(self, key: str) -> int | None:
        """Return where a row is now."""
        ...

    def sight(self, index: int) -> Sight:
        """Return what the row would be painted from."""
        ...

    def paint(self, index: int, width: int) -> Line:
        """Return the row as a line."""
        ...


class _Drawn(NamedTuple):
    sight: Sight
    ground: str
    strip: Strip


class LineView(ScrollView, inherit_bindings=False):
    """Rows with a cursor that follows the identity of its row through every sorting."""

    DEFAULT_CSS = """
    LineView {
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        background: $background;
    }
    """
    ALLOW_SELECT = False
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1.0)", show=False),
        Binding("pagedown", "page(1.0)", show=False),
        Binding("ctrl+u", "page(-0.5)", show=False),
        Binding("ctrl+d", "page(0.5)", show=False),
        Binding("home,g", "move_to(0)", show=False),
        Binding("end,G", "move_to(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, view: LineView, key: str) -> None:
            super().__init__()
            self.view = view
            self.key = key

    class Chosen(Message):
        """The row under the cursor was chosen."""

        def __init__(self, view: LineView, key: str) -> None:
            super().__init__()
            self.view = view
            self.key = key

    def __init__(self, rows: Rows, *, id: str | None = None, cursor: bool = True) -> None:
        super().__init__(id=id)
        self.rows = rows
        self.key: str | None = None
        self.cursor = 0
        self._has_cursor = cursor
        self._drawn: dict[str, _Drawn] = {}
        self._screenful: list[tuple[str, str, Sight]] = []
        self._ink: Ink | None = None

    # --- what is shown ---------------------------------------------------------------------

    def update_rows(self) -> None:
        """Take account of rows that changed, moved, came or went; draw what is different."""
        count = len(self.rows)
        if self.virtual_size.height != count:
            self.virtual_size = Size(self.size.width, count)
        self._follow()
        self._draw_differences()

    def _follow(self) -> None:
        """Keep the cursor on its row, and that row on the screen if it was there."""
        count = len(self.rows)
        if not count:
            self.cursor = 0
            return
        place = self.rows.find(self.key) if self.key is not None else None
        if place is None:
            self.cursor = min(self.cursor, count - 1)
            key = self.rows.key(self.cursor)
            if key != self.key:
                self.key = key
                if self._has_cursor:
                    self.post_message(self.Moved(self, key))
        elif place != self.cursor:
            was_visible = self._is_visible(self.cursor)
            self.cursor = place
            if was_visible:
                self._reveal()

    def _draw_differences(self) -> None:
        width, height = self.scrollable_content_region.size
        top = self.scroll_offset.y
        now = self._sights(top, height)
        before = self._screenful
        for y in range(height):
            old = before[y] if y < len(before) else None
            new = now[y] if y < len(now) else None
            if old is None and new is None:
                continue
            if old is None or new is None or old[:2] != new[:2] or not new[2].same_as(old[2]):
                self.refresh(Region(0, y, width, 1))
        self._screenful = now

    def _sights(self, top: int, height: int) -> list[tuple[str, str, Sight]]:
        rows = self.rows
        last = min(top + height, len(rows))
        return [(rows.key(i), self._ground(i), rows.sight(i)) for i in range(top, last)]

    def visible_keys(self) -> list[str]:
        """Return the keys of the rows on screen."""
        return [key for key, _, _ in self._screenful]

    def _ground(self, index: int) -> str:
        if index != self.cursor or not self._has_cursor:
            return ""
        return "cursor" if self.has_focus else "cursor-idle"

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the visible strips, from the cache where a row is still the same.

        The inks apply the app's line filters, which overriding this method would pass over.
        """
        if self._ink is None:
            self._ink = Ink(self)
            self._drawn.clear()
        # The gutter of a scroll bar that is not shown belongs to the strips, but not to the rows.
        ink, width = self._ink, self.size.width
        top = self.scroll_offset.y
        count = len(self.rows)
        strips = []
        for y in range(crop.y, crop.bottom):
            index = top + y
            strip = self._strip(index, width, ink) if index < count else ink.strip((), width)
            strips.append(strip.crop(crop.x, crop.right))
        return strips

    def _strip(self, index: int, width: int, ink: Ink) -> Strip:
        key, sight, ground = self.rows.key(index), self.rows.sight(index), self._ground(index)
        drawn = self._drawn.get(key)
        if drawn and drawn.ground == ground and sight.same_as(drawn.sight):
            return drawn.strip
        if len(self._drawn) >= _CACHED_STRIPS:
            self._drawn.clear()
        line = self.rows.paint(index, self.scrollable_content_region.width)
        strip = ink.strip(line, width, ground)
        self._drawn[key] = _Drawn(sight, ground, strip)
        return strip

    def redraw(self) -> None:
        """Forget every cached strip: the way rows are painted has changed."""
        self._drawn.clear()
        self._screenful = []
        self.refresh()

    def on_resize(self, _event: events.Resize) -> None:
        self._drawn.clear()
        self.virtual_size = Size(self.size.width, len(self.rows))
        self._reveal()

    def notify_style_update(self) -> None:
        self._ink = None
        super().notify_style_update()

    def on_focus(self) -> None:
        self._draw_differences()

    def on_blur(self) -> None:
        self._draw_differences()

    # --- moving ----------------------------------------------------------------------------

    def move_cursor(self, index: int) -> None:
        """Put the cursor on a row, or on the nearest there is, and show it."""
        count = len(self.rows)
        if not count:
            return
        self.cursor = min(max(index, 0), count - 1)
        self.key = self.rows.key(self.cursor)
        self._reveal()
        self._draw_differences()
        self.post_message(self.Moved(self, self.key))

    def _reveal(self) -> None:
        height = self.size.height
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif height and self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)

    def _is_visible(self, index: int) -> bool:
        return 0 <= index - self.scroll_offset.y < self.size.height

    def action_move(self, rows: int) -> None:
        """Move by so many rows."""
        if self._has_cursor:
            self.move_cursor(self.cursor + rows)
        else:
            self.scroll_to(y=self.scroll_offset.y + rows, animate=False)

    def action_page(self, pages: float) -> None:
        """Move by so many screenfuls."""
        self.action_move(int(pages * max(1, self.size.height - 1)))

    def action_move_to(self, index: int) -> None:
        """Move to the first row (0) or the last (-1)."""
        if self._has_cursor:
            self.move_cursor(index if index >= 0 else len(self.rows) - 1)
        else:
            self.scroll_to(y=0 if index >= 0 else len(self.rows), animate=False)

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self.key is not None and len(self.rows):
            self.post_message(self.Chosen(self, self.key))

    def on_click(self, event: events.Click) -> None:
        index = self.scroll_offset.y + event.y
        if not self._has_cursor or index >= len(self.rows):
            return
        if event.chain == 2:
            self.action_choose()
        else:
            self.move_cursor(index)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._screenful = self._sights(self.scroll_offset.y, self.size.height)

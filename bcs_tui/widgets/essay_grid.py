"""Every essay of a batch in every step, one glyph a cell, the worst essays first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from bcs_tui.format import Glyph
from bcs_tui.widgets.essay_cells import GROUP, LABEL, cells, label, ruler, worst_first
from bcs_tui.widgets.ink import EMPTY, Ink, Line
from engine import Grid, StepCounts


class EssayGrid(ScrollView, inherit_bindings=False):
    """Essays run to the right in bands; each band has a ruler and a line for each step."""

    DEFAULT_CSS = """
    EssayGrid { overflow-x: hidden; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    """
    ALLOW_SELECT = False
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "essay(-1)", show=False),
        Binding("right,l", "essay(1)", show=False),
        Binding("up,k", "step(-1)", show=False),
        Binding("down,j", "step(1)", show=False),
        Binding("pageup,ctrl+u", "band(-1)", show=False),
        Binding("pagedown,ctrl+d", "band(1)", show=False),
        Binding("home,g", "essay_at(0)", show=False),
        Binding("end,G", "essay_at(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Moved(Message):
        """The cursor is on another cell."""

    class Chosen(Message):
        """An essay was chosen."""

        def __init__(self, essay_id: str) -> None:
            super().__init__()
            self.essay_id = essay_id

    def __init__(self, glyphs: Glyph, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.grid: Grid | None = None
        self.steps: tuple[StepCounts, ...] = ()
        self.cursor = 0
        self.step_cursor = 0
        self._glyphs = glyphs
        self._order: list[int] = []
        self._essay_id: str | None = None
        self._settled_version = -1
        self._unreadable: frozenset[int] = frozenset()
        self._unreadable_version = -1
        self._lines: list[Line] = []
        self._ink: Ink | None = None

    # --- what is shown ---------------------------------------------------------------------

    def take(self, grid: Grid | None, steps: tuple[StepCounts, ...]) -> None:
        """Take the essays, which change in place, and the counts; draw what is different."""
        if grid is not self.grid:
            self.grid = grid
            self._settled_version = self._unreadable_version = -1
        if grid is not None and self._unreadable_version != grid.version:
            self._unreadable = frozenset(grid.index[essay_id] for essay_id in grid.unreadable)
            self._unreadable_version = grid.version
        self.steps = steps
        if self._settled_version < 0:
            self.settle()
        self._draw_differences()

    @property
    def is_settled(self) -> bool:
        """Whether the order takes account of every change."""
        return self.grid is None or self._settled_version == self.grid.version

    def settle(self) -> None:
        """Sort anew; the cursor stays on its essay."""
        grid = self.grid
        self._order = [] if grid is None else worst_first(grid, [s.step for s in self.steps])
        if grid is not None:
            self._settled_version = grid.version
            if self._essay_id in grid.index:
                self.cursor = self._order.index(grid.index[self._essay_id])
        self.cursor = min(self.cursor, max(0, len(self._order) - 1))
        self._essay_id = self.essay_id
        self.virtual_size = Size(self.size.width, self._bands * self._band_height)

    @property
    def essay_id(self) -> str | None:
        """The essay under the cursor."""
        if self.grid is None or not self._order:
            return None
        return self.grid.essay_ids[self._order[self.cursor]]

    @property
    def order(self) -> Sequence[int]:
        """The positions of the essays in the grid's columns, in the order shown."""
        return self._order

    def outcomes(self) -> Mapping[str, int]:
        """Return the outcome of every step of the essay under the cursor."""
        if self.grid is None or not self._order:
            return {}
        place = self._order[self.cursor]
        columns = self.grid.outcomes
        return {s.step: columns[s.step][place] if s.step in columns else 0 for s in self.steps}

    def is_readable(self, essay_id: str) -> bool:
        """Tell whether all that is stored of an essay is known."""
        return self.grid is None or essay_id not in self.grid.unreadable

    # --- geometry --------------------------------------------------------------------------

    @property
    def _per_band(self) -> int:
        room = self.scrollable_content_region.width - LABEL - 1
        return max(1, (room + 1) // (GROUP + 1)) * GROUP

    @property
    def _bands(self) -> int:
        return -(-len(self._order) // self._per_band)

    @property
    def _band_height(self) -> int:
        return len(self.steps) + 2

    def _draw_differences(self) -> None:
        width, height = self.scrollable_content_region.size
        self.virtual_size = Size(width, self._bands * self._band_height)
        top = self.scroll_offset.y
        lines = [self._line(y) for y in range(top, top + height)]
        for y, line in enumerate(lines):
            if y >= len(self._lines) or line != self._lines[y]:
                self.refresh(Region(0, y, width, 1))
        self._lines = lines

    def render_line(self, y: int) -> Strip:
        if self._ink is None:
            self._ink = Ink(self)
        return self._ink.strip(self._line(self.scroll_offset.y + y), self.size.width)

    def _line(self, y: int) -> Line:
        band, row = divmod(y, self._band_height)
        if band >= self._bands or row > len(self.steps):
            return EMPTY
        start = band * self._per_band
        end = min(start + self._per_band, len(self._order))
        cursor = self.cursor - start if start <= self.cursor < end else -1
        if row == 0:
            return ruler(start, end, cursor)
        step = self.steps[row - 1]
        chosen = cursor >= 0 and row - 1 == self.step_cursor
        column = self.grid.outcomes.get(step.step) if self.grid else None
        places = self._order[start:end]
        return [
            *label(step, self._glyphs, chosen=chosen),
            *cells(step, column, places, cursor, self._glyphs, self._unreadable),
        ]

    # --- moving ----------------------------------------------------------------------------

    def _move_to(self, cursor: int) -> None:
        self.cursor = min(max(cursor, 0), max(0, len(self._order) - 1))
        self._essay_id = self.essay_id
        self._reveal()
        self._draw_differences()
        self.post_message(self.Moved())

    def _reveal(self) -> None:
        top = self.cursor // self._per_band * self._band_height
        height = self.size.height
        offset = self.scroll_offset.y
        if top < offset:
            self.scroll_to(y=top, animate=False)
        elif height and top + self._band_height - 1 > offset + height:
            self.scroll_to(y=max(0, min(top, top + self._band_height - 1 - height)), animate=False)

    def move_to_essay(self, essay_id: str) -> None:
        """Put the cursor on an essay, if it is here."""
        if self.grid is not None and essay_id in self.grid.index and essay_id != self.essay_id:
            self._move_to(self._order.index(self.grid.index[essay_id]))

    def find(self, text: str, direction: int) -> bool:
        """Go to the next essay (or the one before) whose id has a text in it; tell if any has."""
        if self.grid is None or not self._order:
            return False
        ids, count, wanted = self.grid.essay_ids, len(self._order), text.lower()
        for distance in range(1, count + 1):
            place = (self.cursor + direction * distance) % count
            if wanted in ids[self._order[place]].lower():
                self._move_to(place)
                return True
        return False

    def action_essay(self, count: int) -> None:
        """Move by so many essays."""
        self._move_to(self.cursor + count)

    def action_essay_at(self, index: int) -> None:
        """Move to the first essay (0) or the last (-1)."""
        self._move_to(index if index >= 0 else len(self._order) - 1)

    def action_step(self, count: int) -> None:
        """Move by a step, and past the last one into the next band."""
        target = self.step_cursor + count
        if 0 <= target < len(self.steps):
            self.step_cursor = target
            self._move_to(self.cursor)
        elif 0 <= self.cursor + count * self._per_band < len(self._order):
            self.step_cursor = 0 if count > 0 else len(self.steps) - 1
            self._move_to(self.cursor + count * self._per_band)

    def action_band(self, count: int) -> None:
        """Move by so many bands."""
        self._move_to(self.cursor + count * self._per_band)

    def action_choose(self) -> None:
        """Choose the essay under the cursor."""
        if (essay_id := self.essay_id) is not None:
            self.post_message(self.Chosen(essay_id))

    def on_click(self, event: events.Click) -> None:
        band, row = divmod(self.scroll_offset.y + event.y, self._band_height)
        column = event.x - LABEL
        group, within = divmod(column, GROUP + 1)
        index = band * self._per_band + group * GROUP + within
        if column < 0 or within == GROUP or not 1 <= row <= len(self.steps):
            return
        if index < len(self._order):
            self.step_cursor = row - 1
            self._move_to(index)
            if event.chain == 2:
                self.action_choose()

    def on_resize(self, _event: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, self._bands * self._band_height)
        self._lines = []
        self._reveal()

    def notify_style_update(self) -> None:
        self._ink = None
        self._lines = []
        super().notify_style_update()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._lines = []

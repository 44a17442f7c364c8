"""The essays of a batch by name, in the order of the grid, where there is room for a list."""

from __future__ import annotations

from bcs_tui.format import Glyph, clean, fit
from bcs_tui.widgets.essay_cells import state_in
from bcs_tui.widgets.essay_grid import EssayGrid
from bcs_tui.widgets.ink import Line, Piece
from bcs_tui.widgets.line_view import Sight
from bcs_tui.widgets.states import INK_OF
from engine import StepCounts

_ID, _STEP = 40, 16


class EssayRows:
    """Reads what the grid shows; a source for a `LineView`."""

    def __init__(self, essays: EssayGrid, glyphs: Glyph) -> None:
        self._essays = essays
        self._glyphs = glyphs

    def __len__(self) -> int:
        return len(self._essays.order)

    def key(self, index: int) -> str:
        grid = self._essays.grid
        return grid.essay_ids[self._essays.order[index]] if grid else ""

    def find(self, key: str) -> int | None:
        essays = self._essays
        if key == essays.essay_id:
            return essays.cursor
        return None

    def sight(self, index: int) -> Sight:
        return Sight(self._essays.grid, " ".join((str(index), *self._states(index))))

    def _states(self, index: int) -> list[str]:
        essays = self._essays
        if essays.grid is None:
            return []
        place = essays.order[index]
        readable = essays.is_readable(essays.grid.essay_ids[place])
        columns = essays.grid.outcomes
        return [
            state_in(
                step, columns[step.step][place] if step.step in columns else 0, readable=readable
            )
            for step in essays.steps
        ]

    def paint(self, index: int, width: int) -> Line:
        line: list[Piece] = [
            (f" {index + 1:>7,}  ", "muted"),
            (fit(clean(self.key(index), 80), _ID) + "  ", ""),
        ]
        for step, state in zip(self._essays.steps, self._states(index), strict=True):
            line.append((self._glyphs[state], INK_OF[state]))
            word_ink = "failed" if state == "failed" else "muted"
            line.append((" " + fit(state, _column(step) - 2), word_ink))
        return line

    def heading(self) -> Line:
        """Return the line above the rows."""
        steps = self._essays.steps
        names = "".join(fit(clean(step.step, 40).upper(), _column(step)) for step in steps)
        return [(" " * 10 + fit("ESSAY", _ID) + "  " + names, "muted")]


def _column(step: StepCounts) -> int:
    return max(_STEP, min(42, len(step.step) + 2))

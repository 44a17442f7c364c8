"""One batch: its phases, the counts of every step, and every essay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget

from bcs_tui.format import CRUMB, clean, clock, count, rate
from bcs_tui.screens.audit import AuditScreen
from bcs_tui.screens.essay import EssayScreen
from bcs_tui.screens.page import Context, Page
from bcs_tui.widgets import phase_strip
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.essay_cells import state_in
from bcs_tui.widgets.essay_grid import EssayGrid
from bcs_tui.widgets.essay_list import EssayRows
from bcs_tui.widgets.focus import AHEAD, why
from bcs_tui.widgets.ink import Line, Piece, clip, fitting, width_of, wrapped
from bcs_tui.widgets.line_view import LineView
from bcs_tui.widgets.states import INK_OF, mark, outlook, state_of
from engine import BatchRow, BCSError, View

_MOST_STEPS = 12


class BatchScreen(Page):
    """A batch that was opened from the fleet."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "match(1)", show=False),
        Binding("N", "match(-1)", show=False),
        Binding("a", "audit", show=False),
    ]
    HINTS: ClassVar[Sequence[tuple[str, str]]] = (
        ("Esc", "fleet"),
        ("h l", "essay"),
        ("j k", "step"),
        ("Enter", "open essay"),
        ("g G", "first, last"),
        ("a", "audit"),
        ("y", "copy id"),
    )
    KEYS: ClassVar[Sequence[tuple[str, str]]] = (
        ("h l   ← →", "previous, next essay"),
        ("j k   ↑ ↓", "next, previous step; past the last one, the next band"),
        ("Enter", "open the essay"),
        ("/   n N", "find an essay by its id; next, previous"),
        ("PgUp PgDn", "a band up, down"),
        ("a", "audit: who says which counts"),
    )

    def __init__(self, context: Context, batch_id: str) -> None:
        super().__init__(context)
        self.batch_id = batch_id
        self._row: BatchRow | None = None
        self._wanted = ""
        self.why = Block(id="why")
        self.strip = Block(id="strip")
        self.counts = Block(id="counts")
        self.legend = Block(id="legend")
        self.essays = EssayGrid(context.glyphs, id="main")
        self.essay_rows = EssayRows(self.essays, context.glyphs)
        self.listing_head = Block(id="listing-head")
        self.listing = LineView(self.essay_rows, id="listing")
        self.under_cursor = Block(id="under-cursor")

    def body(self) -> Iterable[Widget]:
        above = (self.why, self.strip, self.counts, self.legend)
        listing = (self.listing_head, self.listing)
        yield Vertical(*above, self.essays, *listing, self.under_cursor, id="batch")

    def on_mount(self) -> None:
        super().on_mount()
        self.run_worker(self._open(), group="open")

    async def _open(self) -> None:
        try:
            await self.context.engine.open(self.batch_id)
        except BCSError as error:
            self.say(str(error), "warn")

    def on_unmount(self) -> None:
        self.context.engine.close_batch()

    # --- drawing ---------------------------------------------------------------------------

    def update_view(self, view: View, changed: Iterable[str] | None) -> None:
        row = self._row = view.batches.get(self.batch_id)
        grid = view.grid if view.grid and view.grid.batch_id == self.batch_id else None
        essays = self.essays
        essays.take(grid, row.summary.steps if row else ())
        if not essays.is_settled and self.may_settle():
            self._settle()
        self._show_counts(view)
        self._show_legend()
        self._show_cursor()

    def batches_on_screen(self) -> Collection[str]:
        return (self.batch_id,)

    def second(self) -> None:
        if not self.essays.is_settled:
            self._settle()

    def _settle(self) -> None:
        essays = self.essays
        essays.settle()
        essays.take(essays.grid, essays.steps)
        self._show_cursor()

    def _show_counts(self, view: View) -> None:
        row, glyphs = self._row, self.context.glyphs
        if row is None:
            return
        summary, now = row.summary, view.now
        steps = summary.steps[:_MOST_STEPS]
        unknown = any(step.unknown for step in steps)
        tree, table = self.strip, self.counts
        lines = phase_strip.strip(summary, glyphs, 200)
        tree.set_height(len(lines))
        table.set_height(len(steps) + 1)
        tree.show(lambda width: phase_strip.strip(summary, glyphs, width))
        table.show(
            lambda width: [
                phase_strip.heading(width, unknown=unknown),
                *(phase_strip.counts(step, now, glyphs, width, unknown=unknown) for step in steps),
            ]
        )
        state = state_of(row)
        about: Line = [(" ", ""), mark(state, glyphs), (f" {why(row, now)}", INK_OF[state])]
        warnings = [f"audit (a): {clean(summary.doubt, 400)}"] if summary.doubt else []
        if row.is_ahead:
            warnings.append(f"last event {clock(summary.last_event_at, now)}: {AHEAD}")
        said = _with_warnings(about, warnings, self.size.width)
        self.why.set_height(len(said))
        self.why.show(lambda width: [clip(line, width) for line in said])

    def _show_legend(self) -> None:
        glyphs = self.context.glyphs
        essays = self.essays
        number = len(essays.grid.essay_ids) if essays.grid else 0
        hidden = self._row.summary.total - number if self._row else 0
        head: list[Piece] = [(f" {number:,} essays", "strong"), ("  worst first", "muted")]
        if hidden > 0 and essays.grid is not None:
            head.append((f"  {hidden:,} not seen yet", "warn"))
        keys: list[Line] = [
            [mark(state, glyphs), (f" {state}", "muted")]
            for state in ("done", "failed", "pending", "skipped")
        ]
        if essays.grid is not None and (unknown := len(essays.grid.unreadable)):
            keys.append([mark("unknown", glyphs), (f" unknown ({unknown:,} unreadable)", "warn")])
        self.legend.show(lambda width: [fitting([head, *keys], width)])

    def _show_cursor(self) -> None:
        self.listing_head.show(lambda _width: [self.essay_rows.heading()])
        self.listing.update_rows()
        if self.listing.key != self.essays.essay_id and self.essays.essay_id is not None:
            self.listing.move_cursor(self.essays.cursor)
        essays, glyphs = self.essays, self.context.glyphs
        block = self.under_cursor
        essay_id = essays.essay_id
        if essay_id is None:
            block.show(lambda _width: [[("  no essay is known yet", "muted")]])
            return
        place = (
            f"{essays.cursor + 1:,} of {count(len(essays.grid.essay_ids) if essays.grid else 0)}"
        )
        parts: list[Line] = [[(f" {clean(essay_id, 80)}", "strong")], [(place, "muted")]]
        outcomes = essays.outcomes()
        for number, step in enumerate(essays.steps):
            outcome = outcomes.get(step.step, 0)
            state = state_in(step, outcome, readable=essays.is_readable(essay_id))
            name_ink = "strong" if number == essays.step_cursor else "muted"
            parts.append(
                [
                    mark(state, glyphs),
                    (f" {clean(step.step, 40)} ", name_ink),
                    (state, INK_OF[state]),
                ]
            )
        block.show(lambda width: _in_two(parts, width))

    def heading(self, view: View) -> tuple[Sequence[Line], Line]:
        row = self._row
        parts: list[Line] = [[("Fleet" + CRUMB, "muted"), (clean(self.batch_id, 80), "strong")]]
        if row is None:
            return [*parts, [("not known here", "warn")]], []
        summary = row.summary
        total = f"≥{summary.total:,}" if summary.expected is None else f"{summary.total:,}"
        parts.append([(f"{total} essays", "")])
        parts.append([(clean(summary.pipeline or "no pipeline"), "")])
        parts.append([(f"started {clock(summary.started_at, view.now)}", "muted")])
        if summary.owner:
            parts.append([(clean(summary.owner, 40), "muted")])
        text, ink = outlook(row, view.now)
        if row.stalled_since is not None:
            return parts, [(text, ink)]
        if summary.status != "processing":
            return parts, [(summary.status.replace("_", " "), INK_OF[state_of(row)])]
        if row.is_measuring:
            return parts, [("measuring its pace", "muted")]
        pace: Line = [(rate(row.rate_per_minute), ""), ("/min  ", "muted")]
        return parts, [*pace, ("ETA ", "muted"), (text, ink)]

    # --- keys ------------------------------------------------------------------------------

    @on(EssayGrid.Moved)
    def _moved(self) -> None:
        self._show_cursor()

    @on(LineView.Moved)
    def _picked(self, event: LineView.Moved) -> None:
        self.essays.move_to_essay(event.key)

    @on(LineView.Chosen)
    def _opened(self, event: LineView.Chosen) -> None:
        self.app.push_screen(EssayScreen(self.context, self.batch_id, event.key))

    @on(EssayGrid.Chosen)
    def _chosen(self, event: EssayGrid.Chosen) -> None:
        self.app.push_screen(EssayScreen(self.context, self.batch_id, event.essay_id))

    def action_filter(self) -> None:
        """Ask for an essay id to go to."""
        self.ask("find", "/", self._wanted, hint="part of an essay id")

    def answer(self, kind: str, text: str | None) -> None:
        if kind != "find":
            super().answer(kind, text)
        elif text:
            self._wanted = text
            self.action_match(1)

    def action_match(self, direction: int) -> None:
        """Go to the next essay whose id has the text that was asked for."""
        if self._wanted and not self.essays.find(self._wanted, direction):
            self.say(f"no essay id has {self._wanted!r} in it", "warn")

    def action_audit(self) -> None:
        """Show who says which counts."""
        self.run_worker(self._audit(), group="audit", exclusive=True)

    async def _audit(self) -> None:
        try:
            found = await self.context.engine.audit(self.batch_id)
        except BCSError as error:
            self.say(str(error), "warn")
        else:
            doubt = self._row.summary.doubt if self._row else ""
            self.app.push_screen(AuditScreen(found, doubt, self.context.glyphs))

    def selected_id(self) -> str | None:
        return self.essays.essay_id or self.batch_id


def _with_warnings(about: Line, warnings: Sequence[str], width: int) -> list[Line]:
    """Return why a batch is in its state, and what may be wrong with it, cutting nothing."""
    together: Line = [*about, *((f"  {text}", "warn") for text in warnings)]
    if width_of(together) <= width:
        return [together]
    broken = (wrapped(text, "warn", max(10, width - 4)) for text in warnings)
    return [about, *([("   ", ""), *line] for line in chain.from_iterable(broken))]


def _in_two(parts: Sequence[Line], width: int) -> list[Line]:
    """Return parts in one line if they fit, else the first two above the others."""
    whole = fitting(parts, width)
    if len(parts) < 3 or len(whole) == len(fitting(parts, 10_000)):
        return [whole]
    return [fitting(parts[:2], width), [(" ", ""), *fitting(parts[2:], width - 1)]]

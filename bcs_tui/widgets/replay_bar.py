"""The bar at the bottom of a replay: where it stands, how fast it goes, and keys to move it."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from bcs_tui.format import DASH, TIMES, clock, count, percent
from bcs_tui.widgets.bars import track
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.ink import Line, Piece, width_of
from engine import ReplayState

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1000.0, None)
"""The paces that `<` and `>` go through; the last one does not wait at all."""


def next_speed(speed: float | None, direction: int) -> float | None:
    """Return the neighbouring pace."""
    pace = float("inf") if speed is None else speed
    known = [float("inf") if value is None else value for value in SPEEDS]
    if direction > 0:
        return next((v for v, k in zip(SPEEDS, known, strict=True) if k > pace), None)
    slower = [value for value, number in zip(SPEEDS, known, strict=True) if number < pace]
    return slower[-1] if slower else SPEEDS[0]


def speed_text(speed: float | None) -> str:
    """Return a pace as it is shown."""
    return "max" if speed is None else f"{TIMES}{speed:g}"


class ReplayBar(Block):
    """Shows where a replay stands; focused, digits and arrows move in it."""

    DEFAULT_CSS = """
    ReplayBar { height: 1; background: $surface; }
    ReplayBar:focus { background: $cursor; }
    """
    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(digit), f"part({digit})", show=False) for digit in range(10)),
        Binding("escape", "leave", show=False),
    ]

    class Sought(Message):
        """A part of the recording was asked for, 0 to 1."""

        def __init__(self, fraction: float) -> None:
            super().__init__()
            self.fraction = fraction

    def __init__(self) -> None:
        super().__init__(id="replay")
        self._bar = (0, 0)

    def show_replay(self, state: ReplayState, *, ended: bool, ascii_only: bool = False) -> None:
        """Draw the state of the replay."""
        self.show(lambda width: [self._line(state, ended, ascii_only, width)])

    def _line(self, state: ReplayState, ended: bool, ascii_only: bool, width: int) -> Line:
        word, ink = "playing", "running"
        if state.paused:
            word, ink = "paused", "warn"
        elif ended:
            word, ink = "at the end", "muted"
        here = (">" if ascii_only else "▸") if self.has_focus else " "
        left: list[Piece] = [(f"{here}{word:<10} ", ink), (f"{clock(state.now):<8}  ", "strong")]
        part = percent(state.index, state.length)
        right: list[Piece] = [(f"  {part:>4}  ", "")]
        if width >= 76:
            right.append((f"{count(state.index)} of {count(state.length)}  ", "muted"))
        right.append((f"{speed_text(state.speed):<5} ", "strong"))
        if state.loop:
            right.append(("loop ", "accent"))
        if width >= 110:
            right.append((f" {clock(state.start)} {DASH} {clock(state.end)} ", "muted"))
        room = max(0, width - width_of(left) - width_of(right))
        self._bar = (width_of(left), room)
        fraction = state.index / state.length if state.length else 0.0
        return [*left, *track(fraction, room, ascii_only=ascii_only), *right]

    def action_part(self, tenth: int) -> None:
        """Go to so many tenths."""
        self.post_message(self.Sought(tenth / 10))

    def action_leave(self) -> None:
        """Give the focus back."""
        self.screen.focus_next()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.show(self._painter)

    def on_click(self, event: events.Click) -> None:
        start, room = self._bar
        if room and start <= event.x < start + room:
            self.post_message(self.Sought((event.x - start + 0.5) / room))

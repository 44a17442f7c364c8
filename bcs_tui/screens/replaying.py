"""The keys of a replay, the same on every page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from textual.binding import Binding, BindingType

from bcs_tui.format import clock
from bcs_tui.widgets.event_log import tell
from bcs_tui.widgets.replay_bar import ReplayBar, next_speed, speed_text
from engine import BCSError, ReplayState, View

if TYPE_CHECKING:
    from bcs_tui.screens.page import Context

_SKIP_SECONDS = 5


REPLAY_BINDINGS: Final[list[BindingType]] = [
    Binding("space,p", "pause", show=False),
    Binding("full_stop", "step_events(1)", show=False),
    Binding("comma", "step_events(-1)", show=False),
    Binding("left", f"skip(-{_SKIP_SECONDS})", show=False),
    Binding("right", f"skip({_SKIP_SECONDS})", show=False),
    Binding("shift+left", "skip(-60)", show=False),
    Binding("shift+right", "skip(60)", show=False),
    Binding("less_than_sign", "speed(-1)", show=False),
    Binding("greater_than_sign", "speed(1)", show=False),
    Binding("t", "ask_time", show=False, priority=True),
    Binding("L", "seek_part(1.0)", show=False),
    Binding("right_curly_bracket", "seek_failure(1)", show=False),
    Binding("left_curly_bracket", "seek_failure(-1)", show=False),
    Binding("o", "loop", show=False),
]


class Replaying:
    """Moves about in a recording; part of every page, without effect where nothing is replayed."""

    context: Context
    view: View | None

    def say(self, text: str, ink: str = "") -> None:
        raise NotImplementedError

    def ask(
        self, kind: str, label: str, value: str = "", *, hint: str = "", words: Iterable[str] = ()
    ) -> None:
        raise NotImplementedError

    @property
    def replay(self) -> ReplayState | None:
        """The state of the replay, if something is replayed."""
        if self.view is not None and self.view.replay is not None:
            return self.view.replay
        self.say("only a replay can be paused and moved in", "muted")
        return None

    def action_pause(self) -> None:
        """Pause, or go on."""
        if replay := self.replay:
            self.context.engine.pause(not replay.paused)

    async def action_step_events(self, count: int) -> None:
        """Pause and let one event through, or take one back."""
        if (replay := self.replay) is None:
            return
        if not replay.paused:
            self.context.engine.pause(True)
        if count > 0:
            self.context.engine.step(count)
        else:
            await self._seek(index=max(0, replay.index + count))

    async def action_skip(self, seconds: int) -> None:
        """Move by event time."""
        if (replay := self.replay) and replay.now:
            await self._seek(moment=replay.now + timedelta(seconds=seconds))

    def action_speed(self, direction: int) -> None:
        """Go faster or slower."""
        if replay := self.replay:
            self.set_speed(next_speed(replay.speed, direction))

    def set_speed(self, speed: float | None) -> None:
        """Set the pace; `None` does not wait at all."""
        self.context.engine.set_speed(speed)
        self.say(f"speed {speed_text(speed)}", "muted")

    async def action_seek_part(self, fraction: float) -> None:
        """Go to a part of the recording."""
        if self.replay:
            await self._seek(fraction=fraction)

    def action_seek_failure(self, direction: int) -> None:
        """Pause at the next failure, or the one before."""
        if self.replay:
            self.run_worker(self._seek_failure(direction), group="seek")  # type: ignore[attr-defined] # a Screen has it

    async def _seek_failure(self, direction: int) -> None:
        """Say what failed, or that nothing does."""
        engine = self.context.engine
        try:
            if not await engine.seek_failure(direction):
                self.say(f"nothing fails {'behind' if direction > 0 else 'before'} this", "muted")
                return
        except BCSError as error:
            self.say(str(error), "warn")
            return
        told = tell(engine.view.log[-1])
        about = f"essay {told.essay}" if told.essay else f"batch {told.batch}"
        self.say(f"{clock(told.time)}  {told.text}, {about}", "failed")

    def action_loop(self) -> None:
        """Start over at the end, or stay there."""
        if replay := self.replay:
            self.context.engine.set_loop(not replay.loop)
            self.say("stays at the end" if replay.loop else "starts over at the end", "muted")

    def action_ask_time(self) -> None:
        """Ask where to go."""
        if self.replay:
            self.ask("goto", "go to", hint="13:58, 13:58:20, 2026-02-03 13:58 (UTC) or 40%")

    async def on_replay_bar_sought(self, event: ReplayBar.Sought) -> None:
        await self.action_seek_part(event.fraction)

    def go_to(self, text: str) -> None:
        """Go to a time or a percentage that was typed."""
        if (replay := self.replay) is None:
            return
        try:
            fraction, moment = read_place(text, replay.now or replay.start)
        except ValueError:
            self.say(f"{text!r} is no time; try 13:58, 13:58:20 or 40%", "warn")
            return
        self.run_worker(self._seek(moment=moment, fraction=fraction), group="seek")  # type: ignore[attr-defined] # a Screen has it

    async def _seek(
        self,
        index: int | None = None,
        moment: datetime | None = None,
        fraction: float | None = None,
    ) -> None:
        try:
            await self.context.engine.seek(index=index, moment=moment, fraction=fraction)
        except BCSError as error:
            self.say(str(error), "warn")


def read_place(text: str, near: datetime | None) -> tuple[float | None, datetime | None]:
    """Read a percentage, or a time of the day of `near`, or a date with a time; UTC.

    Raises:
        ValueError: It is none of these.
    """
    text = text.strip()
    if text.endswith("%"):
        return min(max(float(text[:-1]) / 100, 0.0), 1.0), None
    if "-" in text or near is None:
        moment = datetime.fromisoformat(text.replace(" ", "T").removesuffix("UTC"))
        return None, moment if moment.tzinfo else moment.replace(
            tzinfo=near.tzinfo if near else None
        )
    parts = [int(part) for part in text.split(":")]
    if not 2 <= len(parts) <= 3:
        raise ValueError(text)
    hour, minute, second = (*parts, 0)[:3]
    return None, near.replace(hour=hour, minute=minute, second=second, microsecond=0)

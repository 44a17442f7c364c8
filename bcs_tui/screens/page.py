"""What every page has: the health line, a title, the replay bar, key hints and the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from bcs_tui.format import Glyph, clean
from bcs_tui.screens.replaying import REPLAY_BINDINGS, Replaying
from bcs_tui.theme import INK_CLASSES
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.health_bar import health, trouble
from bcs_tui.widgets.ink import Line, fitting, spread, width_of
from bcs_tui.widgets.prompt import Prompt
from bcs_tui.widgets.replay_bar import ReplayBar
from engine import Engine, Mode, View

SETTLE_SECONDS = 0.5
"""Rows are put in a new order at most this often."""

ASKING = frozenset({"command", "filter", "ask_time"})
"""What opens the prompt; these keys go before all others, so that what is typed right behind one
of them is not taken for keys of the page."""

_SAID_SECONDS = 4.0

_LINES_WITHOUT_TROUBLE = 4
"""The top line, the title, a row and the keys."""

_LINES_WITH_REPLAY_BAR = 9
_NARROW = 36
"""Below so many columns the left of the title goes before its right."""


class Context(NamedTuple):
    """What all pages share."""

    engine: Engine
    title: str
    glyphs: Glyph


class Page(Replaying, Screen[None]):
    """A screen that draws views; the app hands them down through `show`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(INK_CLASSES)
    AUTO_FOCUS = "#main"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 # declared by Textual as an instance variable
        (0, "-narrow"),
        (76, "-medium"),
        (140, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012 # the same
        (0, "-least"),
        (4, "-tiny"),
        (9, "-short"),
        (20, "-middle"),
        (38, "-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        *REPLAY_BINDINGS,
        Binding("escape", "escape", show=False),
        Binding("slash", "filter", show=False, priority=True),
        Binding("colon", "command", show=False, priority=True),
        Binding("y", "copy", show=False),
        Binding("q", "back", show=False),
    ]
    HINTS: ClassVar[Sequence[tuple[str, str]]] = ()
    KEYS: ClassVar[Sequence[tuple[str, str]]] = ()

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.view: View | None = None
        self._said: Line | None = None
        self._said_timer: Timer | None = None
        self._settled_at = float("-inf")
        self._behind = False
        self._is_composed = False
        self.health_line = Block(id="health")
        self.trouble_line = Block(id="trouble")
        self.title_line = Block(id="title")
        self.replay_bar = ReplayBar()
        self.hint_line = Block(id="keys")
        self.prompt = Prompt()

    def compose(self) -> ComposeResult:
        yield self.health_line
        yield self.trouble_line
        yield self.title_line
        yield from self.body()
        yield self.replay_bar
        yield self.hint_line
        yield self.prompt

    def body(self) -> Iterable[Widget]:
        """Return what stands between the title and the key hints."""
        raise NotImplementedError

    def heading(self, view: View) -> tuple[Sequence[Line], Line]:
        """Return the title line: parts at the left, shown as far as they fit, and the right."""
        raise NotImplementedError

    def update_view(self, view: View, changed: Iterable[str] | None) -> None:
        """Draw a view; `changed` is `None` when views were missed."""
        raise NotImplementedError

    def batches_on_screen(self) -> Collection[str]:
        """Return the batches that have to be up to date in every frame."""
        return ()

    # --- one view --------------------------------------------------------------------------

    def show(self, view: View, changed: Iterable[str] | None, *, behind: bool = False) -> None:
        """Draw a view: the one thing that happens in a frame."""
        self.view = view
        self._behind = behind
        if not self._is_composed:
            return
        with self.app.batch_update():
            self._show_frame(view)
            self.update_view(view, changed)
            self.show_heading()  # it tells where the cursor is now
        self.context.engine.look_at(self.batches_on_screen())

    def _show_frame(self, view: View) -> None:
        title = self.context.title
        self.health_line.show(lambda width: health(view, title, width, behind=self._behind))
        most = max(1, self.size.height - _LINES_WITHOUT_TROUBLE)
        lines = trouble(view, self.size.width)[:most]
        self.trouble_line.set_class(bool(lines), "-shown")
        self.trouble_line.set_height(max(1, len(lines)))
        self.trouble_line.show(lambda width: trouble(view, width)[:most])
        bar = self.replay_bar
        bar.display = view.replay is not None and self.size.height >= _LINES_WITH_REPLAY_BAR
        if view.replay:
            ended = view.health.mode is Mode.ENDED
            bar.show_replay(view.replay, ended=ended, ascii_only=self.context.glyphs.ascii_only)

    def show_heading(self) -> None:
        """Draw the title line and the key hints."""
        if (view := self.view) is None:
            return
        parts, right = self.heading(view)
        right = [("  ", ""), *right, (" ", "")] if right else []

        def title(width: int) -> list[Line]:
            if width < _NARROW and parts and width_of(parts[0]) + width_of(right) >= width:
                return [[(" ", ""), *fitting(parts, width - 1)]]
            left = fitting(parts, width - 1 - width_of(right))
            return [[(" ", ""), *spread(left, right, width - 1)]]

        self.title_line.show(title)
        self.hint_line.show(lambda width: [self._hints(width)])

    def _hints(self, width: int) -> Line:
        if self._said:
            return [(" ", ""), *self._said]
        hints = [*self.HINTS, ("?", "help")]
        if self.view is not None and self.view.replay is not None:
            hints[1:1] = [("space", "pause"), (", .", "step"), ("← →", "5 s"), ("< >", "speed")]
        parts: list[Line] = [[(key, "accent"), (f" {label}", "muted")] for key, label in hints]
        shown = fitting([parts[-1], *parts[:-1]], width - 2)
        return [(" ", ""), *shown]

    def on_mount(self) -> None:
        self._is_composed = True

    def on_screen_resume(self) -> None:
        self.show(self.context.engine.view, None)

    def second(self) -> None:
        """Do what is due although nothing happens: called once a second."""

    def may_settle(self) -> bool:
        """Tell whether it is time to sort again, and take that as done."""
        now = asyncio.get_running_loop().time()  # the engine's clock stands still with a replay
        if now - self._settled_at < SETTLE_SECONDS:
            return False
        self._settled_at = now
        return True

    # --- keys ------------------------------------------------------------------------------

    def say(self, text: str, ink: str = "", seconds: float = _SAID_SECONDS) -> None:
        """Show a message in place of the key hints for a few seconds."""
        self._said = [(clean(text, 400), ink)]
        if self._said_timer:
            self._said_timer.stop()
        self._said_timer = self.set_timer(seconds, self._unsay)
        self.show_heading()

    def _unsay(self) -> None:
        self._said = None
        self.show_heading()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the keys that open the prompt to it while it is open."""
        return action not in ASKING or not self.prompt.is_open

    def ask(
        self, kind: str, label: str, value: str = "", *, hint: str = "", words: Iterable[str] = ()
    ) -> None:
        """Open the prompt in place of the key hints."""
        self.hint_line.display = False
        self.prompt.ask(kind, label, value, hint=hint, words=words)

    @on(Prompt.Done)
    def _asked(self, event: Prompt.Done) -> None:
        self.hint_line.display = True
        self.query_one("#main").focus()
        self.answer(event.kind, event.text)

    def answer(self, kind: str, text: str | None) -> None:
        """Take what was typed; `None` when it was cancelled."""
        from bcs_tui.screens.commands import run_command

        if kind == "command" and text:
            run_command(self, text)
        elif kind == "goto" and text:
            self.go_to(text)

    def action_command(self) -> None:
        """Ask for a command."""
        from bcs_tui.screens.commands import COMMANDS

        self.ask("command", ":", words=COMMANDS, hint="batch ID, sort eta, theme light, q …")

    def action_filter(self) -> None:
        """Ask for a filter, on pages that have one."""
        self.say("there is nothing to filter here", "muted")

    def action_copy(self) -> None:
        """Copy the id of what is selected."""
        text = self.selected_id()
        if text is None:
            self.say("nothing is selected", "muted")
            return
        self.app.copy_to_clipboard(text)
        self.say(f"copied {clean(text, 80)} (if the terminal supports OSC 52)")

    def selected_id(self) -> str | None:
        """Return the id of what is selected."""
        return None

    def action_escape(self) -> None:
        """Clear what can be cleared, else go back; never quit."""
        if not self.clear() and self.is_above_another:
            self.dismiss()

    def action_back(self) -> None:
        """Go back; from the first page, quit."""
        if self.is_above_another:
            self.dismiss()
        else:
            self.app.exit()

    @property
    def is_above_another(self) -> bool:
        """Whether there is a page to go back to."""
        return len(self.app.screen_stack) > 1

    def clear(self) -> bool:
        """Clear the filter; return whether there was one."""
        return False

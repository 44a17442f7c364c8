"""The dashboard's table of contents: pages, global keys, and the one worker that draws."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor
from textual.widget import AwaitMount

from bcs_tui import terminal
from bcs_tui.format import Glyph, clean
from bcs_tui.screens.events import EventsScreen
from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.screens.help import HelpScreen
from bcs_tui.screens.letters import LettersScreen
from bcs_tui.screens.page import Context, Page
from bcs_tui.screens.palette import Commands
from bcs_tui.theme import DARK, INK_CSS, LIGHT, THEMES
from bcs_tui.widgets.ink import Backstop
from engine import BCSError, Engine, Mode, View

logger = logging.getLogger(__name__)

_QUIT_SECONDS = 2.0
_HINT_SECONDS = 10.0


class BcsApp(App[None]):
    """Shows what an engine sees."""

    CSS_PATH = "bcs.tcss"
    CSS = INK_CSS
    COMMANDS: ClassVar = {Commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "show('fleet')", show=False),
        Binding("2", "show('events')", show=False),
        Binding("3", "show('letters')", show=False),
        Binding("minus", "last_view", show=False),
        Binding("question_mark,f1", "help", show=False),
        Binding("T", "shade", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(self, engine: Engine, title: str, *, ascii_only: bool = False) -> None:
        super().__init__()
        self.engine = engine
        self._backstop, self._colourless = Backstop(), NoColor()
        self._changed: set[str] = set()
        self._hints_said: list[str] = []
        self._behind = False
        self._interrupted_at = float("-inf")
        self._last_mode = ""
        context = Context(engine, title, Glyph(ascii_only=ascii_only))
        self.add_mode("fleet", lambda: FleetScreen(context))
        self.add_mode("events", lambda: EventsScreen(context))
        self.add_mode("letters", lambda: LettersScreen(context))
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = os.environ.get("TEXTUAL_THEME", DARK.name)

    def on_mount(self) -> None:
        self.switch_mode("fleet")
        self.run_worker(self._process(), name="engine")
        self.run_worker(self._draw(), name="drawing")
        self.set_interval(1.0, self._second)

    # --- the one worker --------------------------------------------------------------------

    async def _process(self) -> None:
        try:
            await self.engine.run()
        except BCSError as error:
            logger.error("the engine stopped: %s", error)  # the view says so on the screen

    async def _draw(self) -> None:
        async for view in self.engine.views(terminal.LOCAL_FPS):
            self._changed |= view.changed
            waited = await terminal.caught_up(self)
            self._behind = waited > terminal.BEHIND_SECONDS
            self._show(view)
            await asyncio.sleep(1 / terminal.frames_per_second(self) - 1 / terminal.LOCAL_FPS)

    def _show(self, view: View) -> None:
        page = next((s for s in reversed(self.screen_stack) if isinstance(s, Page)), None)
        if page is not None:
            changed, self._changed = self._changed, set()
            page.show(view, changed, behind=self._behind)
            self._say_once(page, view)

    def _say_once(self, page: Page, view: View) -> None:
        """Say what is worth saying once, when there is a picture to say it on."""
        hints = [hint for hint in view.health.hints if hint not in self._hints_said]
        if hints and view.health.mode is not Mode.STARTING:
            self._hints_said += hints
            text = f"{'; '.join(hints)}; watch does not (README, Accounts)"
            logger.warning("%s", text)
            page.say(text, "warn", _HINT_SECONDS)

    def _second(self) -> None:
        """Let ages grow, and rows settle, while nothing happens."""
        if terminal.backlog(self):
            return
        view = self.engine.view
        self._changed |= view.changed
        self._show(view)
        top = self.screen_stack[-1:]  # nothing is there once the app has begun to leave
        if top and isinstance(top[0], Page):
            top[0].second()

    # --- global keys -----------------------------------------------------------------------

    def action_show(self, mode: str) -> None:
        """Go to a first page."""
        self.switch_mode(mode)

    def action_last_view(self) -> None:
        """Go back to the first page that was shown before this one."""
        if self._last_mode:
            self.switch_mode(self._last_mode)
        elif isinstance(self.screen, Page):
            self.screen.say("no other page was shown yet: 1 fleet, 2 events, 3 dead letters")

    def switch_mode(self, mode: str) -> AwaitMount:
        if self.current_mode not in (mode, self.DEFAULT_MODE):
            self._last_mode = self.current_mode
        return super().switch_mode(mode)

    def action_help(self) -> None:
        """Show the keys of the page."""
        page = self.screen
        if isinstance(page, Page):
            self.push_screen(HelpScreen(type(page).__name__.removesuffix("Screen"), page.KEYS))

    def action_shade(self) -> None:
        """Change between dark and light."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def action_interrupt(self) -> None:
        """Say how to quit; the second time, quit."""
        now = asyncio.get_running_loop().time()
        if now - self._interrupted_at < _QUIT_SECONDS or not isinstance(self.screen, Page):
            self.exit(return_code=130)
        else:
            self._interrupted_at = now
            self.screen.say("q quits; ctrl+c once more quits at once")

    # --- what is Textual's, done our way ---------------------------------------------------

    def get_line_filters(self) -> Sequence[LineFilter]:
        # Textual's own answer to NO_COLOR is greys, which are colours as well.
        colours = [self._colourless] if self.no_color else []
        return [*super().get_line_filters(), *colours, self._backstop]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return (DARK if self.current_theme.dark else LIGHT).variables

    def _fatal_error(self) -> None:
        """Leave after a programming error: one line, since a traceback would print locals."""
        error = self._exception
        logger.critical("the dashboard crashed", exc_info=error)
        what = clean(f"{type(error).__name__}: {error}", 300)
        self._exit_renderables.append(
            f"bcs-tui: the dashboard crashed: {what}; the log has the traceback"
        )
        self._close_messages_no_wait()


async def run_dashboard(engine: Engine, title: str) -> int:
    """Run the dashboard until it is left; return the exit code."""
    terminal.honour_no_color()
    app = BcsApp(engine, title, ascii_only=terminal.has_few_glyphs())
    with terminal.leaving_on_signals(app) as departure:
        await app.run_async()
    return terminal.HUNG_UP if departure.hung_up else app.return_code or 0

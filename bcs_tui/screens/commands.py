"""Commands typed behind a colon."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bcs_tui.format import TIMES
from bcs_tui.widgets.fleet_orders import ORDERS

if TYPE_CHECKING:
    from bcs_tui.screens.page import Page


def run_command(page: Page, text: str) -> None:
    """Do what was typed, or say why not."""
    name, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    found = [command for command in COMMANDS if command.startswith(name)]
    chosen = name if name in COMMANDS else found[0] if len(found) == 1 else None
    if chosen is None:
        known = ", ".join(COMMANDS)
        page.say(f"no command {name!r}; there are: {known}", "warn")
        return
    COMMANDS[chosen](page, argument)


def _go(mode: str) -> Callable[[Page, str], None]:
    def go(page: Page, _argument: str) -> None:
        page.app.switch_mode(mode)

    return go


def _batch(page: Page, argument: str) -> None:
    from bcs_tui.screens.batch import BatchScreen

    batches = page.view.batches if page.view else {}
    matches = [argument] if argument in batches else [b for b in batches if argument in b]
    if len(matches) != 1:
        what = f"{len(matches):,} batches match" if matches else "no batch matches"
        page.say(f"{what} {argument!r}", "warn")
        return
    page.app.push_screen(BatchScreen(page.context, matches[0]))


def _filter(page: Page, argument: str) -> None:
    from bcs_tui.screens.events import EventsScreen
    from bcs_tui.screens.fleet import FleetScreen

    if isinstance(page, FleetScreen | EventsScreen):
        page.filter_by(argument)
    else:
        page.say("there is nothing to filter here", "muted")


def _sort(page: Page, argument: str) -> None:
    from bcs_tui.screens.fleet import FleetScreen

    order = next((name for name in ORDERS if name.startswith(argument.lower())), None)
    if not isinstance(page, FleetScreen):
        page.say("only the fleet can be sorted", "muted")
    elif order is None or not argument:
        page.say(f"sort by one of: {', '.join(ORDERS)}", "warn")
    else:
        page.sort_by(order)


def _theme(page: Page, argument: str) -> None:
    themes = page.app.available_themes
    name = {"": "", "dark": "bcs-dark", "light": "bcs-light"}.get(argument, argument)
    if name in themes:
        page.app.theme = name
    else:
        page.say(f"themes: dark, light, {', '.join(sorted(themes))}", "warn")


def _speed(page: Page, argument: str) -> None:
    if page.replay is None:
        return
    try:
        speed = None if argument == "max" else float(argument.lstrip(f"x{TIMES}"))
    except ValueError:
        page.say("speed is a number from 0.1 to 1000, or max", "warn")
        return
    page.set_speed(None if speed is None else min(max(speed, 0.1), 1000.0))


def _help(page: Page, _argument: str) -> None:
    page.app.call_later(page.app.run_action, "help")


COMMANDS: dict[str, Callable[[Page, str], None]] = {
    "batch": _batch,
    "fleet": _go("fleet"),
    "events": _go("events"),
    "letters": _go("letters"),
    "filter": _filter,
    "sort": _sort,
    "theme": _theme,
    "pause": lambda page, _argument: page.action_pause(),
    "speed": _speed,
    "goto": lambda page, argument: page.go_to(argument),
    "loop": lambda page, _argument: page.action_loop(),
    "help": _help,
    "q": lambda page, _argument: page.app.exit(),
    "quit": lambda page, _argument: page.app.exit(),
}

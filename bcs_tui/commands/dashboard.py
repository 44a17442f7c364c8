"""What the verbs with a screen share: the terminal they need, and the way onto it."""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

from bcs_tui.logs import log_path, log_to_file
from engine import Engine, SettingsError

REPAINTS_PER_SECOND: Final = "120"
"""Textual's own repaint timer runs behind our ticks; at 60 Hz the two would add up."""


def require_terminal() -> None:
    """Refuse early and in one line where no dashboard can be drawn.

    Raises:
        SettingsError: There is no terminal, or one that cannot move its cursor.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise SettingsError("the dashboard needs a terminal; `bcs-tui ls` and `show` do not")
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise SettingsError("the terminal cannot show a dashboard; set TERM, e.g. xterm-256color")


async def run_on_screen(engine: Engine, title: str) -> int:
    """Show an engine until the user leaves; return the exit code."""
    os.environ.setdefault("TEXTUAL_FPS", REPAINTS_PER_SECOND)
    log_to_file(log_path())
    gc.disable()
    from bcs_tui.app import run_dashboard

    gc.freeze()  # what is imported stays: looking for garbage in it finds nothing
    gc.enable()
    return await run_dashboard(engine, title)

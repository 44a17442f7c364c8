"""`watch`: the dashboard on what a backend holds, live; never writes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bcs_tui.commands.dashboard import require_terminal, run_on_screen
from bcs_tui.commands.options import add_verb, settings_of, why_mock
from engine import Engine, Settings, SettingsError, open_repository

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = "bcs-tui watch --sqlite-path batches.db"
    add_verb(
        verbs, "watch", run, "shows the dashboard on the backend, live and read-only", examples
    )


async def run(arguments: argparse.Namespace) -> int:
    """Follow the backend until the user leaves."""
    settings = settings_of(arguments)
    if settings.backend == "mock":
        raise SettingsError(f"nothing to watch: {why_mock(settings)}")
    require_terminal()
    opening = open_repository(settings, read_only=True, archive_may_be_away=True)
    async with opening as repository:
        engine = Engine(
            repository,
            stall_seconds=settings.STALL_SECONDS,
            observing=True,
            insecure=settings.is_insecure,
        )
        return await run_on_screen(engine, _title(settings))


def _title(settings: Settings) -> str:
    if settings.backend == "sqlite" and settings.SQLITE_PATH:
        return settings.SQLITE_PATH.name
    return "watch"

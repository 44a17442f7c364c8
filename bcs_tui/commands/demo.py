"""`demo`: the dashboard on a simulated fleet; needs nothing, or starts the servers it needs."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bcs_tui.commands.dashboard import require_terminal, run_on_screen
from bcs_tui.commands.options import add_verb, positive, settings_of
from bcs_tui.commands.plain import note
from engine import (
    PrivatePostgres,
    PrivateRedis,
    SettingsError,
    SimulatorFeed,
    migrate,
    open_engine,
)

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui demo
        bcs-tui demo --seed 7 --rate 5
        bcs-tui demo --backend redis
    """
    parser = add_verb(verbs, "demo", run, "shows the dashboard on a simulated fleet", examples)
    parser.add_argument("--seed", type=int, default=1, help="another seed, another fleet")
    parser.add_argument(
        "--rate", type=positive, default=1.0, metavar="N", help="twice the rate, twice the events"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Show the simulated fleet until the user leaves."""
    require_terminal()
    feed = SimulatorFeed(seed=arguments.seed, rate=arguments.rate)
    with ExitStack() as stack:
        settings = settings_of(arguments, **_settings_for(arguments.backend, stack))
        if settings.backend == "redis":
            await migrate(settings)
        async with open_engine(settings, feed) as engine:
            return await run_on_screen(engine, "demo")


def _settings_for(backend: str | None, stack: ExitStack) -> dict[str, object]:
    """Return the settings of the demo; for Redis, start servers that go when the stack is closed.

    Raises:
        SettingsError: The demo does not run on this backend, or a server does not start.
    """
    if backend in (None, "mock"):
        return {"USE_MOCK_REPOSITORY": True}
    if backend != "redis":
        raise SettingsError("demo runs in memory or, with --backend redis, on servers of its own")
    note("starting a private Redis and a private PostgreSQL; they go when the demo ends")
    redis, postgres = (stack.enter_context(kind()) for kind in (PrivateRedis, PrivatePostgres))
    return {
        "ENVIRONMENT": "development",
        "USE_MOCK_REPOSITORY": False,
        "SQLITE_PATH": None,
        "POSTGRES_ENABLED": True,
        "REDIS_URL": redis.url,
        "DATABASE_URL": postgres.url,
    }

"""`demo`: the dashboard on a simulated fleet; needs nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bcs_tui.commands.dashboard import require_terminal, run_on_screen
from bcs_tui.commands.options import add_verb, positive, settings_of
from engine import SimulatorFeed, open_engine

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui demo
        bcs-tui demo --seed 7 --rate 5
    """
    parser = add_verb(verbs, "demo", run, "shows the dashboard on a simulated fleet", examples)
    parser.add_argument("--seed", type=int, default=1, help="another seed, another fleet")
    parser.add_argument(
        "--rate", type=positive, default=1.0, metavar="N", help="twice the rate, twice the events"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Show the simulated fleet until the user leaves."""
    require_terminal()
    settings = settings_of(arguments, USE_MOCK_REPOSITORY=True)
    feed = SimulatorFeed(seed=arguments.seed, rate=arguments.rate)
    async with open_engine(settings, feed) as engine:
        return await run_on_screen(engine, "demo")

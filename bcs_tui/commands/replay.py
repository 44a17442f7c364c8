"""`replay`: the dashboard on recorded events, with replay controls."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from bcs_tui.commands.dashboard import require_terminal, run_on_screen
from bcs_tui.commands.options import FILES, add_verb, positive, settings_of
from bcs_tui.commands.samples import sample
from engine import Engine, ReplayClock, ReplayFeed, SystemClock, open_engine

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs

_SAMPLE = "busy_day"


class Place(NamedTuple):
    """A place in a recording: an event time, or a part of all events (0 to 1)."""

    moment: datetime | None = None
    fraction: float | None = None


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui replay
        bcs-tui replay events.jsonl --speed 60
        bcs-tui replay monday.jsonl tuesday.jsonl --at 50% --paused
        bcs-tui replay events.jsonl --at 2026-02-03T08:20:00Z
    """
    parser = add_verb(
        verbs, "replay", run, "shows the dashboard on recorded events, to be moved in", examples
    )
    files = parser.add_argument(
        "files", nargs="*", metavar="FILE", help=f"JSONL files; without any, the sample {_SAMPLE}"
    )
    files.complete = FILES  # type: ignore[attr-defined] # the attribute is shtab's convention
    parser.add_argument(
        "--speed", type=pace, default=60.0, metavar="N", help="event seconds a second, or max"
    )
    parser.add_argument("--paused", action="store_true", help="begin paused")
    parser.add_argument("--at", type=place, metavar="TIME|PERCENT", help="begin there")
    parser.add_argument("--loop", action="store_true", help="begin again at the end")


def pace(text: str) -> float | None:
    """Read a speed; `None` is as fast as possible."""
    return None if text == "max" else positive(text.removesuffix("x"))


def place(text: str) -> Place:
    """Read a percentage or a time; a time without a zone is UTC."""
    if text.endswith("%"):
        percent = float(text[:-1])
        if not 0 <= percent <= 100:
            raise argparse.ArgumentTypeError("a percentage is 0% to 100%")
        return Place(fraction=percent / 100)
    moment = datetime.fromisoformat(text)
    return Place(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


async def run(arguments: argparse.Namespace) -> int:
    """Replay the files on the mock repository until the user leaves."""
    require_terminal()
    settings = settings_of(arguments, USE_MOCK_REPOSITORY=True)
    feed = ReplayFeed(
        arguments.files or [sample(_SAMPLE)],
        speed=arguments.speed,
        paused=arguments.paused,
        loop=arguments.loop,
    )
    async with open_engine(settings, feed, ReplayClock(feed), pace=SystemClock()) as engine:
        moving = asyncio.ensure_future(_go_to(engine, feed, arguments.at))
        try:
            return await run_on_screen(engine, "replay")
        finally:
            moving.cancel()


async def _go_to(engine: Engine, feed: ReplayFeed, there: Place | None) -> None:
    """Go to a place once the recording is known and the engine runs."""
    if there is not None:
        await feed.indexed()
        await engine.seek(moment=there.moment, fraction=there.fraction)

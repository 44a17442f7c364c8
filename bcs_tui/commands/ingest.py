"""`ingest`: applies events to the backend, without a screen."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from bcs_tui.commands.options import FILES, UNTRUSTWORTHY, add_json, add_verb, settings_of, why_mock
from bcs_tui.commands.plain import as_json, note
from bcs_tui.commands.progress import Metered, line, shown, tell, told
from engine import (
    Engine,
    JsonlFeed,
    Settings,
    SettingsError,
    StdinFeed,
    open_engine,
    open_live_feed,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from bcs_tui.commands.options import Verbs

_CHANNEL: Final = "redis-pubsub:"
_LIVE: Final = ("redis-stream:", _CHANNEL)

PATIENCE_SECONDS = 10.0
"""How long an unavailable backend is tried again; with `--follow` there is no limit."""

CHUNK_SIZE = 5000
"""Events per transaction: a commit that reaches the disk costs as much as a thousand events."""

COLLECT_AFTER: Final = 500_000
"""Chunks come and go without cycles, and what stays of them is batches: each look for cycles
there has to fetch it all from memory, and empties the processor's caches for the next chunk."""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui ingest events.jsonl --sqlite-path batches.db
        zcat events.jsonl.gz | bcs-tui ingest - --json
        bcs-tui ingest /var/log/events.jsonl --follow
        bcs-tui ingest redis-stream:bcs:events --follow
        bcs-tui ingest redis-pubsub:bcs:events
    """
    parser = add_verb(verbs, "ingest", run, "applies events to the backend", examples)
    source = parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a JSONL file, - for stdin, redis-stream:KEY or redis-pubsub:CHANNEL",
    )
    source.complete = FILES  # type: ignore[attr-defined] # the attribute is shtab's convention
    parser.add_argument("--follow", action="store_true", help="wait for more at the end")
    parser.add_argument(
        "--consumer", default="", metavar="NAME", help="our name in a stream's consumer group"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit 7 if any event was unusable or missed"
    )
    add_json(parser, lines=False)
    parser.set_defaults(loop_of=loop_of)


def loop_of(arguments: argparse.Namespace) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop of a run: uvloop's for servers, the usual one for a file.

    A live feed waits for sockets, at which uvloop is the quicker; a file would pay for its
    import and gain nothing.
    """
    if sys.platform == "win32" or not arguments.source.startswith(_LIVE):
        return None
    from uvloop import new_event_loop

    return new_event_loop


async def run(arguments: argparse.Namespace) -> int:
    """Apply a source and print the account of it, also when interrupted."""
    settings = settings_of(arguments)
    is_channel = arguments.source.startswith(_CHANNEL)
    is_live = arguments.source.startswith(_LIVE)
    patience = None if arguments.follow or is_channel else PATIENCE_SECONDS
    if is_channel and not arguments.follow:
        note("a channel has no end; ctrl+c ends this")
    feed = await _live(arguments, settings, patience) if is_live else _recorded(arguments)
    if settings.backend == "mock":
        note(why_mock(settings))
    started = time.monotonic()
    already: set[str] = set()
    async with open_engine(settings, feed, patience_seconds=patience, headless=True) as engine:
        try:
            with (
                seldom_collected(),
                shown(lambda: line(engine, feed), lambda: engine.health.notices, already)
                if sys.stderr.isatty()
                else told(lambda: _state(engine), already),
            ):
                await engine.run()
        finally:
            _print(engine, time.monotonic() - started, arguments.json, already)
    doubtful = engine.health.dead_letters or engine.health.gaps
    return UNTRUSTWORTHY if arguments.strict and doubtful else 0


def _state(engine: Engine) -> tuple[str, Iterable[str]]:
    health = engine.health
    return health.trouble, health.notices


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for cycles among objects less often than a program usually does."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _live(
    arguments: argparse.Namespace, settings: Settings, patience: float | None
) -> Metered:
    feed = await open_live_feed(
        settings,
        arguments.source,
        follow=arguments.follow,
        consumer=arguments.consumer,
        chunk_size=CHUNK_SIZE,
        patience_seconds=patience,
    )
    return Metered(feed)


def _recorded(arguments: argparse.Namespace) -> Metered:
    source: str = arguments.source
    if arguments.consumer:
        raise SettingsError("--consumer names a reader of redis-stream:KEY only")
    if source == "-":
        return Metered(StdinFeed())
    feed = JsonlFeed(source, arguments.follow, chunk_size=CHUNK_SIZE)
    return Metered(feed, None if arguments.follow else os.path.getsize(source))


def _print(engine: Engine, seconds: float, as_document: bool, already: set[str]) -> None:
    health = engine.health
    account: dict[str, Any] = {
        "read": health.read,
        "applied": health.applied,
        "ignored": health.ignored,
        "duplicates": health.duplicates,
        "dead_letters": health.dead_letters,
        "batches": engine.batch_count,
        "seconds": round(seconds, 3),
        "events_per_second": round(health.read / seconds, 1) if seconds else 0.0,
    }
    tell(health.notices, already)
    if health.in_flight:
        note(f"{health.in_flight} events were read but not kept; run the same again")
    if as_document:
        print(as_json(account), flush=True)
    else:
        print(" · ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in account.items()))
    if health.dead_letters:
        note(f"{health.dead_letters} unusable; `bcs-tui dead-letters` says why")

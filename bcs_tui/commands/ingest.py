"""`ingest`: applies events to the backend, without a screen."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from bcs_tui.commands.options import FILES, UNTRUSTWORTHY, add_json, add_verb, settings_of, why_mock
from bcs_tui.commands.plain import as_json, note
from bcs_tui.commands.progress import Metered, shown
from engine import Engine, JsonlFeed, SettingsError, StdinFeed, open_engine

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs

PATIENCE_SECONDS = 10.0
"""How long an unavailable backend is tried again; with `--follow` there is no limit."""

CHUNK_SIZE = 5000
"""Events per transaction: a commit that reaches the disk costs as much as a thousand events."""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui ingest events.jsonl --sqlite-path batches.db
        zcat events.jsonl.gz | bcs-tui ingest - --json
        bcs-tui ingest /var/log/events.jsonl --follow
    """
    parser = add_verb(verbs, "ingest", run, "applies events to the backend", examples)
    source = parser.add_argument("source", metavar="SOURCE", help="a JSONL file, or - for stdin")
    source.complete = FILES  # type: ignore[attr-defined] # the attribute is shtab's convention
    parser.add_argument("--follow", action="store_true", help="wait for more at the end")
    parser.add_argument("--strict", action="store_true", help="exit 7 if any event was unusable")
    add_json(parser, lines=False)


async def run(arguments: argparse.Namespace) -> int:
    """Apply a source and print the account of it, also when interrupted."""
    settings = settings_of(arguments)
    feed = _feed(arguments)
    patience = None if arguments.follow else PATIENCE_SECONDS
    if settings.backend == "mock":
        note(why_mock(settings))
    started = time.monotonic()
    async with open_engine(settings, feed, patience_seconds=patience, headless=True) as engine:
        try:
            with shown(engine, feed) if sys.stderr.isatty() else nullcontext():
                await engine.run()
        finally:
            _print(engine, time.monotonic() - started, arguments.json)
    return UNTRUSTWORTHY if arguments.strict and engine.health.dead_letters else 0


def _feed(arguments: argparse.Namespace) -> Metered:
    source: str = arguments.source
    if source.startswith(("redis-stream:", "redis-pubsub:")):
        raise SettingsError(f"{source}: Redis feeds are not available in this version; name a file")
    if source == "-":
        return Metered(StdinFeed())
    feed = JsonlFeed(source, arguments.follow, chunk_size=CHUNK_SIZE)
    return Metered(feed, None if arguments.follow else os.path.getsize(source))


def _print(engine: Engine, seconds: float, as_document: bool) -> None:
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
    for notice in health.notices:
        note(notice)
    if health.in_flight:
        note(f"{health.in_flight} events were read but not kept; run the same again")
    if as_document:
        print(as_json(account), flush=True)
    else:
        print(" · ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in account.items()))
    if health.dead_letters:
        note(f"{health.dead_letters} unusable; `bcs-tui dead-letters` says why")

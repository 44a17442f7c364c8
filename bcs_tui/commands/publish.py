"""`publish`: sends events from a file or a pipe to a stream or a channel."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from bcs_tui.commands.ingest import PATIENCE_SECONDS
from bcs_tui.commands.options import FILES, add_json, add_verb, settings_of
from bcs_tui.commands.plain import as_json, note
from bcs_tui.commands.progress import Metered, bar, shown, told
from bcs_tui.commands.replay import pace
from bcs_tui.format import clean
from engine import ReplayFeed, SettingsError, StdinFeed, open_sink

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs
    from engine import Sink


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui publish events.jsonl redis-stream:bcs:events
        bcs-tui publish events.jsonl redis-stream:bcs:events --most-entries 100000
        bcs-tui publish events.jsonl redis-pubsub:bcs:events --speed 60
        kcat -q -u -b kafka:9092 -G bcs-relay TOPIC ... | bcs-tui publish - redis-stream:bcs:events
    """
    parser = add_verb(verbs, "publish", run, "sends events to a Redis stream or channel", examples)
    file = parser.add_argument("file", metavar="FILE", help="a JSONL file, or - for stdin")
    file.complete = FILES  # type: ignore[attr-defined] # the attribute is shtab's convention
    parser.add_argument(
        "sink", metavar="SINK", help="redis-stream:KEY or redis-pubsub:CHANNEL (bcs:events)"
    )
    parser.add_argument(
        "--speed",
        type=pace,
        metavar="N",
        help="event seconds a second; without it as fast as can be",
    )
    parser.add_argument(
        "--most-entries", type=_count, metavar="N", help="about how many entries a stream keeps"
    )
    add_json(parser, lines=False)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
    return number


async def run(arguments: argparse.Namespace) -> int:
    """Send every line as it is, also those that no reader will accept, and tell how many."""
    settings = settings_of(arguments)
    piped = arguments.file == "-"
    feed = _piped(arguments) if piped else _recorded(arguments)
    account = {"read": 0, "too_long": 0}
    started = time.monotonic()
    try:
        # What a pipe brings is nowhere else: an outage is waited out, however long it takes.
        sink = await open_sink(
            settings,
            arguments.sink,
            most_entries=arguments.most_entries,
            patience_seconds=None if piped else PATIENCE_SECONDS,
        )
        try:
            with (
                shown(lambda: _line(feed, sink))
                if sys.stderr.isatty()
                else told(lambda: (sink.trouble, ()), set())
            ):
                while (chunk := await feed.read()) is not None:
                    whole = [one.raw for one in chunk if not one.oversize]
                    account["read"] += len(chunk)
                    account["too_long"] += len(chunk) - len(whole)
                    await sink.send(whole)
        finally:
            _print(account, sink, time.monotonic() - started, arguments.json)
            await sink.aclose()
    finally:
        await feed.aclose()
    return 0


def _recorded(arguments: argparse.Namespace) -> Metered:
    feed = ReplayFeed([arguments.file], speed=arguments.speed)
    return Metered(feed, os.path.getsize(arguments.file))


def _piped(arguments: argparse.Namespace) -> Metered:
    if arguments.speed is not None:
        raise SettingsError("--speed is for files; what comes by a pipe has a pace of its own")
    return Metered(StdinFeed())


def _line(feed: Metered, sink: Sink) -> str:
    progress = [] if feed.fraction is None else [bar(feed.fraction)]
    trouble = [clean(sink.trouble, 60)] if sink.trouble else []
    return "  ".join([*progress, f"{sink.sent:,} events", *trouble])


def _print(read: dict[str, int], sink: Sink, seconds: float, as_document: bool) -> None:
    account: dict[str, Any] = {
        "read": read["read"],
        "sent": sink.sent,
        "repeated": sink.repeated,
        "too_long": read["too_long"],
        "seconds": round(seconds, 3),
        "events_per_second": round(sink.sent / seconds, 1) if seconds else 0.0,
    }
    if as_document:
        print(as_json(account), flush=True)
    else:
        print(" · ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in account.items()))
    if sink.repeated:
        note(
            f"the answers to {sink.repeated} were lost: they were sent again and may be there "
            "twice; readers count those as duplicates"
        )
    if read["too_long"]:
        note(f"{read['too_long']} lines are longer than an event may be and were not sent")
    if sink.receivers == 0:
        note("nobody was subscribed to the channel at the end")

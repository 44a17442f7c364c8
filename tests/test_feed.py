"""The contract of a feed: what every source of envelopes promises."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
import redis

from engine.clock import ManualClock
from engine.feeds.jsonl import JsonlFeed
from engine.feeds.port import Envelope, Feed
from engine.feeds.redis_pubsub import RedisPubSubFeed
from engine.feeds.redis_stream import RedisStreamFeed
from engine.feeds.replay import ReplayFeed
from engine.feeds.simulation.fleet import live
from engine.feeds.simulation.plot import World
from engine.feeds.simulator import SimulatorFeed
from engine.feeds.stdin import StdinFeed
from engine.servers import PrivateRedis

CHUNK = 7
NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
LINES = [
    b'{"event_timestamp": "2026-02-03T08:00:%02dZ", "data": "\xc3\xa5 %d"}' % (number, number)
    for number in range(50)
]


class Case(NamedTuple):
    """A feed, what it will hand over, and what makes it hand over more when it waits."""

    feed: Feed
    expected: list[bytes]
    ends: bool
    give: Callable[[], list[bytes]] | None = None


def write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def jsonl(directory: Path) -> Iterator[Case]:
    path = write(directory / "events.jsonl", LINES)
    yield Case(JsonlFeed(path, chunk_size=CHUNK), LINES, ends=True)


def followed(directory: Path) -> Iterator[Case]:
    path = write(directory / "events.jsonl", LINES)

    def give() -> list[bytes]:
        with path.open("ab") as file:
            file.write(b"{}\n")
        return [b"{}"]

    feed = JsonlFeed(path, follow=True, chunk_size=CHUNK, poll_seconds=0.001)
    yield Case(feed, LINES, False, give)


def piped(directory: Path) -> Iterator[Case]:
    reading, writing = os.pipe()
    os.write(writing, b"\n".join(LINES) + b"\n")

    def give() -> list[bytes]:
        os.write(writing, b"{}\n")
        return [b"{}"]

    yield Case(StdinFeed(reading, chunk_size=CHUNK), LINES, False, give)
    os.close(reading)
    os.close(writing)


def redirected(directory: Path) -> Iterator[Case]:
    descriptor = os.open(write(directory / "events.jsonl", LINES), os.O_RDONLY)
    yield Case(StdinFeed(descriptor, chunk_size=CHUNK), LINES, ends=True)
    os.close(descriptor)


def replayed(directory: Path) -> Iterator[Case]:
    first = write(directory / "first.jsonl", LINES[:20])
    second = write(directory / "second.jsonl", LINES[20:])
    feed = ReplayFeed([first, second], speed=None, chunk_size=CHUNK)
    yield Case(feed, LINES, ends=True)


def paused(directory: Path) -> Iterator[Case]:
    path = write(directory / "events.jsonl", LINES)
    feed = ReplayFeed([path], paused=True, chunk_size=CHUNK)

    def give() -> list[bytes]:
        feed.step(3)
        return LINES[:3]

    yield Case(feed, [], False, give)


def simulated(directory: Path) -> Iterator[Case]:
    clock = ManualClock(NOON)
    feed = SimulatorFeed(seed=5, batches=3, essays=(2, 3), clock=clock, chunk_size=CHUNK)
    known = live(5, World(NOON), 3, (2, 3))
    past: list[bytes] = []
    for at, raw in known:
        if at > 0:
            break
        past.append(raw)

    def give() -> list[bytes]:
        clock.advance(at)
        return [raw]

    yield Case(feed, past, False, give)


async def streamed(server: PrivateRedis) -> AsyncIterator[Case]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        for line in LINES:
            client.xadd("events", {"data": line})
    yield Case(await RedisStreamFeed.open(server.url, "events", chunk_size=CHUNK), LINES, ends=True)


async def streamed_on(server: PrivateRedis) -> AsyncIterator[Case]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        for line in LINES:
            client.xadd("events", {"data": line})

        def give() -> list[bytes]:
            client.xadd("events", {"data": b"{}"})
            return [b"{}"]

        feed = await RedisStreamFeed.open(server.url, "events", follow=True, chunk_size=CHUNK)
        yield Case(feed, LINES, False, give)


async def heard(server: PrivateRedis) -> AsyncIterator[Case]:
    with redis.Redis.from_url(server.url) as client:

        def give() -> list[bytes]:
            client.publish("channel", b"{}")
            return [b"{}"]

        feed = await RedisPubSubFeed.open(server.url, "channel", chunk_size=CHUNK)
        for line in LINES:
            client.publish("channel", line)
        yield Case(feed, LINES, False, give)


CASES = (jsonl, followed, piped, redirected, replayed, paused, simulated)
LIVE_CASES = (streamed, streamed_on, heard)


@pytest_asyncio.fixture(params=(*CASES, *LIVE_CASES), ids=lambda make: make.__name__)
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    if request.param in LIVE_CASES:
        async for made in request.param(request.getfixturevalue("redis_server")):
            yield made
            await made.feed.aclose()
        return
    for made in request.param(tmp_path):
        yield made
        await made.feed.aclose()


async def take(feed: Feed, count: int) -> list[Envelope]:
    """Read until so many envelopes are there; a feed that waits is not read once more."""
    taken: list[Envelope] = []
    while len(taken) < count:
        chunk = await feed.read()
        assert chunk is not None, f"ended after {len(taken)} of {count} envelopes"
        assert len(chunk) <= CHUNK
        taken += chunk
    return taken


async def begin_waiting(feed: Feed) -> asyncio.Task[list[Envelope] | None]:
    """Start a read that finds nothing, and let it come to rest."""
    reading = asyncio.create_task(feed.read())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reading.done()
    return reading


async def test_hands_over_everything_once_in_order_and_ends(case: Case) -> None:
    taken = await take(case.feed, len(case.expected))
    assert [envelope.raw for envelope in taken] == case.expected
    if case.ends:
        assert await case.feed.read() is None
        assert await case.feed.read() is None


async def test_says_where_each_envelope_stood(case: Case) -> None:
    taken = await take(case.feed, len(case.expected))
    positions = {envelope.position for envelope in taken}
    assert len(positions) == len(case.expected)
    assert "" not in positions


async def test_has_a_name_and_nothing_to_complain_of(case: Case) -> None:
    assert case.feed.name
    assert case.feed.notices == []


async def test_can_be_acknowledged_at_any_time(case: Case) -> None:
    await case.feed.acknowledge()
    await take(case.feed, min(len(case.expected), 3))
    await case.feed.acknowledge()


async def test_is_over_once_it_is_closed(case: Case) -> None:
    await take(case.feed, min(len(case.expected), 3))
    await case.feed.aclose()
    await case.feed.aclose()
    assert await case.feed.read() is None


async def test_waits_and_goes_on(case: Case) -> None:
    await take(case.feed, len(case.expected))
    if case.give is None:
        assert await case.feed.read() is None
        return
    reading = await begin_waiting(case.feed)
    given = case.give()
    taken = await reading
    assert taken is not None
    taken += await take(case.feed, len(given) - len(taken))
    assert [envelope.raw for envelope in taken] == given


async def test_closing_ends_a_waiting_read(case: Case) -> None:
    await take(case.feed, len(case.expected))
    if case.give is None:
        assert await case.feed.read() is None
        return
    reading = await begin_waiting(case.feed)
    await case.feed.aclose()
    assert await reading is None


@pytest.mark.parametrize("turns", range(4))
async def test_closing_in_the_middle_of_a_read_is_no_error(case: Case, turns: int) -> None:
    reading = asyncio.create_task(case.feed.read())
    for _ in range(turns):
        await asyncio.sleep(0)
    await case.feed.aclose()
    first = [envelope.raw for envelope in await reading or []]
    assert first == case.expected[: len(first)]
    assert await case.feed.read() is None


async def test_a_cancelled_read_loses_nothing(case: Case) -> None:
    taken: list[Envelope] = []
    for turns in range(4):
        reading = asyncio.create_task(case.feed.read())
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            taken += await reading or []
    taken += await take(case.feed, len(case.expected) - len(taken))
    assert [envelope.raw for envelope in taken] == case.expected

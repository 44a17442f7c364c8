"""A channel that loses messages by its nature: every gap is noticed, counted and said."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import redis
from envelopes import registered, spellchecked
from proxy import Proxy

from engine.backends.mock import MockBatchStateRepository
from engine.engine import Engine
from engine.errors import FeedUnreachable
from engine.feeds.port import MAX_EVENT_BYTES, Envelope
from engine.feeds.redis_pubsub import RedisPubSubFeed
from engine.redis_subscription import BEAT_CHANNEL
from engine.servers import PrivateRedis

pytestmark = pytest.mark.slow

CHANNEL = "bcs:events"
BEATS: dict[str, Any] = {"beat_seconds": 0.05, "silence_seconds": 0.4}


@pytest.fixture
def producer(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def heard(feed: RedisPubSubFeed, last: bytes) -> list[Envelope]:
    """Read until a message comes that is the last one."""
    taken: list[Envelope] = []
    async with asyncio.timeout(20):
        while not (taken and taken[-1].raw == last):
            taken += await feed.read() or []
    return taken


@asynccontextmanager
async def running(feed: RedisPubSubFeed) -> AsyncIterator[Engine]:
    engine = Engine(MockBatchStateRepository(), feed)
    async with aclosing(feed):
        task = asyncio.create_task(engine.run())
        yield engine
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_of_the_server_is_a_gap() -> None:
    noticed = threading.Event()
    with PrivateRedis() as server:
        feed = await RedisPubSubFeed.open(server.url, on_gap=noticed.set, **BEATS)
        async with running(feed) as engine:
            with redis.Redis.from_url(server.url) as producer:
                producer.publish(CHANNEL, registered("b1", ["e1", "e2"], 2))
            await until(lambda: engine.health.applied == 1)
            server.kill()
            await until(lambda: feed.gaps == 1, 5)
            assert noticed.is_set()
            assert engine.health.mode == "reconnecting"
            assert "cannot be reached" in engine.health.trouble
            server.start()
            await until(lambda: engine.health.trouble == "")
            with redis.Redis.from_url(server.url) as producer:
                producer.publish(CHANNEL, spellchecked("b1", "e1"))
            await until(lambda: engine.health.applied == 2)
            assert engine.health.mode == "live"
        assert feed.gaps == 1
        assert "gap 1: contact lost, last heard 20" in feed.notices[0]
        assert "subscribed again after" in feed.notices[1]


async def test_a_slow_subscriber_that_the_server_drops_knows_it(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.config_set("client-output-buffer-limit", "pubsub 64kb 32kb 1")
    try:
        async with aclosing(await RedisPubSubFeed.open(redis_server.url)) as feed:
            for number in range(400):  # meanwhile nobody reads: this thread is the reader
                producer.publish(CHANNEL, b"%d" % number + b"x" * 65_536)
            await until(lambda: feed.gaps == 1, 5)
            await until(lambda: feed.trouble == "")
            producer.publish(CHANNEL, b"last")
            taken = await heard(feed, b"last")
            assert len(taken) < 400
            assert feed.gaps == 1
    finally:
        producer.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")


@pytest.mark.parametrize("only_ping", [False, True])
async def test_a_half_open_connection_is_noticed(
    redis_server: PrivateRedis, producer: redis.Redis, only_ping: bool
) -> None:
    url = with_account(redis_server, producer) if only_ping else redis_server.url
    async with (
        Proxy(redis_server.port) as proxy,
        aclosing(await RedisPubSubFeed.open(proxy.url_of(url), **BEATS)) as feed,
    ):
        await asyncio.sleep(0.8)  # the heartbeat keeps it alive
        assert feed.gaps == 0
        assert beats(producer) == (0 if only_ping else 1)
        proxy.silent = True
        await until(lambda: feed.gaps == 1, 10)
        await until(lambda: feed.trouble != "")
        proxy.silent = False
        await until(lambda: feed.trouble == "")
        producer.publish(CHANNEL, b"after")
        assert [one.raw for one in await heard(feed, b"after")] == [b"after"]
        assert "silent for 0.4 s" in feed.notices[0]


def with_account(server: PrivateRedis, producer: redis.Redis) -> str:
    """Return the URL of an account that may hear events, but not publish."""
    producer.acl_setuser(
        "observer",
        enabled=True,
        passwords=["+secret"],
        reset=True,
        channels=["bcs:events*"],
        categories=["-@all"],
        commands=["+subscribe", "+ping", "+auth", "+select", "+hello"],
    )
    return server.url.replace(f":{server.password}@", "observer:secret@")


def beats(producer: redis.Redis) -> int:
    return len(producer.pubsub_channels(f"{BEAT_CHANNEL}*"))


async def test_what_is_no_event_is_a_dead_letter(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    feed = await RedisPubSubFeed.open(redis_server.url)
    async with running(feed) as engine:
        producer.publish(CHANNEL, b"\xc3(")
        producer.publish(CHANNEL, b"x" * (MAX_EVENT_BYTES + 1))
        producer.publish(CHANNEL, registered("b1", ["e1"], 1))
        await until(lambda: engine.health.applied == 1)
        letters = await engine.dead_letters()
        assert [letter.reason for letter in letters] == ["not_utf8", "too_large"]
        assert [letter.position for letter in letters] == ["message 1", "message 2"]
        assert (letters[1].size, len(letters[1].payload)) == (MAX_EVENT_BYTES + 1, 64 * 1024)
        assert engine.health.read == 3
        assert feed.gaps == 0


@pytest.mark.parametrize("bound", [{"most_buffered": 10}, {"most_buffered_bytes": 50}])
async def test_a_flood_drops_the_oldest_and_counts_them(
    redis_server: PrivateRedis, producer: redis.Redis, bound: dict[str, int]
) -> None:
    feed = await RedisPubSubFeed.open(redis_server.url, **bound)
    async with aclosing(feed):
        for number in range(100, 200):
            producer.publish(CHANNEL, b"%05d" % number)
        await until(lambda: feed.dropped == 90)
        assert [one.raw for one in await heard(feed, b"00199")] == [
            b"%05d" % number for number in range(190, 200)
        ]
        assert feed.gaps == 1
        assert "90 messages dropped in all" in feed.notices[-1]
        for number in range(20):
            producer.publish(CHANNEL, b"%05d" % number)
        await until(lambda: feed.dropped == 100)
        assert feed.gaps == 2


async def test_without_patience_an_outage_ends_the_feed() -> None:
    with PrivateRedis() as server:
        async with aclosing(await RedisPubSubFeed.open(server.url, patience_seconds=0)) as feed:
            server.kill()
            with pytest.raises(FeedUnreachable, match="cannot be reached"):
                await feed.read()


async def test_a_feed_that_cannot_start_says_why(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    with_account(redis_server, producer)
    url = redis_server.url.replace(f":{redis_server.password}@", "observer:secret@")
    with pytest.raises(FeedUnreachable, match="does not permit this") as refused:
        await RedisPubSubFeed.open(url, "other")
    assert isinstance(refused.value.__cause__, PermissionError)
    with pytest.raises(FeedUnreachable, match="cannot be reached"):
        await RedisPubSubFeed.open("redis://127.0.0.1:1/0")

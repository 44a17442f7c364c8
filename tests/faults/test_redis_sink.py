"""Sending recorded events while answers get lost and servers refuse: nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing

import pytest
import redis
from proxy import Proxy

from engine.errors import FeedUnavailable, FeedUnreachable
from engine.feeds.redis_sink import RedisSink
from engine.servers import PrivateRedis

pytestmark = pytest.mark.slow

KEY = "events"
MESSAGES = [b"%d" % number for number in range(1200)]


@pytest.fixture
def client(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


def stored(client: redis.Redis) -> list[bytes]:
    return [fields[b"data"] for _, fields in client.xrange(KEY)]


async def test_a_lost_answer_is_made_up_for_and_said(
    redis_server: PrivateRedis, client: redis.Redis
) -> None:
    async with (
        Proxy(redis_server.port) as proxy,
        aclosing(
            await RedisSink.to_stream(proxy.url_of(redis_server.url), KEY, answer_seconds=0.5)
        ) as sink,
    ):
        proxy.lose_answer_to, proxy.reset_when_lost = b"XADD", False
        await sink.send(MESSAGES)
    assert (sink.sent, sink.repeated) == (1200, 500)
    assert stored(client) == MESSAGES[:500] + MESSAGES


async def test_what_never_arrived_is_not_counted_as_repeated() -> None:
    with PrivateRedis() as server:
        async with aclosing(
            await RedisSink.to_stream(server.url, KEY, patience_seconds=0.3)
        ) as sink:
            await sink.send(MESSAGES[:10])
            server.kill()
            with pytest.raises(FeedUnreachable, match="cannot be reached"):
                await sink.send(MESSAGES[10:20])
            assert sink.sent == 10
            assert sink.repeated == 10  # of the first try nobody knows, of the others we do


async def test_a_full_server_is_waited_for_and_nothing_doubled() -> None:
    with PrivateRedis() as server, redis.Redis.from_url(server.url) as other:
        sink = await RedisSink.to_stream(server.url, KEY, patience_seconds=0.2)
        async with aclosing(sink):
            other.config_set("maxmemory", other.info("memory")["used_memory"] + 600_000)
            with pytest.raises(FeedUnreachable, match="is full"):
                await sink.send([b"y" * 1000] * 2000)
        assert sink.repeated == 0
        assert 0 < sink.sent == other.xlen(KEY) < 2000


async def test_a_bounded_stream_stays_bounded(
    redis_server: PrivateRedis, client: redis.Redis
) -> None:
    async with aclosing(await RedisSink.to_stream(redis_server.url, KEY, most_entries=100)) as sink:
        await sink.send(MESSAGES)
    assert 100 <= client.xlen(KEY) < 400
    assert sink.receivers is None


async def test_a_channel_knows_who_listens(redis_server: PrivateRedis, client: redis.Redis) -> None:
    with client.pubsub() as subscriber:
        subscriber.subscribe("channel")
        subscriber.get_message(timeout=5)
        async with aclosing(await RedisSink.to_channel(redis_server.url, "channel")) as sink:
            await sink.send(MESSAGES[:3])
            assert (sink.sent, sink.receivers) == (3, 1)
        assert [subscriber.get_message(timeout=5)["data"] for _ in range(3)] == MESSAGES[:3]


async def test_a_key_of_another_kind_is_left_alone(
    redis_server: PrivateRedis, client: redis.Redis
) -> None:
    client.set(KEY, "text")
    async with aclosing(await RedisSink.to_stream(redis_server.url, KEY)) as sink:
        with pytest.raises(FeedUnavailable, match="redis-stream:events: WRONGTYPE"):
            await sink.send(MESSAGES)
    assert client.get(KEY) == b"text"

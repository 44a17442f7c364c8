"""A stream of real envelopes through feed and engine, beside raw XREADGROUP and XACK."""

from __future__ import annotations

import asyncio
import resource
import statistics
import time

from measure import envelopes, report

from engine import Engine
from engine.backends.mock import MockBatchStateRepository
from engine.feeds.redis_sink import RedisSink
from engine.feeds.redis_stream import RedisStreamFeed
from engine.redis_access import open_redis
from engine.servers import PrivateRedis

ROUNDS = 5
BATCHES = 400
CHUNK = 1000
KEY, GROUP = "bcs:events", "raw"


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def raw(url: str) -> int:
    """Read and acknowledge everything with redis-py as it is."""
    client = await open_redis(url)
    await client.xgroup_create(KEY, GROUP, id="0")
    count = 0
    while reply := await client.xreadgroup(GROUP, "one", {KEY: ">"}, count=CHUNK):
        entries = reply[0][1]
        await client.xack(KEY, GROUP, *(entry_id for entry_id, _ in entries))
        count += len(entries)
    await client.xgroup_destroy(KEY, GROUP)
    await client.aclose()
    return count


async def feed_alone(url: str) -> int:
    """Read and acknowledge everything with our feed."""
    feed = await RedisStreamFeed.open(url, KEY, group="feed", chunk_size=CHUNK)
    count = 0
    while chunk := await feed.read():
        count += len(chunk)
        await feed.acknowledge()
    await feed.aclose()
    return count


async def whole(url: str) -> int:
    """Read, decode, record in memory, project and acknowledge everything."""
    feed = await RedisStreamFeed.open(url, KEY, group="whole", chunk_size=CHUNK)
    engine = Engine(MockBatchStateRepository(), feed)
    await engine.run()
    await feed.aclose()
    assert engine.health.dead_letters == 0
    return engine.health.read


async def rate(work, url: str) -> tuple[float, float]:
    """Return events per wall second and processor microseconds of ours per event."""
    client = await open_redis(url)
    for group in ("feed", "whole"):
        await client.xgroup_destroy(KEY, group)
    await client.aclose()
    start, cpu = time.perf_counter(), cpu_seconds()
    count = await work(url)
    return count / (time.perf_counter() - start), (cpu_seconds() - cpu) / count * 1e6


async def main() -> None:
    works = (raw, feed_alone, whole)
    with PrivateRedis() as server:
        sink = await RedisSink.to_stream(server.url, KEY)
        await sink.send(envelopes(BATCHES))
        await sink.aclose()
        rounds = [[await rate(work, server.url) for work in works] for _ in range(ROUNDS)]
    for place, name in enumerate(("raw XREADGROUP + XACK", "feed alone", "feed, engine, memory")):
        events = statistics.median(one[place][0] for one in rounds)
        cpu = statistics.median(one[place][1] for one in rounds)
        report(f"{name}, events/s", f"{events:,.0f} ({cpu:.1f} us each)", "-", True)
    alone = statistics.median(one[1][0] / one[0][0] for one in rounds)
    ratio = statistics.median(one[2][0] / one[0][0] for one in rounds)
    events = statistics.median(one[2][0] for one in rounds)
    report("  feed alone / raw", f"{alone:.2f}", ">= 0.8", alone >= 0.8)
    report("  feed, engine, memory / raw", f"{ratio:.2f}", "-", True)
    report("  feed, engine, memory", f"{events:,.0f}", ">= 30,000", events >= 30_000)


if __name__ == "__main__":
    asyncio.run(main())

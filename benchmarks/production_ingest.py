"""Stream -> Redis and PostgreSQL -> acknowledged: `ingest` in one process, servers beside it.

Everything is the product's own: the feed, the parser, the recorder, both backends and the
acknowledgement, which waits for the commit. Both servers share the machine with us.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

import asyncpg
import deployment
from deployment import Servers, batch_id, cpu_of, essay_id, registration
from measure import VECTOR, envelopes, report
from redis.asyncio import Redis
from uvloop import new_event_loop

from bcs_tui.commands.ingest import CHUNK_SIZE, seldom_collected
from engine import Envelope, open_engine, open_live_feed
from engine.backends.postgres_schema import migrate
from engine.feeds.redis_sink import RedisSink
from engine.opening import open_repository

ROUNDS = int(os.environ.get("ROUNDS", "3"))
LEVELS = [int(text) for text in os.environ.get("KNOWN", "1000,100000,1000000").split(",")]
PER_BATCH = 250
NEW_BATCHES, OLD_BATCHES = 160, 160
AT_ONCE = 20
"""So many batches are under way at the same time: their events alternate."""

STREAM = "bcs:events"
_RESULTS = (
    b"huleedu.batch.spellcheck.phase.completed.v1",
    b"huleedu.essay.aifeedback.completed.v1",
)


class Run(NamedTuple):
    """One run: events per second, and processor microseconds per event of each process."""

    rate: float
    ours: float
    redis: float
    postgres: float

    def tell(self, name: str, target: float | None = None) -> None:
        wanted = f">= {target:,.0f}" if target else "-"
        good = target is None or self.rate >= target
        report(f"{name}, events/s", f"{self.rate:,.0f}", wanted, good)
        parts = f"{self.ours:.1f} + {self.redis:.1f} + {self.postgres:.1f} us"
        report("  CPU an event: ours + Redis + PostgreSQL", parts, "-", True)
        report("  events/s with two processors to ourselves", f"{self.by_cpu:,.0f}", "-", True)

    @property
    def by_cpu(self) -> float:
        """What there would be if nobody else used the machine, and nobody ever waited."""
        return 1e6 / max(self.ours, (self.ours + self.redis + self.postgres) / 2)


def middle(runs: Sequence[Run]) -> Run:
    return Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def whole_batches(first: int, count: int) -> list[bytes]:
    """Everything that real batches send, so many batches at a time."""
    lines = envelopes(first + count)
    size = len(lines) // (first + count)
    batches = [lines[one * size : (one + 1) * size] for one in range(first, first + count)]
    groups = [batches[place : place + AT_ONCE] for place in range(0, count, AT_ONCE)]
    mixed = chain.from_iterable(chain.from_iterable(zip_longest(*group)) for group in groups)
    return [line for line in mixed if line is not None]


def results(batches: Sequence[int], kind: bytes) -> Iterator[bytes]:
    """A result of every essay of known batches, so many batches at a time."""
    line = next(line for line in VECTOR.read_bytes().splitlines() if kind in line)
    told = json.loads(line)
    essay = told["data"]["entity_id"].encode()
    batch = (told["data"].get("batch_id") or told["data"]["parent_id"]).encode()
    for place in range(0, len(batches), AT_ONCE):
        for number in range(PER_BATCH):
            for one in batches[place : place + AT_ONCE]:
                fresh = f"{one:08x}-{number:04x}-4000-8000-{kind[8:14].hex()}".encode()
                yield (
                    line.replace(told["event_id"].encode(), fresh)
                    .replace(essay, essay_id(one, number).encode())
                    .replace(batch, batch_id(one).encode())
                )


async def know(servers: Servers, first: int, last: int) -> None:
    """Register the essays of batches `first` to `last`."""
    async with open_repository(servers.settings) as repository:
        for start in range(first, last, AT_ONCE):
            group = range(start, min(start + AT_ONCE, last))
            facts = [registration(one, PER_BATCH) for one in group]
            await repository.record(facts)


async def ingest(servers: Servers, lines: Sequence[bytes]) -> Run:
    """Put lines into the stream, then have them ingested, and see that nothing is left."""
    sink = await RedisSink.to_stream(servers.redis.url, STREAM)
    await sink.send(lines)
    await sink.aclose()
    settings = servers.settings
    feed = await open_live_feed(settings, f"redis-stream:{STREAM}", chunk_size=CHUNK_SIZE)
    read, began = feed.read, [0.0, 0.0]

    async def read_on() -> list[Envelope] | None:
        if not began[0]:  # what was known has been loaded
            began[:] = time.perf_counter(), cpu_seconds()
            served[:] = [cpu_of(servers.redis.pid), cpu_of(servers.postgres.pid)]
        return await read()

    served = [0.0, 0.0]
    gc.collect()  # what the run before has left would be no part of a process of its own
    feed.read = read_on  # type: ignore[method-assign]
    async with open_engine(settings, feed, patience_seconds=10, headless=True) as engine:
        with seldom_collected():
            await engine.run()
        seconds, ours = time.perf_counter() - began[0], cpu_seconds() - began[1]
        redis = cpu_of(servers.redis.pid) - served[0]
        postgres = cpu_of(servers.postgres.pid) - served[1]
        health = engine.health
    assert (health.read, health.dead_letters) == (len(lines), 0), health
    async with Redis.from_url(servers.redis.url, driver_info=None, protocol=2) as client:
        pending = await client.xpending(STREAM, "bcs-tui")
        assert pending["pending"] == 0, pending
        await client.xtrim(STREAM, maxlen=0, approximate=False)
    million = len(lines) / 1e6
    return Run(len(lines) / seconds, ours / million, redis / million, postgres / million)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def steps_in_archive(servers: Servers) -> int:
    connection = await asyncpg.connect(servers.postgres.url)
    count = await connection.fetchval("SELECT count(*) FROM bcs.essay_steps")
    await connection.close()
    return int(count)


async def main() -> None:
    with deployment.servers() as servers:
        await migrate(servers.postgres.url)
        known, seeds = 0, iter(range(0, 10**9, NEW_BATCHES))
        new: list[Run] = []
        old: list[Run] = []
        for level in LEVELS:
            began = time.perf_counter()
            await know(servers, known, level // PER_BATCH)
            rate = (level - known * PER_BATCH) / (time.perf_counter() - began)
            print(f"{level:,} essays known, registered at {rate:,.0f} essays/s", flush=True)
            newest = range(known, level // PER_BATCH)
            known = level // PER_BATCH
            runs = [
                await ingest(servers, whole_batches(next(seeds), NEW_BATCHES))
                for _ in range(ROUNDS)
            ]
            new.append(middle(runs))
            new[-1].tell(f"{level:,} known, whole new batches", 30_000)
            if len(newest) >= OLD_BATCHES:
                runs = []
                for kind in _RESULTS:
                    before = await steps_in_archive(servers)
                    some = newest[:: len(newest) // OLD_BATCHES][:OLD_BATCHES]
                    lines = list(results(some, kind))
                    runs.append(await ingest(servers, lines))
                    assert await steps_in_archive(servers) == before + len(lines)
                old.append(middle(runs))
                old[-1].tell(f"{level:,} known, results of any", 30_000)
        for name, kept in (("whole new batches", new), ("results of any", old)):
            if kept:
                grown = kept[-1].ours / kept[0].ours
                report(
                    f"our CPU an event, {name}, last / first",
                    f"{grown:.2f}",
                    "about 1",
                    grown < 1.5,
                )
                grown = kept[0].rate / kept[-1].rate
                report(
                    f"time an event, {name}, last / first", f"{grown:.2f}", "about 1", grown < 1.5
                )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:  # as the command line does
        runner.run(main())

"""Recording into Redis beside the raw SET of the same documents and the deployed procedure.

Every figure is a ratio within one run, as machines differ; rounds are interleaved. We need two
processors, raw SET one: on a machine that others use as well, the ratio of what the busier
process spends per event says what there would be with both to ourselves.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from measure import report
from redis.asyncio import Redis

from engine.backends.redis import RedisBatchStateRepository
from engine.models import COMPLETED, BatchRecord, Fact, RegistrationFact, StepFact
from engine.servers import PrivateRedis

ROUNDS = int(os.environ.get("ROUNDS", "5"))
BATCHES, ESSAYS = 10, 1000
STEPS = ("spellcheck", "cj_assessment", "nlp", "ai_feedback")
IN_FLIGHT = 3
OTHER_KEYS = 1_000_000
START = datetime(2026, 2, 3, 8, tzinfo=UTC)
TTL_SECONDS = 604_800


def essay_id(batch: int, number: int) -> str:
    return f"00000000-0000-4000-{batch:04}-{number:012}"


def fact(batch: int, number: int, step: int) -> StepFact:
    moment = START + timedelta(seconds=number, microseconds=step)
    metadata = json.dumps(
        {
            "completion_status": "success",
            "status": "completed",
            "event_id": f"e6659ee8-d5da-4624-{step:04}-{number:012}",
            "timestamp": moment.isoformat(),
            "processing_duration_ms": number,
        }
    )
    return StepFact(
        f"batch-{batch}",
        essay_id(batch, number),
        STEPS[step],
        COMPLETED,
        moment,
        f"e6659ee8-d5da-4624-{step:04}-{number:012}",
        1,
        metadata,
    )


def registrations() -> list[Fact]:
    return [
        RegistrationFact(
            f"batch-{batch}",
            ESSAYS,
            tuple(essay_id(batch, number) for number in range(ESSAYS)),
            START,
        )
        for batch in range(BATCHES)
    ]


def step_by_step() -> list[list[Fact]]:
    """Chunks in which every event is a write of its own essay."""
    return [
        [fact(batch, number, step) for number in range(ESSAYS)]
        for step in range(len(STEPS))
        for batch in range(BATCHES)
    ]


def coalesced() -> list[list[Fact]]:
    """Chunks in which the four steps of an essay come together."""
    return [
        [fact(batch, number, step) for number in range(first, first + 500) for step in range(4)]
        for first in range(0, ESSAYS, 500)
        for batch in range(BATCHES)
    ]


async def record_all(
    repository: RedisBatchStateRepository, chunks: Sequence[Sequence[Fact]]
) -> float:
    """Record chunks, a few at a time, and return events per second."""
    waiting = iter(chunks)

    async def work() -> None:
        for chunk in waiting:
            await repository.record(chunk)

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return sum(map(len, chunks)) / (time.perf_counter() - start)


async def ours(
    server: PrivateRedis, chunks: Sequence[Sequence[Fact]]
) -> tuple[float, float, float]:
    """Return events per second, and the CPU microseconds per event of us and of the server."""
    await flush(server)
    repository = await RedisBatchStateRepository.open(server.url, ttl_seconds=TTL_SECONDS)
    await repository.record(registrations())
    events = sum(map(len, chunks)) / 1e6
    served = await server_seconds(server)
    before = cpu_seconds()
    rate = await record_all(repository, chunks)
    spent = (cpu_seconds() - before) / events
    served = (await server_seconds(server) - served) / events
    for batch in range(BATCHES):
        record = await proved(repository, f"batch-{batch}")
        assert record.counts == {step: [ESSAYS, 0] for step in STEPS}
    await repository.aclose()
    return rate, spent, served


async def flush(server: PrivateRedis) -> None:
    async with client_of(server) as client:
        await client.flushall()


def client_of(server: PrivateRedis) -> Redis:
    return Redis.from_url(server.url, driver_info=None, protocol=2)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def proved(repository: RedisBatchStateRepository, batch_id: str) -> BatchRecord:
    """Wait until all keys were looked through, which goes on in the background."""
    for _ in range(200):
        record = await repository.batch_record(batch_id)
        if not record.doubt:
            return record
        await asyncio.sleep(0.1)
    raise TimeoutError(record.doubt)


async def server_seconds(server: PrivateRedis) -> float:
    """The CPU that the server has spent so far."""
    async with client_of(server) as client:
        spent = await client.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"])


async def documents(server: PrivateRedis) -> list[tuple[bytes, bytes]]:
    """The documents that the last run left."""
    async with client_of(server) as client:
        keys = [key async for key in client.scan_iter("bcs:essay_state:*", count=1000)]
        return list(zip(keys, await client.mget(keys), strict=True))


def raw_set(server: PrivateRedis, found: Sequence[tuple[bytes, bytes]]) -> float:
    """Return SETs per second of bytes that were made before."""
    parts = []
    for first in range(0, len(found), 1000):
        part = found[first : first + 1000]
        parts.append(
            (
                b"".join(
                    b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
                    % (len(key), key, len(value), value)
                    for key, value in part
                ),
                len(part),
            )
        )
    with socket.create_connection(("127.0.0.1", server.port)) as one:
        one.sendall(f"AUTH {server.password}\r\n".encode())
        assert one.recv(64) == b"+OK\r\n"
        start = time.perf_counter()
        for _ in range(4):
            for text, count in parts:
                one.sendall(text)
                missing = count * 5
                while missing:
                    missing -= len(one.recv(65536))
        return 4 * len(found) / (time.perf_counter() - start)


async def deployed(server: PrivateRedis) -> float:
    """Return records per second of the deployed procedure, by 50 tasks."""
    await flush(server)
    facts = iter([fact(batch, number, 0) for batch in range(4) for number in range(ESSAYS)])
    async with client_of(server) as client:

        async def work() -> None:
            for one in facts:
                await as_deployed(client, one)

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(50)))
        return 4 * ESSAYS / (time.perf_counter() - start)


async def as_deployed(client: Redis, one: StepFact) -> None:
    key = f"bcs:essay_state:{one.batch_id}:{one.essay_id}"
    raw = await client.get(key)
    now = datetime.now(UTC).isoformat()
    state: dict[str, Any] = (
        json.loads(raw) if raw else {"completed_steps": [], "step_metadata": {}, "created_at": now}
    )
    state["completed_steps"].append(one.step)
    state["step_metadata"][one.step] = json.loads(one.metadata)
    state["last_updated"] = now
    async with client.pipeline(transaction=True) as pipe:
        await pipe.watch(key)
        pipe.multi()
        pipe.set(key, json.dumps(state), ex=TTL_SECONDS)
        pipe.delete(f"bcs:batch_summary:{one.batch_id}")
        await pipe.execute()


async def summary_seconds(server: PrivateRedis) -> float:
    """Return the median seconds of a summary of 10,000 essays beside many other keys."""
    await flush(server)
    async with client_of(server) as client:
        for first in range(0, OTHER_KEYS, 10_000):
            await client.mset({f"other:{first + number}": b"x" * 50 for number in range(10_000)})
    repository = await RedisBatchStateRepository.open(server.url, ttl_seconds=TTL_SECONDS)
    names = tuple(essay_id(0, number) for number in range(10_000))
    await repository.record([RegistrationFact("batch-0", 10_000, names, START)])
    for step in range(len(STEPS)):
        await repository.record([fact(0, number, step) for number in range(10_000)])
    await proved(repository, "batch-0")
    costs = []
    for _ in range(500):
        start = time.perf_counter()
        record = await repository.batch_record("batch-0")
        costs.append(time.perf_counter() - start)
        assert (record.doubt, record.counts["nlp"]) == ("", [10_000, 0])
    await repository.aclose()
    return statistics.median(costs)


class Measured(NamedTuple):
    rate: float
    spent: float
    served: float
    ratio: float
    by_cpu: float

    def tell(self, name: str, target: float) -> None:
        report(f"Redis, {name}, events/s", f"{self.rate:,.0f}", "-", True)
        report(
            "  CPU per event, ours + server's",
            f"{self.spent:.1f} + {self.served:.1f} us",
            "-",
            True,
        )
        good = self.ratio >= target
        report("  / raw pipelined SET", f"{self.ratio:.2f}", f">= {target:.2f}", good)
        report("  / raw pipelined SET, by CPU", f"{self.by_cpu:.2f}", "-", True)


async def measure(server: PrivateRedis, chunks: Sequence[Sequence[Fact]]) -> Measured:
    """Record, then SET the same documents right after it."""
    rate, spent, served = await ours(server, chunks)
    found = await documents(server)
    before = await server_seconds(server)
    raw = raw_set(server, found)
    cost = (await server_seconds(server) - before) / (4 * len(found) / 1e6)
    return Measured(rate, spent, served, rate / raw, cost / max(spent, served))


def middle(rounds: Sequence[Measured]) -> Measured:
    return Measured(*(statistics.median(column) for column in zip(*rounds, strict=True)))


async def main() -> None:
    events, together = step_by_step(), coalesced()
    with PrivateRedis() as server:
        single, joint, times = [], [], []
        for _ in range(ROUNDS):
            single.append(await measure(server, events))
            joint.append(await measure(server, together))
            times.append(single[-1].rate / await deployed(server))
        middle(single).tell("an essay write per event", 0.20)
        ratio = statistics.median(times)
        report("  / the deployed procedure, 50 tasks", f"{ratio:.1f}", ">= 15", ratio >= 15)
        middle(joint).tell("four steps of an essay together", 0.45)
        cost = await summary_seconds(server) * 1e3
        report("summary of 10,000 essays in sync", f"{cost:.3f} ms", "<= 1 ms", cost <= 1)


if __name__ == "__main__":
    asyncio.run(main())

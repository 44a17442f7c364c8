"""`kill -9` of us, of Redis, of PostgreSQL, of all three: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest
from deployment import STREAM, Deployment, Onlooker, deployed, events
from stills import until

from engine.feeds.redis_sink import RedisSink

VICTIMS = ("us", "redis", "postgres", "all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounds", "batches", "workers"),
    [
        (4, 8, 1),
        pytest.param(60, 100, 1, marks=pytest.mark.long),
        pytest.param(60, 100, 2, marks=pytest.mark.long),
    ],
)
async def test_whoever_is_killed_when(rounds: int, batches: int, workers: int) -> None:
    chances = random.Random(11)
    raws = events(batches, 40)
    async with deployed() as deployment:
        sink = await RedisSink.to_stream(deployment.live.url, STREAM, answer_seconds=1)
        for number in range(workers):
            deployment.ingest(name=f"worker{number}")
            await at_work(deployment, f"worker{number}")
        async with aclosing(sink), Onlooker(deployment).looking():
            for number in range(rounds):
                before = given(deployment)
                part = raws[number * len(raws) // rounds : (number + 1) * len(raws) // rounds]
                sending = asyncio.create_task(send_slowly(sink, part))
                await until(lambda before=before: given(deployment) > before)  # type: ignore[misc] # a lambda
                await asyncio.sleep(chances.uniform(0, 0.2))
                await kill(deployment, VICTIMS[number % len(VICTIMS)], chances)
                await sending
        await deployment.agree(raws, 60)
        assert len(deployment.workers) == workers


async def kill(deployment: Deployment, victim: str, chances: random.Random) -> None:
    """Kill one or all, in any order, and start them again after a while."""
    parts = ["us", "redis", "postgres"] if victim == "all" else [victim]
    chances.shuffle(parts)
    names = list(deployment.workers)
    doomed = names if victim == "all" else [chances.choice(names)]
    for part in parts:
        if part == "us":
            for name in doomed:
                deployment.kill_worker(name)
        elif part == "redis":
            deployment.live.kill()
        else:
            deployment.kill_postgres()
    await asyncio.sleep(chances.uniform(0, 0.5))
    for part in parts:
        if part == "redis":
            await asyncio.to_thread(deployment.live.start)
        elif part == "postgres":
            await asyncio.to_thread(deployment.postgres.start)
    if "us" in parts:  # both must be there when a command starts
        for name in doomed:
            deployment.ingest(name=name)
        for name in doomed:
            await at_work(deployment, name)


async def at_work(deployment: Deployment, name: str) -> None:
    """Wait until a worker asks for entries again and again."""
    known = 0

    def has_asked_again() -> bool:
        nonlocal known
        before, known = known, idle(deployment, name)
        return known < before

    await until(has_asked_again)


def idle(deployment: Deployment, name: str) -> int:
    with deployment.client() as client:
        found = client.xinfo_consumers(STREAM, "bcs-tui") if client.exists(STREAM) else []
    return next((one["idle"] for one in found if one["name"] == name.encode()), 0)


def given(deployment: Deployment) -> int:
    with deployment.client() as client:
        groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
    return (groups[0]["entries-read"] or 0) if groups else 0


async def send_slowly(sink: RedisSink, raws: list[bytes]) -> None:
    for start in range(0, len(raws), 5):
        await sink.send(raws[start : start + 5])
        await asyncio.sleep(0.03)

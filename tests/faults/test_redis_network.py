"""A way to Redis that breaks, or is long, and a server that stands still: nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import pytest
from proxy import Proxy
from redis.asyncio import Redis
from redis_servers import empty, private_redis, shared_redis
from test_redis import client_of, fact, opened, persistently

from engine.models import Fact


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    empty(shared_redis())
    async with client_of(shared_redis()) as client:
        yield client


async def test_r03_a_server_that_stands_still_does_nothing_twice() -> None:
    """What it was sent meanwhile it does when it goes on, after it has been sent again."""
    with private_redis() as server:
        async with aclosing(await opened(server.url, answer_seconds=0.3)) as repository:
            await repository.record([fact("e1", "first")])
            os.kill(server.pid, signal.SIGSTOP)
            try:
                recording = asyncio.create_task(
                    persistently(lambda: repository.record([fact("e1"), fact("e2")]))
                )
                await asyncio.sleep(1)
                assert not recording.done()
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert await recording, "it was said to be silent"
            record = await repository.batch_record("b1")
            assert (record.counts, record.seen) == ({"first": [1, 0], "nlp": [2, 0]}, 2)


async def test_r05_connections_that_are_reset_all_the_time(client: Redis) -> None:
    async with Proxy(shared_redis().port) as proxy:

        async def reset() -> None:
            while True:
                await asyncio.sleep(0.05)
                proxy.reset()

        async with aclosing(await opened(proxy.url_of(shared_redis().url))) as repository:
            resetting = asyncio.create_task(reset())
            errors = chunks = 0
            while errors < 5:
                facts: list[Fact] = [fact(f"e{chunks}-{one}") for one in range(20)]

                async def record(facts: list[Fact] = facts) -> None:
                    await repository.record(facts)

                errors += len(await persistently(record))
                chunks += 1
            resetting.cancel()
            with suppress(asyncio.CancelledError):
                await resetting
            record = await repository.batch_record("b1")
            assert (record.counts, record.seen) == ({"nlp": [chunks * 20, 0]}, chunks * 20)


async def test_r07_a_long_way_is_gone_a_few_times_and_not_for_each_event(client: Redis) -> None:
    async with (
        Proxy(shared_redis().port) as proxy,
        aclosing(await opened(proxy.url_of(shared_redis().url))) as repository,
    ):
        await repository.record([fact("e1", batch_id="b2")])
        proxy.latency_seconds = 0.05
        began = time.monotonic()
        await repository.record([fact(f"e{number}") for number in range(500)])
        ways = (time.monotonic() - began) / (2 * proxy.latency_seconds)
        assert ways < 100, "one by one it would be 500 and more"

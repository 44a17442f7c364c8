"""The accounts of the README: each may do what it must, and the observer no more than look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
import redis.exceptions
from redis.asyncio import Redis
from redis_servers import TTL_SECONDS, empty, rules_of, shared_redis, url_for

from engine.backends.redis import RedisBatchStateRepository
from engine.backends.redis_link import Link
from engine.errors import RepositoryUnavailable
from engine.models import COMPLETED, BatchFact, PhaseFact, RegistrationFact, StepFact
from engine.repository import DeadLetter

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LETTER = DeadLetter(NOW, "f", "1", "json", "", "", b"", "aa", 0)


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    server = shared_redis()
    empty(server)
    async with Redis.from_url(server.url, driver_info=None, protocol=2) as client:
        yield client


async def opened(user: str, *, read_only: bool = False) -> RedisBatchStateRepository:
    url = url_for(shared_redis(), user, rules_of(user))
    return await RedisBatchStateRepository.open(url, ttl_seconds=TTL_SECONDS, read_only=read_only)


async def fill(repository: RedisBatchStateRepository) -> None:
    await repository.record(
        [
            RegistrationFact("b1", 3, ("e1", "e2"), NOW, "owner"),
            StepFact("b1", "e1", "nlp", COMPLETED, NOW, "x", 1),
            StepFact("", "e1", "later", COMPLETED, NOW, "x", 1),
            PhaseFact("b1", "nlp", "completed_successfully", "r", NOW),
            BatchFact("b1", "provisioned", "upload", "r", NOW),
        ]
    )
    await repository.record_dead_letters([LETTER])


async def test_the_ingester_may_do_all_it_must(client: Redis) -> None:
    await client.hset("bcs:essay_state:b1:e2", mapping={"a": "1"})
    await client.set("bcs:essay_state:b1:e3", "{garbage")
    async with aclosing(await opened("bcs_ingester")) as repository:
        await fill(repository)
        record = await repository.batch_record("b1")
        assert (record.expected, record.seen, record.doubt) == (3, 3, "")
        assert record.counts == {"nlp": [1, 0], "later": [1, 0]}
        assert record.provisioned == 1
        reasons = sorted(letter.reason for letter in await repository.dead_letters())
        assert reasons == ["json", "unreadable_document", "wrong_type"]
        assert repository._store.scripts_allowed
        assert await client.hgetall("bcs:batch:b1:phases") == {b"nlp": b"completed"}


async def test_the_observer_reads_everything_and_writes_nothing(client: Redis) -> None:
    async with aclosing(await opened("bcs_ingester")) as repository:
        await fill(repository)
    await client.set("bcs:essay_state:old:e1", '{"completed_steps": ["nlp"], "step_metadata": {}}')
    before = {key: await client.dump(key) async for key in client.scan_iter()}
    async with aclosing(await opened("bcs_observer", read_only=True)) as observer:
        assert [record.batch_id for record in await observer.summaries()] == ["b1", "old"]
        assert (await observer.batch_record("b1")).doubt == ""
        assert (await observer.batch_record("old")).counts == {"nlp": [1, 0]}
        assert [essay.essay_id for essay in await observer.essays("b1")] == ["e1", "e2"]
        assert (await observer.load_batch("b1")).essay_ids == ["e1", "e2"]
        assert await observer.dead_letters() == [LETTER]
        assert await observer.count_dead_letters() == 1
        assert await observer.discover()
        for work in (
            observer.record([StepFact("b1", "e1", "nlp", COMPLETED, NOW)]),
            observer.record_dead_letters([LETTER]),
        ):
            with pytest.raises(RepositoryUnavailable, match="for reading only"):
                await work
    assert {key: await client.dump(key) async for key in client.scan_iter()} == before

    url = url_for(shared_redis(), "bcs_observer", rules_of("bcs_observer"))
    async with Redis.from_url(url, driver_info=None, protocol=2) as account:
        for command in (
            ("SET", "bcs:x", "1"),
            ("DEL", "bcs:tui:batches"),
            ("EXPIRE", "bcs:tui:batches", 1),
            ("EVAL", "return 1", 0),
            ("WATCH", "bcs:x"),
            ("CONFIG", "GET", "*"),
            ("GET", "another:key"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await account.execute_command(*command)


async def test_no_cancellation_is_lost(client: Redis) -> None:
    link = Link(client, shared_redis().url, 3.0)

    async def ask_on() -> None:
        while True:
            await link.exchange([("GET", "x")])

    for turns in range(200):
        task = asyncio.create_task(ask_on())
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([task])
        assert task.cancelled()

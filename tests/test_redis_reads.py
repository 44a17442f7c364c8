"""Reading summaries from Redis: when the counters are believed, and when essays are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis
from redis_servers import TTL_SECONDS, empty, shared_redis

from engine.backends import redis_reads
from engine.backends.redis import RedisBatchStateRepository
from engine.backends.redis_batch import UNVERIFIED
from engine.models import COMPLETED, StepFact

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DOCUMENT = json.dumps({"completed_steps": ["nlp"], "step_metadata": {"nlp": {}}})


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    empty(shared_redis())
    async with Redis.from_url(shared_redis().url, driver_info=None, protocol=2) as client:
        yield client


async def opened() -> RedisBatchStateRepository:
    return await RedisBatchStateRepository.open(shared_redis().url, ttl_seconds=TTL_SECONDS)


async def record(repository: RedisBatchStateRepository, *essay_ids: str) -> None:
    await repository.record(
        [StepFact("b1", name, "nlp", COMPLETED, NOW, name, 1) for name in essay_ids]
    )


async def leave_unverified(client: Redis) -> None:
    """Have a batch of two essays of which nobody has looked whether it has more."""
    async with aclosing(await opened()) as repository:
        await record(repository, "e1", "e2")
    await client.hset("bcs:batch_index:b1", "ok", "0")


async def test_of_a_batch_that_is_only_unverified_no_essay_is_read(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_rows(*_: Any) -> list[Any]:
        raise AssertionError("an essay was read")

    await leave_unverified(client)
    monkeypatch.setattr(redis_reads, "read_rows", read_rows)
    async with aclosing(await opened()) as repository:
        for found in (await repository.summaries(["b1"]), await repository.summaries()):
            assert [(one.seen, one.counts, one.doubt) for one in found] == [
                (2, {"nlp": [2, 0]}, UNVERIFIED)
            ]


async def test_of_one_that_others_have_added_to_every_essay_is_counted(client: Redis) -> None:
    await leave_unverified(client)
    await client.set("bcs:essay_state:b1:e3", DOCUMENT)
    async with aclosing(await opened()) as repository:
        [found] = await repository.summaries(["b1"])
        assert (found.seen, found.counts) == (3, {"nlp": [3, 0]})
        assert found.doubt == "others have written essays of it"


async def test_a_write_in_the_midst_of_a_read_looks_like_nobody_elses(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(await opened()) as writer, aclosing(await opened()) as reader:
        await record(writer, "e1")
        assert await reader.discover()  # or it would look for essays of others, and read again
        send = reader.store.send
        torn = 0

        async def send_with_a_pause(commands: Any, **options: Any) -> list[Any]:
            nonlocal torn
            if torn or not commands or commands[0][0] != "HGETALL":
                return await send(commands, **options)
            torn += 1
            first = await send(commands[:1], **options)
            await record(writer, "e2")
            return [*first, *await send(commands[1:], **options)]

        monkeypatch.setattr(reader.store, "send", send_with_a_pause)
        [found] = await reader.summaries(["b1"])
        assert torn
        assert (found.doubt, found.counts) == ("", {"nlp": [2, 0]})


async def test_a_record_of_another_type_is_in_doubt_and_the_essays_are_counted(
    client: Redis,
) -> None:
    async with aclosing(await opened()) as repository:
        await record(repository, "e1")
        await client.delete("bcs:tui:batch:b1")
        [gone] = await repository.summaries(["b1"])
        assert (gone.doubt, gone.counts) == ("some of its keys are gone", {"nlp": [1, 0]})
        await client.hset("bcs:tui:batch:b1", "a", "1")
        [other] = await repository.summaries(["b1"])
        assert other.doubt == "its own record is of another type"
        assert other.counts == {"nlp": [1, 0]}

"""Watching beside a service that writes its own keys and tells nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from envelopes import VECTORS
from redis.asyncio import Redis
from redis_servers import TTL_SECONDS, empty, rules_of, shared_redis, url_for
from redis_services import Service, hurry
from stills import until

from engine.backends.redis import RedisBatchStateRepository
from engine.engine import Engine
from engine.view import BatchRow, Mode

STORED = json.loads((VECTORS / "stored_redis.json").read_text())
TRUTH = json.loads((VECTORS / "ground_truth.json").read_text())["comprehensive_batch"][0]
BATCH = TRUTH["batch_id"]
DOCUMENTS = [entry for entry in STORED if entry["key"].startswith(f"bcs:essay_state:{BATCH}:")]


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    empty(shared_redis())
    async with Redis.from_url(shared_redis().url, driver_info=None, protocol=2) as client:
        yield client


async def store(client: Redis, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        if entry["type"] == "hash":
            await client.hset(entry["key"], mapping=entry["value"])
        else:
            await client.set(entry["key"], entry["value"], ex=entry["ttl_seconds"])


async def test_what_only_the_service_writes_is_found(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    url = url_for(shared_redis(), "bcs_observer", rules_of("bcs_observer"))
    repository = await RedisBatchStateRepository.open(url, ttl_seconds=TTL_SECONDS, read_only=True)
    async with aclosing(repository):
        engine = Engine(repository, observing=True)
        running = asyncio.create_task(engine.run())
        await until(lambda: engine.health.mode is Mode.LIVE, 5)
        assert engine.view.batches == {}
        await store(client, DOCUMENTS[:20])
        await until(lambda: BATCH in engine.view.batches, 8)
        assert row_of(engine).summary.total == 20
        await engine.open(BATCH)
        assert row_of(engine).summary.doubt == "no counters of ours prove its counts"
        assert engine.health.disputes == 0

        await store(client, STORED)
        await until(lambda: row_of(engine).summary.total == 24, 8)
        await until(lambda: engine.view.grid and len(engine.view.grid.essay_ids) == 24, 8)
        steps = {step.step: step for step in row_of(engine).summary.steps}
        assert steps["spellcheck"].failed == TRUTH["steps"]["spellcheck"]["failed"]
        found = await engine.audit(BATCH)
        assert {one.source for one in found.disagreements} == {"stored summary"}
        await until(lambda: row_of(engine).summary.is_disputed, 20)
        assert engine.health.disputes == 1

        # One more step in a document that is known: nothing tells of it either.
        service = Service(client, watch_first=True)
        await service.record(BATCH, TRUTH["essay_ids"][0], "more", completion_status="success")
        await until(lambda: "more" in {one.step for one in row_of(engine).summary.steps}, 8)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def row_of(engine: Engine) -> BatchRow:
    return engine.view.batches[BATCH]

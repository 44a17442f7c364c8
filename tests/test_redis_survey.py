"""Looking through all keys for what only another service wrote: within a budget, to the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis_servers import TTL_SECONDS, empty, rules_of, shared_cluster, shared_redis, url_for
from redis_services import Service, hurry
from stills import until

from engine.backends import redis_counts, redis_notices, redis_survey
from engine.backends.redis import RedisBatchStateRepository
from engine.backends.redis_counts import Counts
from engine.backends.redis_keys import Keys
from engine.backends.redis_store import Store
from engine.backends.redis_survey import Survey
from engine.clock import ManualClock
from engine.engine import Engine
from engine.errors import RepositoryUnavailable
from engine.models import BatchRecord
from engine.redis_access import open_redis
from engine.view import Mode

OTHERS = 60_000
BATCHES = [f"old{number:03d}" for number in range(300)]
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DOCUMENT = json.dumps({"completed_steps": ["nlp"], "step_metadata": {"nlp": {}}})


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    empty(shared_redis())
    async with Redis.from_url(shared_redis().url, driver_info=None, protocol=2) as client:
        yield client


async def fill(client: Redis) -> None:
    """Store many keys of other services, and among them batches of the one that we know."""
    for start in range(0, OTHERS, 10_000):
        await client.mset({f"ras:state:{number}": "" for number in range(start, start + 10_000)})
    await client.mset({f"bcs:essay_state:{name}:e1": DOCUMENT for name in BATCHES})
    await client.hset("bcs:batch:phases-only:phases", "nlp", "completed")
    await client.mset({"bcs:events": "", "bcs:essay_state::": "", "bcs:essay_state:x": "", "b": ""})


async def nudge(client: Redis) -> None:
    """Send notices of nothing: with them comes what else there is to tell."""
    while True:
        await client.publish(redis_notices.CHANNEL, "[]")
        await asyncio.sleep(0.05)


async def opened() -> RedisBatchStateRepository:
    url = url_for(shared_redis(), "bcs_observer", rules_of("bcs_observer"))
    return await RedisBatchStateRepository.open(url, ttl_seconds=TTL_SECONDS, read_only=True)


async def test_a_look_goes_on_from_where_it_stopped(client: Redis) -> None:
    await fill(client)
    repository = await opened()
    async with aclosing(repository):
        looks = 1
        while not await repository.discover(20):
            assert "may be missing" in repository.lacking
            assert "may be missing" not in str(repository.notices), "nobody watches"
            looks += 1
            assert looks < 10
        assert looks > 1
        assert repository.lacking == ""
        found = [record.batch_id for record in await repository.summaries()]
        assert found == [*BATCHES, "phases-only"]

        # The next look forgets what is gone, and not before its end.
        await client.delete("bcs:essay_state:old000:e1", "bcs:batch:phases-only:phases")
        await client.set("bcs:essay_state:new:e:1", DOCUMENT)
        assert not await repository.discover(1)
        assert set(BATCHES) <= repository._survey.essays.keys()
        assert await repository.discover()
        found = [record.batch_id for record in await repository.summaries()]
        assert found == ["new:e", *BATCHES[1:]]


async def test_pages_of_what_only_a_service_knows_hold_each_batch_once(client: Redis) -> None:
    await client.mset({f"bcs:essay_state:{name}:e1": DOCUMENT for name in BATCHES})
    async with aclosing(await opened()) as repository:
        found: list[str] = []
        while page := await repository.summaries(after=found[-1] if found else "", limit=70):
            assert len(page) <= 70
            found += [record.batch_id for record in page]
        assert found == BATCHES


async def test_while_watching_all_is_found_and_kept_current(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    assert redis_survey.STEPS_PER_SECOND >= 1_000_000 / redis_survey.KEYS_AT_ONCE / 60
    monkeypatch.setattr(redis_survey, "STEPS_PER_SECOND", 200)
    await fill(client)
    async with aclosing(await opened()) as repository:
        engine = Engine(repository, observing=True)
        running = asyncio.create_task(engine.run())
        nudging = asyncio.create_task(nudge(client))
        await until(lambda: engine.health.mode is Mode.LIVE)
        assert any("still looking" in notice for notice in repository.notices)
        await until(lambda: engine.view.batches.keys() == {*BATCHES, "phases-only"})
        await until(lambda: not any("still looking" in notice for notice in repository.notices))
        assert {row.summary.doubt for row in engine.view.batches.values()} == {
            "no counters of ours prove its counts"
        }

        service = Service(client, watch_first=True)
        await service.record(BATCHES[7], "e2", "spellcheck", completion_status="failed")
        await until(lambda: engine.view.batches[BATCHES[7]].summary.total == 2)
        await client.delete(f"bcs:essay_state:{BATCHES[8]}:e1")
        await until(lambda: BATCHES[8] not in engine.view.batches)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not repository._survey.is_running
        nudging.cancel()


async def test_an_account_that_may_not_scan_is_told(client: Redis) -> None:
    await fill(client)
    url = url_for(shared_redis(), "bcs_observer", rules_of("bcs_observer").replace("+scan ", ""))
    repository = await RedisBatchStateRepository.open(url, ttl_seconds=TTL_SECONDS, read_only=True)
    async with aclosing(repository), aclosing(repository.changes()) as changes:
        await anext(changes)
        await until(lambda: any("may not SCAN" in notice for notice in repository.notices))
        assert await repository.summaries() == []


@pytest.mark.slow
async def test_every_node_of_a_cluster_is_looked_through() -> None:
    nodes = shared_cluster()
    for node in nodes:
        empty(node)
    client = await open_redis(nodes[0].url)
    async with aclosing(client):
        for name in BATCHES:
            await client.set(f"bcs:essay_state:{{{name}}}:e1", DOCUMENT)
        survey = Survey(Store(client, nodes[0].url, TTL_SECONDS, 3.0))
        assert await survey.look()
        assert {name: list(essays) for name, essays in survey.essays.items()} == {
            name: ["e1"] for name in BATCHES
        }


class Shaky:
    """A server whose keys are the numbers of its steps, and which fails at one of them."""

    def __init__(self, nodes: Sequence[str], fails_at: int) -> None:
        self.keys = Keys(hash_tags=False)
        self.asked: list[tuple[str, int]] = []
        self._nodes = list(nodes)
        self._fails_at = fails_at

    def nodes(self) -> list[str]:
        return list(self._nodes)

    async def scan(self, node: str, cursor: int, *rest: Any) -> tuple[int, list[bytes]]:
        self.asked.append((node, cursor))
        if len(self.asked) == self._fails_at:
            raise RepositoryUnavailable("it is away")
        return (cursor + 1) % 4, [b"bcs:essay_state:%s:e%d" % (node.encode(), cursor)]

    def fail_over(self) -> None:
        self._nodes[0] = "c"


async def test_an_outage_costs_one_step_and_a_failover_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_survey, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(redis_survey, "STEPS_PER_SECOND", 10_000)
    shaky = Shaky(["a", "b"], fails_at=3)
    survey = Survey(cast(Store, shaky))
    running = asyncio.create_task(survey.run())
    await until(lambda: survey.is_complete)
    assert shaky.asked == [
        *[("b", 0), ("b", 1), ("b", 2), ("b", 2), ("b", 3)],
        *[("a", 0), ("a", 1), ("a", 2), ("a", 3)],
    ]
    running.cancel()
    await asyncio.wait([running])

    survey = Survey(cast(Store, shaky))
    assert not await survey.look(3)
    shaky.fail_over()
    await survey.look(1)
    assert shaky.asked[-1] == ("b", 0)
    assert await survey.look()
    assert set(survey.essays) == {"b", "c"}
    assert len(shaky.asked) == 9 + 3 + 8


def test_who_was_never_counted_comes_first_then_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOW)
    counts = Counts(clock.monotonic)
    found = {"b1": ["e1"] * 4_000, "b2": ["e1"] * 7_000, "b3": ["e1"] * 4_000}
    assert counts.next_turn(found) == ["b1", "b2"], "so many essays at a time, and no more"
    assert counts.next_turn(found) == [], "not yet"
    for batch_id in ("b1", "b2"):
        counts.keep(BatchRecord(batch_id, seen=len(found[batch_id])), None)
    clock.advance(redis_counts.TURN_SECONDS)
    assert counts.next_turn(found) == ["b3"], "the others were counted just now"
    clock.advance(redis_counts.RECOUNT_SECONDS)
    counts.keep(BatchRecord("b3", seen=4_000), None)
    counts.keep(BatchRecord("b1", seen=4_000), None)
    assert counts.next_turn(found) == ["b2"]
    counts.forget(["b2"])
    many = {f"x{number}": ["e1"] for number in range(2_000)}
    clock.advance(redis_counts.TURN_SECONDS)
    assert 100 < len(counts.next_turn(many)) < 1_000, "else all of it would count as lagging"


def test_kept_counts_are_nobodys_to_change() -> None:
    counts = Counts(ManualClock(NOW).monotonic)
    counted = BatchRecord("b1", seen=3, counts={"nlp": [2, 1]}, unread=2)
    counted.unread_results["nlp"] = 1
    counts.keep(counted, None)
    counted.unread_results["nlp"] = 9
    counted.counts["nlp"][0] = 9
    for _ in range(2):
        record = BatchRecord("b1")
        counts.recall(record)
        assert (record.seen, record.counts) == (3, {"nlp": [2, 1]})
        assert (record.unread, record.unread_results) == (2, {"nlp": 1})
        record.unread_results["nlp"] = 9
        record.counts["nlp"][0] = 9

"""Writers side by side on one Redis: ours, services as they should be, services as they are."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from redis_servers import NOSCRIPT_RULES, TTL_SECONDS, empty, shared_redis, url_for
from redis_services import Service, check_strictly, with_step

from engine.backends.redis import RedisBatchStateRepository
from engine.backends.redis_batch import decode_index
from engine.models import (
    COMPLETED,
    BatchFact,
    EssaysFact,
    PhaseFact,
    RegistrationFact,
    StepFact,
)
from engine.repository import DeadLetter

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ESSAYS = [f"e{number}" for number in range(8)]
STEPS = 12


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    server = shared_redis()
    empty(server)
    async with Redis.from_url(server.url, driver_info=None, protocol=2) as client:
        yield client


async def opened(url: str = "", ttl_seconds: int = TTL_SECONDS) -> RedisBatchStateRepository:
    return await RedisBatchStateRepository.open(url or shared_redis().url, ttl_seconds=ttl_seconds)


def fact(essay_id: str, step: str, seconds: float = 0, batch_id: str = "b1") -> StepFact:
    moment = NOW + timedelta(seconds=seconds)
    return StepFact(batch_id, essay_id, step, COMPLETED, moment, step, 1, f'{{"by": "{step}"}}')


class Judge:
    """Looks at a batch in one moment of the server: counts that claim to be right must be."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.in_step = 0
        self.looks = 0

    async def look(self) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall("bcs:batch_index:b1")
            pipe.get("bcs:batch_summary:b1")
            pipe.mget([f"bcs:essay_state:b1:{name}" for name in ESSAYS])
            pipe.time()
            fields, summary, raws, (seconds, micros) = await pipe.execute()
        index = decode_index(fields)
        self.looks += 1
        if index.doubt(summary, seconds * 1000 + micros // 1000):
            return
        self.in_step += 1
        true: dict[str, list[int]] = {}
        for raw in filter(None, raws):
            for step in json.loads(raw)["completed_steps"]:
                true.setdefault(step, [0, 0])[0] += 1
        assert index.counts == true
        assert index.seen == sum(raw is not None for raw in raws)

    async def watch(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.look()
            await asyncio.sleep(0.002)


async def write_ours(url: str, name: str, wrote: list[StepFact]) -> None:
    chances = random.Random(name)
    facts = [fact(essay_id, f"{name}-{number}") for essay_id in ESSAYS for number in range(STEPS)]
    chances.shuffle(facts)
    async with aclosing(await opened(url)) as repository:
        while facts:
            size = chances.randint(1, 6)
            chunk, facts = facts[:size], facts[size:]
            await repository.record(chunk)
            wrote += chunk
            await asyncio.sleep(0.001)


async def write_as_service(service: Service, name: str) -> list[tuple[str, str]]:
    chances = random.Random(name)
    wrote = [(essay_id, f"{name}-{number}") for essay_id in ESSAYS for number in range(STEPS)]
    chances.shuffle(wrote)
    for essay_id, step in wrote:
        await service.record("b1", essay_id, step, completion_status="success")
        await asyncio.sleep(0.001)
    return wrote


async def steps_in_documents(client: Redis) -> set[tuple[str, str]]:
    found = set()
    for essay_id in ESSAYS:
        state = check_strictly(await client.get(f"bcs:essay_state:b1:{essay_id}"))
        found |= {(essay_id, step) for step in state["completed_steps"]}
    return found


async def until_proved(client: Redis) -> None:
    """Write until the counts are proved again, as they are within seconds."""
    async with aclosing(await opened()) as repository, asyncio.timeout(15):
        number = 0
        while True:
            await repository.record([fact("e0", "last", number)])
            if not (await repository.batch_record("b1")).doubt:
                return
            number += 1
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("scripts", [True, False])
async def test_no_step_is_lost_beside_services_that_watch_first(
    client: Redis, scripts: bool
) -> None:
    url = "" if scripts else url_for(shared_redis(), "noscript", NOSCRIPT_RULES)
    service = Service(client, watch_first=True)
    judge = Judge(client)
    done = asyncio.Event()
    watching = asyncio.create_task(judge.watch(done))
    ours: list[StepFact] = []
    theirs = await asyncio.gather(
        *(write_as_service(service, f"right{number}") for number in range(4)),
        *(write_ours(url, f"ours{number}", ours) for number in range(4)),
    )
    await until_proved(client)
    done.set()
    await watching
    wanted = {(one.essay_id, one.step) for one in ours}
    wanted |= {pair for wrote in theirs[:4] for pair in wrote or ()}
    assert len(wanted) == 8 * len(ESSAYS) * STEPS
    assert await steps_in_documents(client) == wanted | {("e0", "last")}
    await judge.look()
    assert judge.in_step > 0


async def test_no_step_of_ours_is_lost_beside_services_as_they_are(client: Redis) -> None:
    judge = Judge(client)
    done = asyncio.Event()
    watching = asyncio.create_task(judge.watch(done))
    ours: list[StepFact] = []
    await asyncio.gather(
        *(
            write_as_service(Service(client, watch_first=True), f"right{number}")
            for number in range(4)
        ),
        *(
            write_as_service(
                Service(client, watch_first=False, stale_seconds=0.01), f"deployed{number}"
            )
            for number in range(2)
        ),
        *(write_ours("", f"ours{number}", ours) for number in range(2)),
    )
    wanted = {(one.essay_id, one.step) for one in ours}
    async with aclosing(await opened()) as repository:
        states = await repository.essays("b1")
    read = {one for state in states for one in state.steps.values()}
    assert set(ours) <= read  # at once, and exactly

    await until_proved(client)
    done.set()
    await watching
    await judge.look()
    assert wanted <= await steps_in_documents(client)
    assert judge.in_step > 0


async def test_what_a_service_overwrites_is_read_and_written_again(client: Redis) -> None:
    key = "bcs:essay_state:b1:e1"
    async with aclosing(await opened()) as repository:
        await repository.record([fact("e1", "first")])
        stale = await client.get(key)
        await repository.record([fact("e1", "second")])
        overwritten = with_step(stale, "theirs", {"timestamp": NOW.isoformat()})
        assert overwritten is not None
        await client.set(key, overwritten, ex=TTL_SECONDS)
        await client.delete("bcs:batch_summary:b1")
        assert b"second" not in await client.get(key)

        record = await repository.batch_record("b1")
        assert record.doubt == "another service has written it"
        assert record.counts == {"first": [1, 0], "second": [1, 0], "theirs": [1, 0]}
        [essay] = await repository.essays("b1")
        assert essay.steps["second"] == fact("e1", "second")

        recorded = await repository.record([fact("e1", "third")])
        assert (list(recorded.news), list(recorded.faded)) == ([True], ["b1"])
        steps = {"first", "second", "third", "theirs"}
        assert set(json.loads(await client.get(key))["completed_steps"]) == steps
        await asyncio.sleep(1.2)
        await repository.record([fact("e1", "third")])
        assert (await repository.batch_record("b1")).counts == {step: [1, 0] for step in steps}


async def test_an_essay_that_only_a_service_knows_is_counted(client: Redis) -> None:
    service = Service(client, watch_first=False)
    await service.record("b1", "e1", "spellcheck", completion_status="failed")
    async with aclosing(await opened()) as repository:
        await repository.record([fact("e0", "nlp")])
        record = await repository.batch_record("b1")
        assert (record.seen, record.doubt) == (2, "")
        assert record.counts == {"nlp": [1, 0], "spellcheck": [0, 1]}
        # One more, while nobody looks.
        await service.record("b1", "e2", "spellcheck", completion_status="success")
        assert (await repository.batch_record("b1")).doubt
        await asyncio.sleep(1.2)
        await repository.record([fact("e0", "nlp", 5)])
        record = await repository.batch_record("b1")
        assert (record.seen, record.doubt) == (3, "")
        assert record.counts == {"nlp": [1, 0], "spellcheck": [1, 1]}


async def test_a_homeless_result_and_its_batch_find_each_other_between_processes(
    client: Redis,
) -> None:
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(aclosing(await opened())) for _ in "12"]
        names = [f"h{number}" for number in range(60)]
        for start in range(0, 60, 3):
            part = names[start : start + 3]
            await asyncio.gather(
                one.record([EssaysFact("b1", tuple(part), NOW)]),
                other.record([fact(name, "nlp", batch_id="") for name in part]),
            )
        assert (await one.batch_record("b1")).counts == {"nlp": [60, 0]}


async def test_scripts_that_are_forgotten_under_load(client: Redis) -> None:
    async def forget() -> None:
        for _ in range(60):
            await client.script_flush()
            await asyncio.sleep(0.003)

    ours: list[StepFact] = []
    await asyncio.gather(forget(), *(write_ours("", f"ours{number}", ours) for number in range(3)))
    wanted = {(one.essay_id, one.step) for one in ours}
    assert await steps_in_documents(client) == wanted


async def test_counters_that_are_evicted_come_back(client: Redis) -> None:
    facts = [fact(name, "nlp") for name in ESSAYS]
    async with aclosing(await opened()) as repository:
        for key in ("bcs:batch_index:b1", "bcs:tui:essays:b1", "bcs:batch_summary:b1"):
            await repository.record(facts)
            await client.delete(key)
            record = await repository.batch_record("b1")
            assert (record.seen, record.counts["nlp"]) == (8, [8, 0])
            await asyncio.sleep(1.1)
            await repository.record([fact("e0", f"after {key}")])
            record = await repository.batch_record("b1")
            assert (record.seen, record.doubt) == (8, "")
            assert record.counts["nlp"] == [8, 0]


async def test_everything_that_we_write_expires(client: Redis) -> None:
    async with aclosing(await opened(ttl_seconds=1000)) as repository:
        await write_every_kind(repository)
    keys = [key async for key in client.scan_iter()]
    assert len({key.split(b":")[1] for key in keys}) > 3
    for key in keys:
        assert 0 < await client.ttl(key) <= 1000, key


async def write_every_kind(repository: RedisBatchStateRepository) -> None:
    await repository.record(
        [
            RegistrationFact("b1", 3, ("e1", "e2"), NOW, "owner"),
            fact("e1", "nlp"),
            fact("e1", "later", batch_id=""),
            fact("nowhere", "later", batch_id=""),
            PhaseFact("b1", "nlp", "completed_successfully", "r", NOW),
            BatchFact("b1", "provisioned", "upload", "r", NOW),
        ]
    )
    await repository.record_dead_letters([DeadLetter(NOW, "f", "1", "json", "", "", b"", "aa", 0)])


async def test_essays_that_expire_one_by_one_leave_no_wrong_total(client: Redis) -> None:
    async with aclosing(await opened(ttl_seconds=2)) as repository:
        judge = Judge(client)
        await repository.record([RegistrationFact("b1", 8, tuple(ESSAYS), NOW)])
        for number in range(12):
            name = ESSAYS[number % 3]
            await repository.record([fact(name, f"step{number}")])
            await judge.look()
            record = await repository.batch_record("b1")
            assert (record.seen, record.total) == (8, 8)
            await asyncio.sleep(0.25)
        assert judge.in_step > 3
        await asyncio.sleep(2.2)
        assert await repository.summaries() == []


async def test_batches_that_are_gone_leave_the_list(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.backends.redis_doubts._PRUNE_PAUSE_SECONDS", 0.1)
    await client.zadd("bcs:tui:batches", {"gone": 0, "coming": 0})
    async with aclosing(await opened()) as repository:
        await repository.record([fact("e1", "nlp")])
        await asyncio.sleep(0.05)
        await client.set("bcs:tui:batch:coming", "{}")
        await asyncio.sleep(0.2)
        assert await client.zrange("bcs:tui:batches", 0, -1) == [b"b1", b"coming"]


async def test_whoever_stops_leaves_no_doubt_behind(client: Redis) -> None:
    await client.mset({f"other:{number}": "x" for number in range(30_000)})
    async with aclosing(await opened()) as repository:
        await repository.record([fact("e1", "nlp")])
        doubt = (await repository.batch_record("b1")).doubt
        assert doubt == "not yet compared with all keys"  # there are too many to do it at once
    async with aclosing(await opened()) as repository:
        record = await repository.batch_record("b1")
        assert (record.counts, record.doubt) == ({"nlp": [1, 0]}, "")

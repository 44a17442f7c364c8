"""What Redis does when it fails, and what becomes of events then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import redis
from proxy import Proxy
from redis.asyncio import Redis
from redis_servers import (
    NOSCRIPT_RULES,
    TTL_SECONDS,
    empty,
    private_redis,
    shared_redis,
    url_for,
)
from redis_services import check_strictly

from engine.backends.redis import RedisBatchStateRepository
from engine.engine import Engine
from engine.errors import CorruptDocument, RepositoryUnavailable
from engine.models import COMPLETED, BatchRecord, EssaysFact, Fact, RegistrationFact, StepFact
from engine.retelling import retell
from engine.servers import PrivateRedis

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def fact(essay_id: str, step: str = "nlp", seconds: float = 0, batch_id: str = "b1") -> StepFact:
    return StepFact(batch_id, essay_id, step, COMPLETED, NOW + timedelta(seconds=seconds), step, 1)


async def opened(
    url: str, ttl_seconds: int = TTL_SECONDS, answer_seconds: float = 3.0
) -> RedisBatchStateRepository:
    return await RedisBatchStateRepository.open(
        url, ttl_seconds=ttl_seconds, answer_seconds=answer_seconds
    )


async def persistently(
    work: Callable[[], Awaitable[object]], seconds: float = 10
) -> list[RepositoryUnavailable]:
    """Do something until it succeeds, as the engine does; return the errors before that."""
    errors = []
    async with asyncio.timeout(seconds):
        while True:
            try:
                await work()
                return errors
            except RepositoryUnavailable as error:
                errors.append(error)
                await asyncio.sleep(0.02)


async def check_documents(client: Redis, wanted: set[tuple[str, str]]) -> None:
    """Every document is one that a service can read, and holds all that was acknowledged."""
    found = set()
    async for key in client.scan_iter("bcs:essay_state:*"):
        state = check_strictly(await client.get(key))
        assert 0 < await client.ttl(key) <= TTL_SECONDS
        found |= {(key.decode().rpartition(":")[2], step) for step in state["completed_steps"]}
    assert found == wanted


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    empty(shared_redis())
    async with client_of(shared_redis()) as client:
        yield client


def client_of(server: PrivateRedis) -> Redis:
    return Redis.from_url(server.url, driver_info=None, protocol=2)


async def test_a_killed_server_that_comes_back_loses_and_doubles_nothing() -> None:
    """R01, with everything on its disk."""
    with private_redis({"appendonly": "yes", "appendfsync": "always"}) as server:
        repository = await opened(server.url)
        acknowledged: set[tuple[str, str]] = set()

        async def ingest(name: str) -> None:
            for number in range(40):
                one = fact(f"e{number % 5}", f"{name}-{number}", number)
                await persistently(partial(repository.record, [one]))
                acknowledged.add((one.essay_id, one.step))

        async def kill() -> None:
            for _ in range(3):
                await asyncio.sleep(0.05)
                server.kill()
                await asyncio.to_thread(server.start)

        await asyncio.gather(kill(), *(ingest(f"task{number}") for number in range(3)))
        assert len(acknowledged) == 120
        record = BatchRecord("b1", doubt="not read yet")

        async def read() -> None:
            nonlocal record
            record = await repository.batch_record("b1")
            if record.doubt:
                raise RepositoryUnavailable(record.doubt)

        await persistently(read)  # the proof comes back as well, within seconds
        counts = {step: [1, 0] for _, step in acknowledged}
        assert (record.counts, record.seen) == (counts, 5)
        async with client_of(server) as client:
            await check_documents(client, acknowledged)
        await repository.aclose()


async def test_a_server_that_is_silent_holds_nobody_for_long() -> None:
    """R04: half-open connections."""
    async with Proxy(shared_redis().port) as proxy, AsyncExitStack() as stack:
        url = proxy.url_of(shared_redis().url)
        repository = await stack.enter_async_context(
            aclosing(await opened(url, answer_seconds=0.4))
        )
        await repository.record([fact("e1")])
        proxy.silent = True
        for work in (
            lambda: repository.record([fact("e2")]),
            lambda: repository.summaries(["b1"]),
            lambda: repository.essays("b1"),
        ):
            began = time.monotonic()
            with pytest.raises(RepositoryUnavailable, match="no answer in time"):
                await work()
            assert time.monotonic() - began < 2
        with pytest.raises(RepositoryUnavailable, match="no answer in time"):
            await opened(url, answer_seconds=0.4)
        proxy.silent = False
        await persistently(lambda: repository.record([fact("e2")]))
        assert (await repository.batch_record("b1")).seen == 2


@pytest.mark.parametrize(("command", "scripts"), [(b"EVALSHA", True), (b"EXEC", False)])
async def test_a_write_whose_answer_is_lost_counts_once(
    client: Redis, command: bytes, scripts: bool
) -> None:
    """R06: it was made, but nobody was told."""
    server = shared_redis()
    url = server.url if scripts else url_for(server, "noscript", NOSCRIPT_RULES)
    async with Proxy(server.port) as proxy:
        proxied = proxy.url_of(url)
        async with aclosing(await opened(proxied)) as repository:
            await repository.record([fact("e1", "first"), EssaysFact("b1", ("e2", "e3"), NOW)])
            proxy.lose_answer_to = command
            facts: list[Fact] = [fact("e1"), fact("e2")]
            with pytest.raises(RepositoryUnavailable):
                await repository.record(facts)
            assert proxy.lost == 1
            again = await repository.record(facts)
            # Whoever follows the changes is told to read the batch again.
            assert (list(again.changes), list(again.faded)) == ([], ["b1"])
            record = await repository.batch_record("b1")
            assert record.counts == {"first": [1, 0], "nlp": [2, 0]}
            assert (record.seen, record.doubt) == (3, "")
    await check_documents(client, {("e1", "first"), ("e1", "nlp"), ("e2", "nlp")})


async def test_a_server_that_is_gone_while_it_is_opened_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients: list[Redis] = []

    async def gone(client: Redis, *, alone: bool) -> list[str]:
        clients.append(client)
        raise redis.ConnectionError("Connection closed by server.")

    monkeypatch.setattr("engine.backends.redis.warnings_of", gone)
    with pytest.raises(RepositoryUnavailable, match="cannot be reached"):
        await opened(shared_redis().url)
    pool = clients[0].connection_pool
    assert not any(one.is_connected for one in pool._available_connections)


async def test_failures_in_a_row_are_all_told_afterwards() -> None:
    with private_redis({"appendonly": "yes"}) as server:
        async with aclosing(await opened(server.url)) as repository:
            await repository.record([fact("e1", batch_id="b1"), fact("e1", batch_id="b2")])
            server.kill()
            for batch_id in ("b1", "b2"):
                with pytest.raises(RepositoryUnavailable):
                    await repository.record([fact("e2", batch_id=batch_id)])
            server.start()
            recorded = await repository.record([fact("e1", "later", batch_id="b3")])
            assert list(recorded.faded) == ["b1", "b2"]
            assert list((await repository.record([fact("e3")])).faded) == []


async def test_an_emptied_server_is_filled_anew(client: Redis) -> None:
    """R02 as far as Redis alone goes: nothing of before is mixed into what comes after."""
    async with aclosing(await opened(shared_redis().url)) as repository:
        registration = RegistrationFact("b1", 9, ("e1",), NOW)
        await repository.record([registration, fact("e1")])
        await client.flushall()
        await repository.record([fact("e2")])  # changes nothing of the batch itself
        record = await repository.batch_record("b1")
        assert (record.expected, record.seen, record.counts) == (None, 1, {"nlp": [1, 0]})
        assert [one.batch_id for one in await repository.summaries()] == ["b1"]
        await repository.record([registration, fact("e1")])
        record = await repository.batch_record("b1")
        assert (record.expected, record.seen, record.counts) == (9, 2, {"nlp": [2, 0]})
    await check_documents(client, {("e1", "nlp"), ("e2", "nlp")})


async def test_a_full_server_is_said_to_be_full_and_keeps_whole_documents() -> None:
    """R08: maxmemory without eviction."""
    with private_redis({"maxmemory": "4mb", "maxmemory-policy": "noeviction"}) as server:
        async with aclosing(await opened(server.url)) as repository, client_of(server) as client:
            acknowledged: set[tuple[str, str]] = set()

            async def fill() -> None:
                for number in range(10_000):
                    part = [fact(f"e{number}-{each}") for each in range(100)]
                    await repository.record(part)
                    acknowledged.update((one.essay_id, one.step) for one in part)

            with pytest.raises(RepositoryUnavailable, match="is full"):
                await fill()
            assert acknowledged
            # What is there can be read, and every document is whole.
            record = await repository.batch_record("b1")
            assert record.counts["nlp"][0] in range(len(acknowledged), len(acknowledged) + 101)
            documents = 0
            async for key in client.scan_iter("bcs:essay_state:*"):
                check_strictly(await client.get(key))
                documents += 1
            assert documents == record.seen
            await client.config_set("maxmemory", "64mb")
            await repository.record([fact("one more")])


async def test_a_server_that_became_a_replica_is_left(client: Redis) -> None:
    """R10: writing goes on as soon as it is a master again."""
    with private_redis() as server, private_redis() as master:
        async with aclosing(await opened(server.url)) as repository, client_of(server) as admin:
            await repository.record([fact("e1")])
            await admin.config_set("replica-read-only", "yes")
            await admin.config_set("masterauth", "wrong")
            await admin.execute_command("REPLICAOF", "127.0.0.1", master.port)
            with pytest.raises(RepositoryUnavailable, match="read-only"):
                await repository.record([fact("e2")])
            assert (await repository.batch_record("b1")).seen == 1
            await admin.execute_command("REPLICAOF", "NO", "ONE")
            await repository.record([fact("e2")])
            assert (await repository.batch_record("b1")).seen == 2


async def test_a_server_that_is_loading_is_waited_for() -> None:
    """R12: it answers connections, and nothing else yet."""
    slow = {"appendonly": "yes", "appendfsync": "no", "enable-debug-command": "yes"}
    with private_redis(slow) as server:
        async with aclosing(await opened(server.url)) as repository:
            await repository.record([fact(f"e{number}") for number in range(500)])
            async with client_of(server) as admin:
                await admin.config_set("key-load-delay", "500")
                await admin.config_set("loading-process-events-interval-bytes", "1024")
                reload = asyncio.create_task(admin.execute_command("DEBUG", "LOADAOF"))
                await asyncio.sleep(0.2)
                with pytest.raises(RepositoryUnavailable, match="is loading its data"):
                    await repository.record([fact("e1", "later")])
                await admin_delay(server, "0")
                await reload
            errors = await persistently(lambda: repository.record([fact("e1", "later")]))
            assert all("loading" in str(error) for error in errors)
            assert (await repository.batch_record("b1")).counts["nlp"] == [500, 0]


async def admin_delay(server: PrivateRedis, delay: str) -> None:
    """Let the server load faster; CONFIG is one of the few commands that it takes meanwhile."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("CONFIG", "SET", "key-load-delay", delay)


async def test_a_password_that_changes_is_said_without_being_shown(client: Redis) -> None:
    """R17: the account is refused from one moment to the next."""
    url = url_for(shared_redis(), "rotated", NOSCRIPT_RULES)
    async with aclosing(await opened(url)) as repository:
        await repository.record([fact("e1")])
        await client.execute_command("ACL", "SETUSER", "rotated", "resetpass", ">CANARY-7f3a")
        await client.client_kill_filter(_type="normal", skipme=True)
        errors = []
        for _ in range(3):
            with pytest.raises(RepositoryUnavailable) as refused:
                await repository.record([fact("e2")])
            errors.append(refused.value)
        assert any("refuses the account; check BCS_REDIS_URL" in str(one) for one in errors)
        assert isinstance(errors[-1].__cause__, PermissionError)
        shown = "".join(f"{one} {one.__cause__!r}" for one in errors)
        assert shared_redis().password not in shown
        assert "CANARY" not in shown


async def test_rights_that_are_missing_are_named(client: Redis) -> None:
    rules = NOSCRIPT_RULES.replace("+hset ", "")
    async with aclosing(await opened(url_for(shared_redis(), "poor", rules))) as repository:
        with pytest.raises(RepositoryUnavailable, match=r"hset.*grant it"):
            await repository.record([fact("e1")])


async def test_a_key_of_another_type_touches_its_essay_only(client: Redis) -> None:
    """R24."""
    await client.rpush("bcs:essay_state:b1:e1", "x")
    async with aclosing(await opened(shared_redis().url)) as repository:
        [before] = await repository.essays("b1", ["e1"])
        assert (before.steps, before.trouble) == ({}, "its key holds another type")
        await repository.record([fact("e1"), fact("e2")])
        after = await repository.essays("b1")
        assert [(one.essay_id, one.trouble) for one in after] == [("e1", ""), ("e2", "")]
        [letter] = await repository.dead_letters()
        assert (letter.reason, letter.position) == ("wrong_type", "bcs:essay_state:b1:e1")


async def test_a_key_of_ours_of_another_type_is_left_alone(client: Redis) -> None:
    await client.rpush("bcs:batch_index:b1", "x")
    async with aclosing(await opened(shared_redis().url)) as repository:
        with pytest.raises(CorruptDocument, match="another type"):
            await repository.record([fact("e1")])
    assert await client.lrange("bcs:batch_index:b1", 0, -1) == [b"x"]


async def test_a_garbage_document_is_shown_and_kept(client: Redis, tmp_path: Path) -> None:
    """R25: nothing of it is lost, not even by other writes to its batch."""
    async with aclosing(await opened(shared_redis().url)) as repository:
        await repository.record([fact("e1"), fact("e2")])
        await client.set("bcs:essay_state:b1:e1", b"\xffgarbage", ex=100)
        await client.delete("bcs:batch_summary:b1")
        record = await repository.batch_record("b1")
        assert "1 essay cannot be read" in record.doubt
        assert record.counts == {"nlp": [2, 0]}  # our copy still has it
        await asyncio.sleep(1.1)
        await repository.record([fact("e2", "later")])
        [letter] = await repository.dead_letters()
        assert (letter.reason, letter.payload) == ("unreadable_document", b"\xffgarbage")
        assert (await repository.batch_record("b1")).doubt == ""
        engine = Engine(repository)
        await engine.run()
    await check_documents(client, {("e1", "nlp"), ("e2", "nlp"), ("e2", "later")})


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_total_survives_the_record_of_its_batch(client: Redis, scripts: bool) -> None:
    """R09: of a batch, only the key with its total was evicted."""
    server = shared_redis()
    url = server.url if scripts else url_for(server, "noscript", NOSCRIPT_RULES)
    async with aclosing(await opened(url)) as repository:
        await repository.record([RegistrationFact("b1", 9, ("e1", "e2"), NOW), fact("e1")])
        await client.hset("bcs:batch_index:b1", "archived", "7")
        await client.delete("bcs:tui:batch:b1")
        told = [one async for page in retell(repository, "b1") for one in page]
        assert EssaysFact("b1", ("e2",), NOW) in told
        record = await repository.batch_record("b1")
        assert (record.total, record.doubt) == (9, "some of its keys are gone")
        await repository.record([fact("e2")])
        record = await repository.batch_record("b1")
        assert (record.total, record.seen, record.doubt) == (9, 2, "")
        # An archive must not believe that everything is there.
        assert await client.hget("bcs:batch_index:b1", "archived") == b"-1"


async def test_documents_that_expire_under_way(client: Redis) -> None:
    """R26: between reading and writing."""
    async with aclosing(await opened(shared_redis().url)) as repository:
        await repository.record([fact("e1"), fact("e2")])
        await client.delete("bcs:essay_state:b1:e1")
        await repository.record([fact("e1", "later")])
        await client.delete("bcs:essay_state:b1:e2", "bcs:tui:batch:b1")
        await repository.record([fact("e2", "later")])
        record = await repository.batch_record("b1")
        assert record.counts == {"nlp": [2, 0], "later": [2, 0]}
    everything = {(name, step) for name in ("e1", "e2") for step in ("nlp", "later")}
    await check_documents(client, everything)
    async with aclosing(await opened(shared_redis().url, ttl_seconds=1)) as repository:
        for number in range(12):
            await repository.record([fact(f"s{number % 3}", f"n{number}", batch_id="short")])
            await asyncio.sleep(0.15)
        record = await repository.batch_record("short")
        assert record.seen == 3

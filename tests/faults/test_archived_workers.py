"""Several workers on one stream, into one Redis with one PostgreSQL behind it; and full servers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from pathlib import Path

import pytest
import redis
from deployment import (
    STREAM,
    TTL_SECONDS,
    Deployment,
    Onlooker,
    deployed,
    events,
    known,
    patiently,
    running,
    truth,
)
from redis_servers import empty, shared_cluster
from servers import run_in, run_script
from stills import until

from engine.backends.archived import RedisCachedBatchStateRepository
from engine.backends.redis import RedisBatchStateRepository
from engine.engine import Engine
from engine.feeds.redis_stream import RedisStreamFeed
from engine.models import BatchRecord, EssayState
from engine.repository import BatchStateRepository
from engine.servers import PrivatePostgres, PrivateRedis

RAWS = events(6, 40)


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    async with deployed() as made:
        yield made


async def join(stack: AsyncExitStack, deployment: Deployment) -> Engine:
    """One more worker in this process, with connections of its own."""
    feed = await RedisStreamFeed.open(
        deployment.live.url, STREAM, follow=True, chunk_size=7, claim_after_seconds=1
    )
    return await stack.enter_async_context(running(await deployment.open(), feed))


@pytest.mark.slow
async def test_two_workers_share_a_stream_and_redis_is_believed_all_along(
    deployment: Deployment,
) -> None:
    async with AsyncExitStack() as stack:
        engines = [await join(stack, deployment) for _ in range(2)]
        reader = await stack.enter_async_context(aclosing(await deployment.open(read_only=True)))
        names = [f"b{number:03}" for number in range(6)]
        believed = 0
        for start in range(0, len(RAWS), 20):
            deployment.add(RAWS[start : start + 20])
            await until(lambda end=start + 20: applied(engines) >= min(end, len(RAWS)))  # type: ignore[misc] # a lambda
            await asyncio.sleep(0.01)
            marks = await reader._ledger.marks(names)
            believed += sum(mark > 0 for mark in marks.values())
        assert applied(engines) == len(RAWS), "each event is news to one of them only"
        assert min(engine.health.applied for engine in engines) > 0
        assert believed > len(names) * len(RAWS) / 20 / 2, "no mark stays behind while others write"
        await patiently(lambda: mended(deployment))
        await deployment.agree(RAWS)
    sql = "SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()"
    assert await run_in(deployment.database, sql) == [(0,)]


def applied(engines: list[Engine]) -> int:
    return sum(engine.health.applied for engine in engines)


async def mended(deployment: Deployment) -> bool:
    """Whether everything in the archive was found in Redis."""
    [(version,)] = await run_in(deployment.database, "SELECT max(version)::int FROM bcs.versions")
    with deployment.client() as client:
        return int(client.get("bcs:tui:verified") or 0) == version


@pytest.mark.slow
async def test_what_a_killed_worker_had_in_hand_is_claimed_by_the_other(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.feeds.redis_stream._CLAIM_EVERY_SECONDS", 0.3)
    deployment.ingest(name="doomed")
    await until(lambda: consumers(deployment) == 1)
    # In the middle of a chunk: what it was given is not recorded, or not acknowledged yet.
    deployment.add(RAWS)
    await until(lambda: deployment.unread() == 0)
    deployment.kill_worker("doomed")
    async with AsyncExitStack() as stack:
        await join(stack, deployment)
        await deployment.agree(RAWS)


def consumers(deployment: Deployment) -> int:
    with deployment.client() as client:
        return len(client.xinfo_consumers(STREAM, "bcs-tui")) if client.exists(STREAM) else 0


# --- memory that is too small ---------------------------------------------------------------


@pytest.mark.slow
async def test_evicted_keys_are_read_from_the_archive(redis_server: PrivateRedis) -> None:
    """R09, with an archive: every total is right, or is said to be in doubt."""
    raws = events(20, 40)
    half = len(raws) // 2
    options = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    expected = await truth(raws)
    with redis.Redis.from_url(redis_server.url) as producer:
        producer.flushall()
        async with deployed(options) as deployment:
            feed = await RedisStreamFeed.open(redis_server.url, STREAM, follow=True, chunk_size=50)
            both = await deployment.open()
            assert any("set volatile-lru or noeviction" in one for one in both.notices)
            async with running(both, feed) as engine, Onlooker(deployment).looking():
                for raw in raws[:half]:
                    producer.xadd(STREAM, {"data": raw})
                await until(lambda: engine.health.applied == half)
                with deployment.client() as client:
                    client.config_set("maxmemory", client.info("memory")["used_memory"])
                    for raw in raws[half:]:
                        producer.xadd(STREAM, {"data": raw})
                    await until(lambda: engine.health.applied == len(raws))
                    assert client.info("stats")["evicted_keys"] > 100
                async with aclosing(await deployment.open(read_only=True)) as reader:
                    for one in expected:
                        assert await looked_up(reader, one[0].batch_id) == one
                with deployment.client() as client:
                    client.config_set("maxmemory", 0)

                async def healed() -> bool:
                    async with aclosing(await deployment.open_live()) as live:
                        return await known(live) == expected

                await patiently(healed, 10)


async def looked_up(
    reader: BatchStateRepository, batch_id: str
) -> tuple[BatchRecord, list[EssayState]]:
    [record] = await reader.summaries([batch_id])
    record.doubt = ""  # what is in doubt is right as well
    return record, await reader.essays(batch_id)


@pytest.mark.slow
async def test_what_waits_for_postgresql_and_is_evicted_is_put_there_again() -> None:
    options = {"maxmemory": "8mb", "maxmemory-policy": "allkeys-lru"}
    async with deployed(options) as deployment, AsyncExitStack() as stack:
        both = await stack.enter_async_context(aclosing(await deployment.open()))
        engine = Engine(both)
        for raw in RAWS[:20]:
            await engine.submit(raw)
        deployment.kill_postgres()
        for raw in RAWS[20:]:
            await engine.submit(raw)
        with deployment.client() as client:
            evicted = 0
            await both._mender.stop()
            while client.exists("bcs:tui:unarchived"):
                evicted += 1
                assert evicted < 100_000
                client.set(f"filler:{evicted}", b"x" * 1000, ex=TTL_SECONDS)
            both.start_mending()
            await until(lambda: client.xlen("bcs:tui:unarchived") > 0)
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
        assert both.is_provisional
        deployment.postgres.start()
        await until(lambda: not both.is_provisional)
        async with aclosing(await deployment.open(read_only=True)) as reader:
            found = await known(reader)
            for record, _ in found:
                record.doubt = ""  # of what Redis does not have
            assert found == await truth(RAWS)


@contextmanager
def small_disk(directory: Path, owner: int) -> Iterator[bool]:
    """A disk of a few megabytes, and whether the machine lets us have one."""
    directory.mkdir(mode=0o755)
    options = f"size=1m,mode=0700,uid={owner}"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(directory)], capture_output=True
    )
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", str(directory)], check=True)


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON bcs.essay_steps EXECUTE FUNCTION full_disk();
"""


@pytest.mark.slow
async def test_p12_what_does_not_fit_on_the_disk_waits_until_it_does() -> None:
    """Without the right to mount a small disk, the server is made to say that it is full."""
    with PrivatePostgres({"fsync": "off"}) as server:
        place = server.directory / "small"
        with small_disk(place, server.directory.stat().st_uid) as is_real:
            async with deployed(postgres=server) as deployment:
                await fill_and_free(deployment, place if is_real else None)
        server.kill()


async def fill_and_free(deployment: Deployment, place: Path | None) -> None:
    if place:
        await run_in(deployment.database, f"CREATE TABLESPACE small LOCATION '{place}'")
        await run_in(deployment.database, "ALTER TABLE bcs.essay_steps SET TABLESPACE small")
    feed = await RedisStreamFeed.open(deployment.live.url, STREAM, follow=True, chunk_size=20)
    async with running(await deployment.open(), feed) as engine:
        deployment.add(RAWS[:100])
        await until(lambda: engine.health.applied == 100 and not deployment.pending())
        if place:
            with suppress(OSError), (place / "ballast").open("wb", buffering=0) as ballast:
                while ballast.write(b"x" * 4096):
                    pass
        else:
            await run_script(deployment.database, FULL)
        deployment.add(RAWS[100:])
        await until(lambda: engine.health.applied == len(RAWS))
        assert engine.repository.is_provisional
        assert deployment.pending() > 0
        await until(lambda: any("no space left" in one for one in engine.repository.notices))
        if place:
            (place / "ballast").unlink()
        else:
            await run_in(deployment.database, "DROP TRIGGER full_disk ON bcs.essay_steps")
        await deployment.agree(RAWS)


@pytest.mark.slow
async def test_r19_on_a_cluster_it_is_the_same() -> None:
    nodes = shared_cluster()
    for node in nodes:
        empty(node)
    async with deployed() as deployment, AsyncExitStack() as stack:

        async def opened() -> RedisCachedBatchStateRepository:
            both = await RedisCachedBatchStateRepository.open(
                nodes[0].url, deployment.database, ttl_seconds=TTL_SECONDS
            )
            return await stack.enter_async_context(aclosing(both))

        both = await opened()
        engine = Engine(both)
        for raw in RAWS[:20]:
            await engine.submit(raw)
        deployment.kill_postgres()
        for raw in RAWS[20:]:
            await engine.submit(raw)
        assert both.is_provisional
        deployment.postgres.start()
        await until(lambda: not both.is_provisional)
        assert await known(both) == await truth(RAWS)
        for node in nodes:
            empty(node)
        live = await RedisBatchStateRepository.open(nodes[0].url, ttl_seconds=TTL_SECONDS)
        await stack.enter_async_context(aclosing(live))

        async def healed() -> bool:
            return await known(live) == await truth(RAWS)

        await patiently(healed)

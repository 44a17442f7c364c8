"""Redis with PostgreSQL behind it, real ones: what happens when either is gone or loses data."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
import redis
from deployment import (
    STREAM,
    Deployment,
    Onlooker,
    deployed,
    events,
    known,
    patiently,
    running,
    truth,
)
from servers import run_in
from stills import until

from engine.backends.archived import RedisCachedBatchStateRepository
from engine.engine import Engine
from engine.errors import RepositoryUnavailable
from engine.feeds.redis_pubsub import RedisPubSubFeed
from engine.feeds.redis_stream import RedisStreamFeed
from engine.models import told
from engine.servers import PrivateRedis
from engine.view import Mode

CHANNEL = "bcs:events"
RAWS = events(4, 20)
HALF = len(RAWS) // 2


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    async with deployed() as made:
        yield made


@pytest.fixture
def elsewhere(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    """A feed on another server than the one that loses its data."""
    with redis.Redis.from_url(redis_server.url) as producer:
        producer.flushall()
        yield producer


async def stream_feed(url: str, chunk_size: int = 10) -> RedisStreamFeed:
    return await RedisStreamFeed.open(url, STREAM, follow=True, chunk_size=chunk_size)


# --- PostgreSQL away ------------------------------------------------------------------------


@pytest.mark.slow
async def test_without_postgresql_it_goes_on_and_nothing_is_acknowledged(
    deployment: Deployment,
) -> None:
    feed = await stream_feed(deployment.live.url)
    async with (
        running(await deployment.open(), feed) as engine,
        aclosing(await deployment.open(read_only=True)) as watched,
        aclosing(await deployment.open(read_only=True)) as reader,
    ):
        observer = Engine(watched, observing=True)
        watching = asyncio.create_task(observer.run())
        deployment.add(RAWS[:HALF])
        await until(lambda: engine.health.applied == HALF)
        await until(lambda: deployment.pending() == 0 and observer.health.mode is Mode.LIVE)

        deployment.kill_postgres()
        deployment.add(RAWS[HALF:])
        await until(lambda: engine.health.applied == len(RAWS))
        assert engine.repository.is_provisional
        assert any("provisional, not archived" in one for one in engine.repository.notices)
        assert deployment.pending() == len(RAWS) - HALF
        await until(lambda: observer.health.mode is Mode.PROVISIONAL)
        await until(lambda: shown(observer) == len(RAWS) - 4)
        assert all(one.doubt for one in await reader.summaries())
        assert reader.is_provisional
        assert deployment.pending() == len(RAWS) - HALF, "as long as it is away"

        deployment.postgres.start()
        await deployment.agree(RAWS)
        await until(lambda: observer.health.mode is Mode.LIVE)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def shown(engine: Engine) -> int:
    """How many results are on the screen."""
    rows = engine.view.batches.values()
    return sum(step.completed for row in rows for step in row.summary.steps)


@pytest.mark.slow
async def test_who_goes_on_for_long_begins_without_postgresql(deployment: Deployment) -> None:
    async with running(await deployment.open(), await stream_feed(deployment.live.url)) as engine:
        deployment.add(RAWS[:HALF])
        await until(lambda: engine.health.applied == HALF and not deployment.pending())
    deployment.kill_postgres()
    with pytest.raises(RepositoryUnavailable, match="cannot be reached"):
        await deployment.open()

    async with (
        running(
            await deployment.open(archive_may_be_away=True),
            await stream_feed(deployment.live.url),
        ) as engine,
        aclosing(await deployment.open(read_only=True, archive_may_be_away=True)) as watched,
    ):
        observer = Engine(watched, observing=True)
        watching = asyncio.create_task(observer.run())
        await until(lambda: observer.health.mode is Mode.PROVISIONAL)
        deployment.add(RAWS[HALF:])
        await until(lambda: engine.health.applied == len(RAWS) - HALF)
        assert engine.repository.is_provisional
        assert deployment.pending() == len(RAWS) - HALF
        await until(lambda: shown(observer) == len(RAWS) - 4)
        assert all(one.doubt for one in await watched.summaries())

        deployment.postgres.start()
        await deployment.agree(RAWS)
        await until(lambda: observer.health.mode is Mode.LIVE)
        await until(lambda: not any(row.summary.doubt for row in observer.view.batches.values()))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.slow
async def test_p04_a_postgresql_that_hangs_is_one_that_is_away(deployment: Deployment) -> None:
    feed = await stream_feed(deployment.live.url)
    async with running(await deployment.open(archive_seconds=0.5), feed) as engine:
        deployment.add(RAWS[:HALF])
        await until(lambda: engine.health.applied == HALF and not deployment.pending())
        deployment.tell_postgres(signal.SIGSTOP)
        try:
            deployment.add(RAWS[HALF:])
            await until(lambda: engine.health.applied == len(RAWS))
            assert engine.repository.is_provisional
            assert deployment.pending() == len(RAWS) - HALF
        finally:
            deployment.tell_postgres(signal.SIGCONT)
        await deployment.agree(RAWS)


@pytest.mark.slow
async def test_what_a_channel_brought_meanwhile_is_archived(deployment: Deployment) -> None:
    feed = await RedisPubSubFeed.open(deployment.live.url, CHANNEL)
    async with running(await deployment.open(), feed) as engine:
        with deployment.client() as producer:
            for raw in RAWS[:HALF]:
                producer.publish(CHANNEL, raw)
            await until(lambda: engine.health.applied == HALF)
            deployment.kill_postgres()
            for raw in RAWS[HALF:]:
                producer.publish(CHANNEL, raw)
        await until(lambda: engine.health.applied == len(RAWS))
        deployment.postgres.start()
        await deployment.agree(RAWS)
        assert feed.gaps == 0


@pytest.mark.slow
async def test_what_a_channel_brought_survives_the_process_that_recorded_it(
    deployment: Deployment,
) -> None:
    source = f"redis-pubsub:{CHANNEL}"
    deployment.ingest(source)
    with deployment.client() as producer:
        await until(lambda: producer.pubsub_numsub(CHANNEL)[0][1] > 0)
        for raw in RAWS[:HALF]:
            producer.publish(CHANNEL, raw)
        await patiently(lambda: counts(deployment, HALF - 4))
        deployment.kill_postgres()
        for raw in RAWS[HALF:]:
            producer.publish(CHANNEL, raw)
        await patiently(lambda: counts(deployment, len(RAWS) - 4))
        deployment.kill_worker()
        assert producer.xlen("bcs:tui:unarchived") > 0
    # Whoever only looks is told, also with PostgreSQL back and nobody there to mend.
    deployment.postgres.start()
    async with aclosing(await deployment.open(read_only=True)) as reader:
        assert reader.is_provisional
        assert await counted(reader) == len(RAWS) - 4
    deployment.ingest(source)
    await deployment.agree(RAWS)


@pytest.mark.slow
async def test_an_outage_an_emptied_redis_and_a_killed_process_together_lose_nothing(
    deployment: Deployment, redis_server: PrivateRedis, elsewhere: redis.Redis
) -> None:
    """What can be delivered again was not acknowledged."""

    async def feed() -> RedisStreamFeed:
        return await RedisStreamFeed.open(
            redis_server.url, STREAM, follow=True, chunk_size=10, consumer="worker"
        )

    both, killed = await deployment.open(), await feed()
    engine = Engine(both, killed)
    ingesting = asyncio.create_task(engine.run())
    for raw in RAWS[:HALF]:
        elsewhere.xadd(STREAM, {"data": raw})
    await until(lambda: engine.health.applied == HALF)
    deployment.kill_postgres()
    for raw in RAWS[HALF:]:
        elsewhere.xadd(STREAM, {"data": raw})
    await until(lambda: engine.health.applied == len(RAWS))
    ingesting.cancel()
    await asyncio.gather(ingesting, return_exceptions=True)
    await asyncio.sleep(0.1)  # so does what it was in the middle of
    await both.aclose()
    await killed._group.aclose()  # nothing is given back, and nothing acknowledged
    await empty(deployment)
    assert elsewhere.xpending(STREAM, "bcs-tui")["pending"] == len(RAWS) - HALF
    deployment.postgres.start()
    async with running(await deployment.open(), await feed()):
        await deployment.agree(RAWS)
        await until(lambda: elsewhere.xpending(STREAM, "bcs-tui")["pending"] == 0)


async def counts(deployment: Deployment, results: int) -> bool:
    return await deployment.counted_live() == results


async def counted(reader: RedisCachedBatchStateRepository) -> int:
    return sum(pair[0] for one in await reader.summaries() for pair in one.counts.values())


# --- Redis emptied, restarted empty, set back ------------------------------------------------


async def empty(deployment: Deployment) -> None:
    with deployment.client() as client:
        client.flushall()


async def restart_empty(deployment: Deployment) -> None:
    deployment.live.kill()
    await asyncio.sleep(0.5)
    for left in deployment.live.directory.glob("*dump*"):
        left.unlink()
    shutil.rmtree(deployment.live.directory / "appendonlydir", ignore_errors=True)
    await asyncio.to_thread(deployment.live.start)


async def set_back(deployment: Deployment) -> None:
    """It is killed, and what takes its place has only what was saved before."""
    deployment.live.kill()
    await asyncio.to_thread(deployment.live.start)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [empty, restart_empty, set_back])
async def test_a_redis_that_loses_data_is_mended_and_never_believed(
    redis_server: PrivateRedis,
    elsewhere: redis.Redis,
    lose: object,
) -> None:
    assert callable(lose)
    options = {"appendonly": "no", "save": '""'}
    async with deployed(options) as deployment:
        onlooker = Onlooker(deployment)
        feed = await stream_feed(redis_server.url)
        async with running(await deployment.open(), feed) as engine, onlooker.looking():
            third = len(RAWS) // 3
            for raw in RAWS[:third]:
                elsewhere.xadd(STREAM, {"data": raw})
            await until(lambda: engine.health.applied == third)
            await asyncio.sleep(1.5)  # it has been looked through once
            with deployment.client() as client:
                client.save()
            sending = asyncio.create_task(send_slowly(elsewhere, RAWS[third:]))
            await until(lambda: engine.health.applied > third + 20)
            looks = onlooker.looks
            await lose(deployment)
            await until(lambda: onlooker.looks > looks)
            await sending
            await until(lambda: engine.health.applied == len(RAWS))
            expected = await truth(RAWS)

            async def healed() -> bool:
                async with aclosing(await deployment.open_live()) as live:
                    return await known(live) == expected

            await patiently(healed, 10)
            assert not engine.repository.is_provisional, "PostgreSQL had everything all the time"
        await deployment.agree(RAWS)


NOTED = """
INSERT INTO phase_completions (batch_id, phase_name, completed, completed_at)
VALUES ('b001', 'student_matching', true, now()), ('other', 'student_matching', true, now())
"""


@pytest.mark.slow
async def test_what_others_noted_in_postgresql_is_in_every_answer(deployment: Deployment) -> None:
    async with aclosing(await deployment.open()) as both:
        engine = Engine(both)
        for raw in RAWS[:HALF]:
            await engine.submit(raw)
        before = await both.batch_record("b001")
        await run_in(deployment.database, NOTED)
        listed = await both.summaries()
        assert [one.batch_id for one in listed] == ["b000", "b001", "b002", "b003", "other"]
        for record in listed:
            assert await both.batch_record(record.batch_id) == record
        named = await both.batch_record("b001")
        assert [mark.phase for mark in named.milestones.values()] == ["student_matching"]
        assert named.counts == before.counts
        assert (await both.load_batch("b001")).record == named

        deployment.kill_postgres()
        assert (await both.batch_record("b001")).counts == before.counts


@pytest.mark.slow
async def test_what_cannot_be_read_in_redis_is_said_behind_an_archive(
    deployment: Deployment,
) -> None:
    async with aclosing(await deployment.open()) as both:
        with deployment.client() as client:
            client.set("bcs:essay_state:bad:e1", b"\xff")
            client.hset("bcs:essay_state:bad:e2", "a", "b")
            client.set("bcs:essay_state:bad:e3", '{"completed_steps": ["nlp"]}')
        record = await both.batch_record("bad")
        assert "2 essays cannot be read" in record.doubt
        essays = await both.essays("bad")
        assert [one.trouble for one in essays] == ["not UTF-8", "its key holds another type", ""]
        assert {told(one.created_at) for one in essays} == {None}
        loaded = await both.load_batch("bad")
        assert loaded.record.unreadable == ("e1", "e2")
        assert loaded.record.first_at is None


async def send_slowly(producer: redis.Redis, raws: list[bytes]) -> None:
    for raw in raws:
        producer.xadd(STREAM, {"data": raw})
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_the_state_says_that_redis_is_away_or_was_emptied(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.backends.archived_watch.ASK_SECONDS", 0.2)
    async with (
        aclosing(await deployment.open()) as both,
        aclosing(await deployment.open(read_only=True)) as watched,
    ):
        engine = Engine(both)
        observer = Engine(watched, observing=True)
        watching = asyncio.create_task(observer.run())
        for raw in RAWS[:HALF]:
            await engine.submit(raw)
        await until(lambda: both._mender._verified > 0)
        await until(lambda: watched._mender._seen > 0)
        await both._mender.stop()  # so that it stays as it is
        with deployment.client() as client:
            client.flushall()
        emptied = "Redis has lost what it had"
        await until(lambda: any(emptied in one for one in watched.notices))
        async with aclosing(await deployment.open(read_only=True)) as late:
            assert any(emptied in one for one in late.notices)
        both.start_mending()
        await until(lambda: not any(emptied in one for one in watched.notices))

        deployment.live.kill()
        for raw in RAWS[HALF:]:
            await engine.submit(raw)
        for one in (both, watched):
            await until(lambda one=one: any("PostgreSQL only" in said for said in one.notices))  # type: ignore[misc] # a lambda
        assert not both.is_provisional
        assert await counted(both) == len(RAWS) - 4
        deployment.live.start()
        await until(lambda: not both.notices)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await deployment.agree(RAWS)

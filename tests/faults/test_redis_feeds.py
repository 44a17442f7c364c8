"""Live feeds while servers, networks, producers and our own processes fail: nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import redis
from envelopes import registered, spellchecked
from proxy import Proxy

import engine as engine_package
from engine.backends.mock import MockBatchStateRepository
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.clock import SystemClock
from engine.engine import Engine
from engine.errors import (
    FeedUnavailable,
    FeedUnreachable,
    RepositoryUnavailable,
    SettingsError,
)
from engine.feeds.port import MAX_EVENT_BYTES, Envelope, Feed
from engine.feeds.redis_outage import REFUSED_DELAY_SECONDS, Outage
from engine.feeds.redis_pubsub import RedisPubSubFeed
from engine.feeds.redis_sink import RedisSink
from engine.feeds.redis_stream import RedisStreamFeed
from engine.models import Fact
from engine.repository import BatchStateRepository, Recorded
from engine.servers import PrivateRedis

pytestmark = pytest.mark.slow

KEY = "events"
ESSAYS = [f"e{number}" for number in range(40)]
EVENTS = [registered("b1", ESSAYS, 40)] + [
    spellchecked("b1", essay_id, seconds=number) for number, essay_id in enumerate(ESSAYS, 1)
]
SOON = 0.05


@pytest.fixture
def producer(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


def add(producer: redis.Redis, raws: Sequence[bytes]) -> list[bytes]:
    return [producer.xadd(KEY, {"data": raw}) for raw in raws]


def pending(producer: redis.Redis) -> int:
    count: int = producer.xpending(KEY, "bcs-tui")["pending"]
    return count


async def open_feed(url: str, **options: Any) -> RedisStreamFeed:
    return await RedisStreamFeed.open(url, KEY, **{"chunk_size": 10} | options)


async def work(feed: Feed, repository: BatchStateRepository) -> Engine:
    """Run an engine until its feed ends, check its account, and close the feed."""
    async with aclosing(feed):
        engine = Engine(repository, feed, patience_seconds=0)
        await engine.run()
        balanced(engine)
        return engine


def balanced(engine: Engine) -> None:
    health = engine.health
    known = health.applied + health.ignored + health.duplicates + health.dead_letters
    assert health.read == known + health.in_flight


async def gathered(feed: Feed, count: int) -> list[Envelope]:
    taken: list[Envelope] = []
    async with asyncio.timeout(20):
        while len(taken) < count:
            taken += await feed.read() or []
    return taken


async def known(repository: BatchStateRepository) -> list[object]:
    records = await repository.summaries()
    return [(record, await repository.essays(record.batch_id)) for record in records]


async def truth(raws: Sequence[bytes] = EVENTS) -> list[object]:
    repository = MockBatchStateRepository()
    engine = Engine(repository)
    for raw in raws:
        await engine.submit(raw)
    return await known(repository)


# --- streams: processes that die, replies that get lost ------------------------------------

DIE = """
import asyncio, os, signal, sys
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.engine import Engine
from engine.feeds.redis_sink import RedisSink
from engine.feeds.redis_stream import RedisStreamFeed

class Dying(RedisStreamFeed):
    rest = int(sys.argv[3])
    async def acknowledge(self, ahead=0):
        Dying.rest -= 1
        if not Dying.rest:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().acknowledge(ahead)

async def main():
    feed = await Dying.open(os.environ["URL"], sys.argv[1], chunk_size=10)
    await Engine(await SqliteBatchStateRepository.open(sys.argv[2]), feed).run()

asyncio.run(main())
"""


def die_at_acknowledgement(number: int, url: str, database: Path) -> None:
    """Ingest in another process, killed when a chunk is recorded but not acknowledged."""
    root = str(Path(engine_package.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", DIE, KEY, str(database), str(number)],
        env=os.environ | {"PYTHONPATH": root, "URL": url},
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL


async def test_killed_between_commit_and_acknowledgement(
    redis_server: PrivateRedis, producer: redis.Redis, tmp_path: Path
) -> None:
    add(producer, EVENTS)
    for number in (2, 1):
        die_at_acknowledgement(number, redis_server.url, tmp_path / "b.db")
    left = pending(producer)
    assert 20 <= left <= 31  # two chunks that were recorded, and what had been read ahead
    await asyncio.sleep(SOON)
    repository = await SqliteBatchStateRepository.open(tmp_path / "b.db")
    async with aclosing(repository):
        feed = await open_feed(redis_server.url, claim_after_seconds=SOON / 2)
        engine = await work(feed, repository)
        assert await known(repository) == await truth()
    assert engine.health.read == 31
    assert 11 <= engine.health.duplicates <= 20
    assert pending(producer) == 0
    assert f"{left} entries rescued" in feed.notices[0]


async def test_only_what_is_recorded_is_acknowledged(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:30])
    async with aclosing(await open_feed(redis_server.url, consumer="ours")) as feed:
        assert not feed.may_run_ahead  # entries of ours may be left, and one of them may be poison
        for _ in range(3):
            await feed.read()
            assert feed.may_run_ahead
        await asyncio.gather(feed.acknowledge(2), feed.acknowledge(1))
        assert pending(producer) == 10
    async with aclosing(await open_feed(redis_server.url, consumer="ours")) as feed:
        assert [one.raw for one in await feed.read() or ()] == EVENTS[20:30]
        assert not feed.may_run_ahead


async def test_a_swallowed_reply_leaves_nothing_behind(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    async with (
        Proxy(redis_server.port) as proxy,
        aclosing(
            await open_feed(proxy.url_of(redis_server.url), follow=True, chunk_size=100)
        ) as feed,
    ):
        proxy.lose_answer_to, proxy.reset_when_lost = b"XREADGROUP", False
        add(producer, EVENTS)
        start = time.monotonic()
        taken = await gathered(feed, len(EVENTS))
        assert [envelope.raw for envelope in taken] == EVENTS
        assert time.monotonic() - start < 10
        assert feed.trouble == ""
        assert "reading again after an outage" in feed.notices[-1]
        await feed.acknowledge()
    assert pending(producer) == 0


async def test_what_a_cancelled_read_was_given_is_found_again(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:2])
    async with (
        Proxy(redis_server.port) as proxy,
        aclosing(await open_feed(proxy.url_of(redis_server.url), follow=True)) as feed,
    ):
        await gathered(feed, 2)  # in hand, and not to be handed over again
        proxy.lose_answer_to, proxy.reset_when_lost = b"XREADGROUP", False
        reading = asyncio.create_task(feed.read())
        await until(lambda: not proxy.lose_answer_to)
        with producer.pipeline() as together:  # the waiting read is given all of them
            add(together, EVENTS[2:6])
            ids = together.execute()
        await until(lambda: pending(producer) == 6)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        producer.xtrim(KEY, minid=ids[2], approximate=False)
        left = await gathered(feed, 2)
        assert [one.raw for one in left] == EVENTS[4:6]
        await feed.acknowledge()
        add(producer, EVENTS[6:7])
        await gathered(feed, 1)
        await feed.acknowledge()
        assert feed.lost == 2
        assert f"ids {ids[0].decode()} to {ids[1].decode()}" in feed.notices[-1]
        assert pending(producer) == 0


async def test_a_lost_acknowledgement_is_made_up_for(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:5])
    async with (
        Proxy(redis_server.port) as proxy,
        aclosing(await open_feed(proxy.url_of(redis_server.url))) as feed,
    ):
        assert len(await feed.read() or []) == 5
        proxy.silent = True
        await feed.acknowledge()
        assert "no answer in time" in feed.trouble
        assert pending(producer) == 5
        proxy.silent = False
        assert await feed.read() is None
        assert pending(producer) == 0


async def test_entries_of_a_consumer_that_is_gone_are_claimed(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.xgroup_create(KEY, "bcs-tui", "0", mkstream=True)
    add(producer, EVENTS[:3])
    producer.xreadgroup("bcs-tui", "ghost", {KEY: ">"}, count=1)
    await asyncio.sleep(SOON)
    async with aclosing(await open_feed(redis_server.url, claim_after_seconds=SOON / 2)) as feed:
        assert [one.raw for one in await gathered(feed, 3)] == EVENTS[:3]
        await feed.acknowledge()
        assert "1 entry rescued" in feed.notices[0]
    assert pending(producer) == 0


async def test_what_others_may_still_be_working_on_is_told(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.xgroup_create(KEY, "bcs-tui", "0", mkstream=True)
    add(producer, EVENTS[:3])
    producer.xreadgroup("bcs-tui", "other", {KEY: ">"}, count=2)
    feed = await open_feed(redis_server.url)
    engine = await work(feed, MockBatchStateRepository())
    assert engine.health.read == 1
    assert "2 entries in the hands of other consumers" in feed.notices[-1]
    assert pending(producer) == 2


# --- streams: what producers and servers do -------------------------------------------------


async def test_delivered_entries_that_are_trimmed_are_reported(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.xgroup_create(KEY, "bcs-tui", "0", mkstream=True)
    ids = add(producer, EVENTS[:6])
    producer.xreadgroup("bcs-tui", "ours", {KEY: ">"}, count=3)
    producer.xreadgroup("bcs-tui", "ghost", {KEY: ">"}, count=2)
    producer.xtrim(KEY, maxlen=1, approximate=False)
    await asyncio.sleep(SOON)
    feed = await open_feed(redis_server.url, consumer="ours", claim_after_seconds=SOON / 2)
    async with aclosing(feed):
        assert [one.raw for one in await gathered(feed, 1)] == EVENTS[5:6]
        await feed.acknowledge()
        assert (feed.lost, feed.gaps) == (5, 1)
        assert f"ids {ids[0].decode()} to {ids[4].decode()}" in feed.notices[-1]
    assert pending(producer) == 0


async def test_own_entries_that_are_trimmed_are_reported(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.xgroup_create(KEY, "bcs-tui", "0", mkstream=True)
    ids = add(producer, EVENTS[:4])
    producer.xreadgroup("bcs-tui", "ours", {KEY: ">"}, count=3)
    producer.xtrim(KEY, maxlen=2, approximate=False)
    async with aclosing(await open_feed(redis_server.url, consumer="ours")) as feed:
        assert [one.raw for one in await gathered(feed, 2)] == EVENTS[2:4]
        await feed.acknowledge()
        assert feed.lost == 2
        assert "2 entries lost: trimmed by the producer" in feed.notices[-1]
        assert f"ids {ids[0].decode()} to {ids[1].decode()}" in feed.notices[-1]
    assert pending(producer) == 0


async def test_entries_trimmed_unread_are_reported_once(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:5])
    async with aclosing(await open_feed(redis_server.url, follow=True)) as feed:
        await gathered(feed, 5)
        await feed.acknowledge()
        add(producer, EVENTS[5:15])
        producer.xtrim(KEY, maxlen=4, approximate=False)
        assert [one.raw for one in await gathered(feed, 4)] == EVENTS[11:15]
        assert feed.lost == 6
        add(producer, EVENTS[15:20])
        producer.xtrim(KEY, maxlen=0, approximate=False)
        reading = asyncio.create_task(feed.read())
        await asyncio.sleep(0.6)
        add(producer, EVENTS[20:22])
        producer.xtrim(KEY, maxlen=1, approximate=False)
        await reading
        assert 5 <= feed.lost - 6 <= 6
        assert len(feed.notices) <= 3


async def test_more_that_is_trimmed_unread_is_told_once_each(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:1])
    async with aclosing(await open_feed(redis_server.url)) as feed:
        await gathered(feed, 1)
        await feed.acknowledge()
        for more, lost in ((5, 5), (3, 8), (0, 8)):
            add(producer, EVENTS[:more])
            producer.xtrim(KEY, maxlen=0, approximate=False)
            assert await feed.read() is None
            assert feed.lost == lost
        assert [notice.split()[1] for notice in feed.notices] == ["5", "3"]


@pytest.mark.parametrize("word", ["there is no such stream yet", "the stream is empty"])
async def test_a_stream_that_is_not_there_is_waited_for_and_said_to_be(
    redis_server: PrivateRedis, producer: redis.Redis, word: str
) -> None:
    if "empty" in word:
        producer.xgroup_create(KEY, "others", mkstream=True)
    async with aclosing(await open_feed(redis_server.url, follow=True)) as feed:
        [notice] = feed.notices
        assert f"redis-stream:{KEY}: {word}" in notice
        add(producer, EVENTS[:1])
        assert len(await gathered(feed, 1)) == 1
        assert feed.notices == []
    async with aclosing(await open_feed(redis_server.url, follow=True)) as again:
        assert again.notices == []


async def test_a_removed_stream_is_read_from_its_beginning(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:5])
    async with aclosing(await open_feed(redis_server.url, follow=True)) as feed:
        await gathered(feed, 5)
        reading = asyncio.create_task(feed.read())
        await asyncio.sleep(SOON)
        producer.flushall()
        await asyncio.sleep(SOON)
        add(producer, EVENTS[5:8])
        taken = await reading or []
        taken += await gathered(feed, 3 - len(taken))
        assert [one.raw for one in taken] == EVENTS[5:8]
        await feed.acknowledge()
        assert "stream reset: it was removed" in feed.notices[-1]
        assert pending(producer) == 0


async def test_ids_that_begin_anew_are_noticed(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.xadd(KEY, {"data": b"{}"}, id="500-0")
    async with aclosing(await open_feed(redis_server.url, follow=True)) as feed:
        await gathered(feed, 1)
        producer.delete(KEY)
        producer.xgroup_create(KEY, "bcs-tui", "0", mkstream=True)
        producer.xadd(KEY, {"data": b"{}"}, id="100-0")
        await gathered(feed, 1)
        assert "its ids begin anew" in feed.notices[-1]


async def test_ids_from_the_future_are_noticed_once(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    later = int(time.time() * 1000) + 3_600_000
    for sequence in range(3):
        producer.xadd(KEY, {"data": b"{}"}, id=f"{later}-{sequence}")
    async with aclosing(await open_feed(redis_server.url, chunk_size=1)) as feed:
        assert len(await gathered(feed, 3)) == 3
        assert len(feed.notices) == 1
        assert "stream clock ahead: its ids are 3" in feed.notices[0]


async def test_entries_that_are_no_events_are_dead_letters(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.xadd(KEY, {"payload": b"x", "more": b"y"})
    producer.xadd(KEY, {"kind": b"event", "data": EVENTS[0]})
    producer.xadd(KEY, {"data": b"\xc3("})
    producer.xadd(KEY, {"data": b"x" * (MAX_EVENT_BYTES + 1)})
    repository = MockBatchStateRepository()
    engine = await work(await open_feed(redis_server.url), repository)
    letters = await repository.dead_letters()
    assert [letter.reason for letter in letters] == ["no_data", "not_utf8", "too_large"]
    assert "it has payload, more" in letters[0].message
    assert letters[2].size == MAX_EVENT_BYTES + 1
    assert engine.health.applied == 1
    assert pending(producer) == 0


async def test_duplicated_entries_count_as_duplicates(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, [raw for raw in EVENTS for _ in range(2)])
    repository = MockBatchStateRepository()
    engine = await work(await open_feed(redis_server.url), repository)
    assert (engine.health.applied, engine.health.duplicates) == (len(EVENTS), len(EVENTS))
    assert await known(repository) == await truth()


# --- streams: poison, outages of the repository ---------------------------------------------


class Breaking(MockBatchStateRepository):
    """Breaks on one essay, as a bug would; or is not there at all."""

    essay_id = "e7"
    away = False

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        if self.away:
            raise RepositoryUnavailable("away")
        if any(getattr(fact, "essay_id", "") == self.essay_id for fact in facts):
            raise ArithmeticError("a bug")
        return await super().record(facts)


async def test_poison_ends_as_a_dead_letter_and_takes_nothing_with_it(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS[:20])
    repository = Breaking()
    crashes = 0
    for _ in range(12):
        feed = await open_feed(redis_server.url, claim_after_seconds=SOON / 2)
        try:
            await work(feed, repository)
        except ArithmeticError:
            crashes += 1
        else:
            break
        if crashes == 1:  # what comes later waits for nothing
            add(producer, EVENTS[20:])
            later = await work(await open_feed(redis_server.url), repository)
            ahead = len(EVENTS) - later.health.applied - 10  # no more than a chunk was read ahead
            assert 0 <= ahead <= 10
        await asyncio.sleep(SOON)
    assert crashes == 5
    (letter,) = await repository.dead_letters()
    assert (letter.reason, letter.payload) == ("poison", EVENTS[8])
    healthy = [raw for raw in EVENTS if raw != EVENTS[8]]
    assert await known(repository) == await truth(healthy)
    assert pending(producer) == 0


async def test_an_outage_of_the_repository_makes_no_poison(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS)
    repository = Breaking()
    repository.essay_id, repository.away = "none", True
    for _ in range(7):
        with pytest.raises(RepositoryUnavailable):
            await work(await open_feed(redis_server.url), repository)
    repository.away = False
    engine = await work(await open_feed(redis_server.url), repository)
    assert (engine.health.applied, engine.health.dead_letters) == (len(EVENTS), 0)
    assert pending(producer) == 0


# --- streams: several workers ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "same"])
async def test_several_workers_apply_everything_once(
    redis_server: PrivateRedis, producer: redis.Redis, name: str
) -> None:
    add(producer, EVENTS)
    repository = MockBatchStateRepository()
    feeds = [await open_feed(redis_server.url, chunk_size=3, consumer=name) for _ in range(3)]
    engines = await asyncio.gather(*(work(feed, repository) for feed in feeds))
    assert sum(engine.health.applied for engine in engines) == len(EVENTS)
    assert await known(repository) == await truth()
    assert pending(producer) == 0
    warned = ["warning: consumer same was active" in "".join(feed.notices) for feed in feeds]
    assert warned == [False, bool(name), bool(name)]


async def test_nothing_of_a_worker_that_left_in_order_stays(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    add(producer, EVENTS)
    await work(await open_feed(redis_server.url), MockBatchStateRepository())
    assert producer.xinfo_consumers(KEY, "bcs-tui") == []
    await work(await open_feed(redis_server.url, consumer="mine"), MockBatchStateRepository())
    assert [one["name"] for one in producer.xinfo_consumers(KEY, "bcs-tui")] == [b"mine"]


async def test_a_stream_on_a_cluster() -> None:
    with PrivateRedis({"cluster-enabled": "yes"}) as server:
        with redis.Redis.from_url(server.url) as node:
            node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await until(lambda: node.cluster("info")["cluster_state"] == "ok")
        sink = await RedisSink.to_stream(server.url, KEY)
        async with aclosing(sink):
            await sink.send(EVENTS)
        repository = MockBatchStateRepository()
        engine = await work(await open_feed(server.url), repository)
        assert engine.health.applied == len(EVENTS)
        assert await known(repository) == await truth()


# --- streams: the server away ---------------------------------------------------------------


async def test_a_server_that_is_killed_is_waited_for() -> None:
    with PrivateRedis({"appendonly": "yes", "appendfsync": "always"}) as server:
        with redis.Redis.from_url(server.url) as producer:
            add(producer, EVENTS[:20])
        repository = MockBatchStateRepository()
        async with aclosing(await open_feed(server.url, follow=True)) as feed:
            engine = Engine(repository, feed)
            running = asyncio.create_task(engine.run())
            await until(lambda: engine.health.applied == 20)
            server.kill()
            await until(lambda: engine.health.mode == "reconnecting")
            assert "cannot be reached" in engine.health.trouble
            server.start()
            with redis.Redis.from_url(server.url) as producer:
                add(producer, EVENTS[20:])
                await until(lambda: engine.health.applied == len(EVENTS))
                assert engine.health.mode == "live"
                await until(lambda: pending(producer) == 0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert await known(repository) == await truth()


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_after_a_failover_the_new_master_is_read() -> None:
    with PrivateRedis() as old, PrivateRedis() as new:
        new.stop()
        new.password = old.password
        new.start()
        async with (
            Proxy(old.port) as proxy,
            aclosing(await open_feed(proxy.url_of(old.url), follow=True)) as feed,
        ):
            with redis.Redis.from_url(old.url) as client:
                add(client, EVENTS[:3])
                await gathered(feed, 3)
                await feed.acknowledge()
                reading = asyncio.create_task(feed.read())
                client.replicaof("127.0.0.1", new.port)
                await until(lambda: "read-only" in feed.trouble)
                await asyncio.sleep(0.5)  # a replica answers questions: that is no return
                assert feed.notices == []
                assert "read-only" in feed.trouble
            old.kill()  # else the new master waits for it when it is stopped
            proxy.server_port = new.port
            with redis.Redis.from_url(new.url) as client:
                add(client, EVENTS[3:6])
            taken = await reading or []
            taken += await gathered(feed, 3 - len(taken))
            assert [one.raw for one in taken] == EVENTS[3:6]
            assert "stream reset" in "".join(feed.notices)


INGESTER = (
    "on >secret resetkeys resetchannels -@all ~bcs:* &bcs:* +xreadgroup +xread +xrange +xack"
    " +xautoclaim +xclaim +xpending +xlen +xadd +xgroup|create +xgroup|createconsumer"
    " +xinfo|stream +xinfo|groups +xinfo|consumers +publish +subscribe +unsubscribe +ping +hello"
    " +auth +select +client|setname +client|id +info"
)


async def test_an_ingester_needs_few_permissions(
    redis_server: PrivateRedis, producer: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.execute_command("ACL", "SETUSER", "ingester", *INGESTER.split())
    url = redis_server.url.replace(f":{redis_server.password}@", "ingester:secret@")
    async with aclosing(await RedisSink.to_stream(url, "bcs:events")) as sink:
        await sink.send(EVENTS)
    monkeypatch.setattr("engine.feeds.redis_lookout._FORGOTTEN_SECONDS", -1)
    for expected in (len(EVENTS), 0):  # the second finds a consumer that it may not remove
        feed = await RedisStreamFeed.open(url, "bcs:events")
        engine = await work(feed, MockBatchStateRepository())
        assert (engine.health.applied, feed.notices) == (expected, [])
    async with aclosing(await RedisPubSubFeed.open(url, "bcs:events")) as channel:
        producer.publish("bcs:events", b"{}")
        assert [one.raw for one in await gathered(channel, 1)] == [b"{}"]
    with pytest.raises(FeedUnreachable, match="does not permit this"):
        await open_feed(url)


async def test_a_feed_that_cannot_start_says_why(
    redis_server: PrivateRedis, producer: redis.Redis
) -> None:
    producer.set(KEY, "something else")
    with pytest.raises(FeedUnavailable, match="redis-stream:events: WRONGTYPE"):
        await open_feed(redis_server.url)
    wrong = redis_server.url.replace(redis_server.password, "CANARY-7f3a")
    with pytest.raises(FeedUnreachable, match="refuses the account") as refused:
        await open_feed(wrong)
    assert isinstance(refused.value.__cause__, PermissionError)
    assert "CANARY" not in str(refused.value)
    with pytest.raises(SettingsError, match="an answer may take 1 s; wait for less"):
        await open_feed(redis_server.url, block_seconds=1, answer_seconds=1)


async def test_without_patience_an_outage_ends_the_feed() -> None:
    with PrivateRedis() as server:
        async with aclosing(await open_feed(server.url, follow=True, patience_seconds=0.2)) as feed:
            server.kill()
            with pytest.raises(FeedUnreachable, match="cannot be reached"):
                await feed.read()


async def test_a_refused_account_is_tried_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("engine.feeds.redis_outage.asyncio.sleep", sleep)
    outage = Outage(SystemClock())
    for _ in range(10):
        await outage.wait(FeedUnreachable("away"))
    assert max(delays) <= 3
    refused = FeedUnreachable("refused")
    refused.__cause__ = PermissionError()
    await outage.wait(refused)
    assert delays[-1] >= REFUSED_DELAY_SECONDS
    assert outage.over() is not None
    assert outage.over() is None


# --- everything killed at random -----------------------------------------------------------

FOLLOW = """
import asyncio, os, sys
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.engine import Engine
from engine.feeds.redis_stream import RedisStreamFeed

async def main():
    feed = await RedisStreamFeed.open(
        os.environ["URL"], sys.argv[1], follow=True, chunk_size=20, claim_after_seconds=0.5
    )
    await Engine(await SqliteBatchStateRepository.open(sys.argv[2]), feed).run()

asyncio.run(main())
"""


async def test_nothing_is_lost_or_doubled_when_everything_is_killed(tmp_path: Path) -> None:
    chances = random.Random(7)
    batches = [f"b{number}" for number in range(60)]
    raws = [registered(batch_id, ESSAYS, 40) for batch_id in batches]
    raws += [spellchecked(batch_id, one) for one in ESSAYS for batch_id in batches]
    with PrivateRedis({"appendonly": "yes", "appendfsync": "always"}) as server:
        sink = await RedisSink.to_stream(server.url, KEY, answer_seconds=1)
        async with aclosing(sink):
            sending = asyncio.create_task(send_slowly(sink, raws))
            rounds = 0
            while not sending.done():
                rounds += 1
                worker = follower(server.url, tmp_path / "b.db")
                await progress(server.url, sending)
                await asyncio.sleep(chances.uniform(0, 0.5))
                if rounds % 3 == 1:
                    server.kill()
                    await asyncio.sleep(chances.uniform(0, 0.3))
                    server.start()
                    await asyncio.sleep(chances.uniform(0, 0.3))
                worker.kill()
                worker.wait()
            await sending
        assert sink.sent == len(raws)
        assert rounds > 2
        await asyncio.sleep(0.5)
        async with aclosing(await SqliteBatchStateRepository.open(tmp_path / "b.db")) as kept:
            await work(await open_feed(server.url, claim_after_seconds=0.2), kept)
            assert await known(kept) == await truth(raws)
            assert await kept.dead_letters() == []
        with redis.Redis.from_url(server.url) as client:
            assert pending(client) == 0


async def progress(url: str, sending: asyncio.Task[None]) -> None:
    """Wait until the worker has read something, or there is nothing left to be read."""
    before = entries_read(url)
    await until(lambda: sending.done() or entries_read(url) > before)


def entries_read(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        groups = client.xinfo_groups(KEY) if client.exists(KEY) else []
    return groups[0]["entries-read"] or 0 if groups else 0


async def send_slowly(sink: RedisSink, raws: Sequence[bytes]) -> None:
    for start in range(0, len(raws), 20):
        await sink.send(raws[start : start + 20])
        await asyncio.sleep(0.04)


def follower(url: str, database: Path) -> subprocess.Popen[bytes]:
    root = str(Path(engine_package.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", FOLLOW, KEY, str(database)],
        env=os.environ | {"PYTHONPATH": root, "URL": url},
    )

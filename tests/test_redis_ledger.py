"""The accounts between Redis and the archive, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties.test_repository_model import START, facts

from engine.backends.redis_ledger import UNARCHIVED_KEY, VERIFIED_KEY, RedisLedger, pack, unpack
from engine.backends.redis_owed import Owed
from engine.errors import RepositoryUnavailable
from engine.models import COMPLETED, Fact, StepFact
from engine.redis_access import open_redis
from engine.servers import PrivateRedis

SOME = [StepFact("b", f"e{number}", "nlp", COMPLETED, START) for number in range(3)]


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateRedis]:
    with PrivateRedis() as running:
        yield running


@pytest.fixture
async def ledger(server: PrivateRedis) -> AsyncIterator[RedisLedger]:
    client = await open_redis(server.url)
    await client.flushall()
    yield RedisLedger(client, server.url, "index:{}".format, 100)
    await client.aclose()


@given(st.lists(facts, max_size=5))
def test_facts_survive_being_packed(some: list[Fact]) -> None:
    assert unpack(pack(some)) == some


def test_other_bytes_are_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        unpack(b"not facts")


async def test_a_mark_follows_the_archive_step_by_step(ledger: RedisLedger) -> None:
    await ledger.chain({"new": (0, 3), "late": (2, 3)})
    assert await ledger.marks(["new", "late", "unknown"]) == {"new": 3, "late": 0, "unknown": 0}
    await ledger.chain({"new": (3, 4)})
    assert await ledger.marks(["new"]) == {"new": 4}


async def test_behind_a_gap_nothing_is_claimed_until_it_is_closed(ledger: RedisLedger) -> None:
    await ledger.chain({"b": (0, 1)})
    await ledger.chain({"b": (2, 3)})  # whoever recorded version 2 has not written to Redis yet
    assert await ledger.marks(["b"]) == {"b": 0}
    await ledger.mark({"b": 2})  # it has died meanwhile, and Redis was mended
    assert await ledger.marks(["b"]) == {"b": 3}


async def test_workers_may_note_what_they_did_in_any_order(ledger: RedisLedger) -> None:
    for version in range(0, 40, 2):
        await ledger.chain({"b": (version + 1, version + 2)})
        assert await ledger.marks(["b"]) == {"b": 0}
        await ledger.chain({"b": (version, version + 1)})
        assert await ledger.marks(["b"]) == {"b": version + 2}
    await asyncio.gather(*(ledger.chain({"b": (at, at + 1)}) for at in range(40, 80)))
    assert await ledger.marks(["b"]) == {"b": 80}


async def test_what_was_noted_is_summed_up(ledger: RedisLedger) -> None:
    for version in (0, 1, 3):
        await ledger.chain({"b": (version, version + 1)})
    assert await ledger.marks(["b"], shorten=True) == {"b": 0}
    assert await ledger._client.hgetall("index:b") == {b"archived": b"2", b"archived:3": b"4"}
    await ledger.chain({"b": (2, 3)})
    assert await ledger.marks(["b"], shorten=True) == {"b": 4}
    assert await ledger._client.hgetall("index:b") == {b"archived": b"4"}


async def test_an_emptied_server_is_known_by_its_verified_version(ledger: RedisLedger) -> None:
    assert await ledger.verified() is None
    for version in (0, 7):
        await ledger.set_verified(version)
        assert await ledger.verified() == version


async def test_only_what_the_archive_lacks_does_not_expire(ledger: RedisLedger) -> None:
    await ledger.mark({"b": 1})
    await ledger.set_verified(1)
    await ledger.keep_unarchived(SOME)
    client = ledger._client
    ages = [await client.ttl(key) for key in ("index:b", VERIFIED_KEY, UNARCHIVED_KEY)]
    assert [0 < age <= 100 for age in ages] == [True, True, False]
    await client.expire("index:b", 50)
    await ledger.mark({"b": 2})
    assert await client.ttl("index:b") <= 50


async def test_facts_wait_for_the_archive_in_order_until_it_has_them(ledger: RedisLedger) -> None:
    chunks = [[fact] for fact in SOME]
    for chunk in chunks:
        await ledger.keep_unarchived(chunk)
    assert await ledger.count_unarchived() == len(chunks)
    first, *rest = await ledger.unarchived()
    assert [first.facts(), *(one.facts() for one in rest)] == chunks
    assert [one.facts() for one in await ledger.unarchived(limit=1)] == chunks[:1]
    await ledger.forget_unarchived([first])
    assert [one.facts() for one in await ledger.unarchived()] == chunks[1:]
    await ledger.forget_unarchived([])


async def test_what_redis_drops_is_kept_anew(ledger: RedisLedger) -> None:
    """It was emptied, set back to an older state, or has evicted the key."""
    await ledger.keep_unarchived(SOME[:1])
    older = await ledger._client.dump(UNARCHIVED_KEY)
    await ledger.keep_unarchived(SOME[1:2])
    await ledger._client.restore(UNARCHIVED_KEY, 0, older, replace=True)
    await ledger.keep_dropped()
    assert [one.facts() for one in await ledger.unarchived()] == [SOME[:1], SOME[1:2]]
    await ledger._client.delete(UNARCHIVED_KEY)
    await ledger.keep_unarchived(SOME[2:])
    await ledger.keep_dropped()
    waiting = await ledger.unarchived()
    assert [one.facts() for one in waiting] == [SOME[2:], SOME[:1], SOME[1:2]]
    await ledger.forget_unarchived(waiting)
    await ledger.keep_dropped()
    assert (len(ledger.owed), ledger.owed.lost, await ledger.count_unarchived()) == (0, 0, 0)


async def test_what_others_have_archived_is_not_kept_anew(ledger: RedisLedger) -> None:
    other = RedisLedger(ledger._client, "", "index:{}".format, 100)
    for fact in SOME:
        await ledger.keep_unarchived([fact])
    first, *_ = await other.unarchived()
    await other.forget_unarchived([first])
    await ledger.keep_dropped()
    assert len(ledger.owed) == len(SOME) - 1
    await other.forget_unarchived(await other.unarchived())
    await ledger.keep_dropped()
    assert (len(ledger.owed), ledger.owed.lost, await ledger.count_unarchived()) == (0, 0, 0)


async def test_of_more_than_is_remembered_the_loss_is_known(ledger: RedisLedger) -> None:
    ledger.owed = Owed(most_bytes=2 * len(pack(SOME[:1])))
    for fact in SOME:
        await ledger.keep_unarchived([fact])
    await ledger._client.delete(UNARCHIVED_KEY)
    await ledger.keep_dropped()
    assert ledger.owed.lost == 1
    assert [one.facts() for one in await ledger.unarchived()] == [[fact] for fact in SOME[1:]]


async def test_one_of_several_leads_until_it_is_gone(ledger: RedisLedger) -> None:
    other = RedisLedger(ledger._client, "", str, 100)
    assert [await ledger.lead(), await other.lead(), await ledger.lead()] == [True, False, True]
    await ledger._client.delete("bcs:tui:mender")  # as if it had expired
    assert [await other.lead(), await ledger.lead()] == [True, False]
    assert [await other.still_leads(), await ledger.still_leads()] == [True, False]
    await ledger.resign()
    assert [await ledger.lead(), await other.still_leads()] == [False, True]
    await other.resign()
    assert [await ledger.lead(), await other.lead()] == [True, False]
    await ledger._client.flushall()
    assert not await ledger.still_leads()


async def test_a_server_that_is_gone_is_unavailable(server: PrivateRedis) -> None:
    with PrivateRedis() as other:
        client = await open_redis(other.url)
        ledger = RedisLedger(client, other.url, str, 100)
        other.kill()
        for attempt in (ledger.verified, ledger.unarchived, ledger.count_unarchived):
            with pytest.raises(RepositoryUnavailable, match=f"127.0.0.1:{other.port}"):
                await attempt()
        await client.aclose()

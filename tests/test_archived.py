"""Redis in front of an archive: what happens when a part is away, loses data, or comes back.

The ledger is on a real server; both repositories are in memory and can be made to fail. That
the real ones do the same is shown in `faults/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.test_repository_model import START, facts, model, state_of
from stills import until

import engine.backends.archived_mending as mending
import engine.backends.archived_watch as watching
from engine.backends.archived import RedisCachedBatchStateRepository
from engine.backends.mock import MockBatchStateRepository
from engine.backends.redis_ledger import RedisLedger
from engine.backends.redis_owed import Owed
from engine.clock import ManualClock
from engine.errors import CorruptDocument, NotFound, RepositoryUnavailable
from engine.models import COMPLETED, EssaysFact, Fact, StepFact
from engine.redis_access import Client, open_redis
from engine.repository import Archive, Cache, DeadLetter, Recorded
from engine.servers import PrivateRedis


class Part(MockBatchStateRepository):
    """A repository that can be away, and can lose its answer after it has recorded."""

    away = hangs = False
    loses_answer = False
    damaged = ""
    """A batch of which a key is damaged."""

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        self.check()
        if self.damaged in {fact.batch_id for fact in facts} - {""}:
            raise CorruptDocument(f"{self.name} cannot read {self.damaged}")
        recorded = await super().record(facts)
        if self.loses_answer:
            raise RepositoryUnavailable(f"{self.name} is gone after it did it")
        return recorded

    def check(self) -> None:
        if self.away:
            raise RepositoryUnavailable(f"{self.name} is gone")

    async def answer(self) -> None:
        self.check()
        if self.hangs:
            await asyncio.Event().wait()

    async def summaries(self, *arguments: Any, **named: Any) -> Any:
        await self.answer()
        return await super().summaries(*arguments, **named)

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        self.check()
        await super().record_dead_letters(letters)

    async def dead_letters(self, **named: Any) -> list[DeadLetter]:
        self.check()
        return await super().dead_letters(**named)


class Live(Part, Cache):
    """A part that may lose what it had; like the real one it does not ask for what it knows."""

    name = "live"

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Fact] = []
        self.doubt = ""
        self.pages_read = 0

    async def summaries(self, *arguments: Any, **named: Any) -> Any:
        records = await super().summaries(*arguments, **named)
        for record in records:
            record.doubt = self.doubt
        return records

    async def essays(self, *arguments: Any, **named: Any) -> Any:
        page = await super().essays(*arguments, **named)
        self.pages_read += bool(page)
        return page

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        recorded = await super().record([fact for fact in facts if fact not in self.known])
        self.known += facts
        return recorded._replace(news=[True] * len(facts))

    def distrust(self) -> None:
        self.known.clear()


class Permanent(Part, Archive):
    """A part that numbers its changes."""

    name = "archive"

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.versions: dict[str, int] = {}

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        self.check()
        recorded = await MockBatchStateRepository.record(self, facts)
        changed = {change.fact.batch_id for change in recorded.changes}
        self.version += 1
        moved = {name: (self.versions.get(name, 0), self.version) for name in changed}
        self.versions.update(dict.fromkeys(changed, self.version))
        if self.loses_answer:
            raise RepositoryUnavailable(f"{self.name} is gone after it did it")
        telling = [*facts, *(change.fact for change in recorded.changes)]
        return recorded._replace(versions=moved, telling=telling)

    async def changed_since(
        self, version: int, *, within_seconds: float, limit: int = 500
    ) -> list[tuple[str, int]]:
        await self.answer()
        changed = [(number, name) for name, number in self.versions.items() if number > version]
        last = max(number for number, _ in sorted(changed)[:limit]) if changed else 0
        return [(name, number) for number, name in sorted(changed) if number <= last]


class Pair:
    """The repository under test and what it is made of."""

    def __init__(self, client: Client, url: str) -> None:
        self.client, self.url = client, url
        self.live, self.archive = Live(), Permanent()
        self.clock = ManualClock(START)
        self.both = self.another()

    def another(self) -> RedisCachedBatchStateRepository:
        """Another process on the same parts."""
        ledger = RedisLedger(self.client, self.url, "index:{}".format, 1000)
        return RedisCachedBatchStateRepository(
            self.live, ledger, self.archive, self.clock, ttl_seconds=1000
        )

    async def forget_live(self) -> None:
        """Redis is emptied."""
        self.live.restore(Live().checkpoint())
        await self.client.flushall()

    async def mend(self) -> None:
        """What mending does within a few seconds."""
        for _ in range(3):
            self.clock.advance(mending.MEND_SECONDS)
            await self.both._mender.mend()

    async def agree(self, told: Sequence[Fact]) -> None:
        """Everything is everywhere, and nobody doubts it."""
        expected = model(told)
        for repository in (self.archive, self.live, self.both):
            assert await state_of(repository) == expected, repository.name


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateRedis]:
    with PrivateRedis() as running:
        yield running


@pytest.fixture
async def pair(server: PrivateRedis) -> AsyncIterator[Pair]:
    client = await open_redis(server.url)
    await client.flushall()
    yield Pair(client, server.url)
    await client.aclose()


def result(essay_id: str, batch_id: str = "b") -> StepFact:
    return StepFact(batch_id, essay_id, "nlp", COMPLETED, START, detail=1)


def tied(*essay_ids: str, batch_id: str = "b") -> EssaysFact:
    return EssaysFact(batch_id, essay_ids, START)


async def test_what_is_recorded_stands_in_both(pair: Pair) -> None:
    told: list[Fact] = [tied("e1", "e2"), result("e1")]
    recorded = await pair.both.record(told)
    assert (list(recorded.news), pair.both.is_provisional) == ([True, True], False)
    await pair.agree(told)
    assert pair.both.notices == []


async def test_a_result_without_a_batch_reaches_redis_although_only_the_archive_knows_its_essay(
    pair: Pair,
) -> None:
    told: list[Fact] = [tied("e1"), result("e1", "")]
    await pair.archive.record(told[:1])
    await pair.both.record(told[1:])
    assert (await pair.live.batch_record("b")).counts == {"nlp": [1, 0]}
    await pair.mend()
    assert await state_of(pair.both) == model(told)


async def test_without_the_archive_it_goes_on_provisionally(pair: Pair) -> None:
    await pair.both.record([tied("e1", "e2")])
    pair.archive.away = True
    await pair.both.record([result("e1")])
    assert pair.both.is_provisional
    [record] = await pair.both.summaries()
    assert record.counts == {"nlp": [1, 0]}
    assert "archive is away" in record.doubt
    assert any("archive is gone" in notice for notice in pair.both.notices)
    with pytest.raises(RepositoryUnavailable):
        await pair.both._mender.mend()


async def test_who_watches_is_told_of_an_archive_that_hangs_and_does_not_wait_for_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr("engine.repository.HEARTBEAT_SECONDS", 0.01)
    await pair.both.record([result("e1")])
    follower = asyncio.create_task(listen(pair.both))
    await until(lambda: pair.both._archive_part.is_followed)
    assert pair.both.silences == {"Redis": 0, "PostgreSQL": 0}
    pair.archive.hangs = True
    await until(lambda: pair.both.is_provisional)
    assert "PostgreSQL has not answered for 0.05 s" in str(pair.both.notices)
    pair.clock.advance(60)
    [record] = await asyncio.wait_for(pair.both.summaries(), 5)
    assert (record.seen, "archive is away" in record.doubt) == (1, True)
    await until(lambda: pair.both.silences == {"Redis": 0, "PostgreSQL": 60})
    pair.archive.hangs = False
    await until(lambda: not pair.both.is_provisional)
    assert pair.both.silences["PostgreSQL"] == 0
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower


async def listen(repository: RedisCachedBatchStateRepository) -> None:
    async for _ in repository.changes():
        pass


async def test_when_the_archive_is_back_it_gets_everything(pair: Pair) -> None:
    told: list[Fact] = [tied("e1", "e2"), result("e1"), result("e2"), result("e1", "")]
    await pair.both.record(told[:1])
    pair.archive.away = True
    for fact in told[1:]:
        await pair.both.record([fact])
        assert pair.both.is_provisional
    pair.archive.away = False
    await pair.mend()
    await pair.agree(told)
    assert pair.both.notices == []
    assert not pair.both.is_provisional


async def test_whoever_waits_for_the_permanent_record_is_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "MEND_SECONDS", 0.01)
    await pair.both.settled()
    pair.archive.away = True
    await pair.both.record([result("e1")])
    pair.both.start_mending()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pair.both.settled(), 0.1)
    pair.archive.away = False
    await asyncio.wait_for(pair.both.settled(), 10)
    assert await state_of(pair.archive) == model([result("e1")])
    await pair.both.aclose()


async def test_what_waits_survives_the_process_that_recorded_it(pair: Pair) -> None:
    told = [tied("e1"), result("e1")]
    pair.archive.away = True
    await pair.both.record(told)
    pair.archive.away = False
    pair.both = pair.another()
    await pair.client.delete("bcs:tui:mender")
    await pair.mend()
    await pair.agree(told)


async def test_what_waits_survives_a_redis_that_drops_it(pair: Pair) -> None:
    told = [tied("e1"), result("e1")]
    pair.archive.away = True
    await pair.both.record(told)
    await pair.client.delete("bcs:tui:unarchived")
    pair.archive.away = False
    await pair.mend()
    await pair.agree(told)
    assert not pair.both.is_provisional


async def test_what_is_lost_is_never_said_to_be_recorded(pair: Pair) -> None:
    pair.both._ledger.owed = Owed(most_bytes=0)
    pair.archive.away = True
    await pair.both.record([result("e1")])
    await pair.client.delete("bcs:tui:unarchived")
    pair.archive.away = False
    await pair.mend()
    assert pair.both.is_provisional, "so that nobody acknowledges it"
    assert any("dropped 1 chunks" in notice for notice in pair.both.notices)


async def test_before_everything_is_archived_nothing_is_settled(pair: Pair) -> None:
    pair.archive.away = True
    await pair.both.record([result("e1")])
    pair.archive.away = False
    pair.both._archive_part.found()  # e.g. a reader has noticed; what waits still waits
    await pair.both.record([result("e2")])
    assert pair.both.is_provisional
    # Until then, what only Redis has is merged in.
    assert (await pair.both.batch_record("b")).counts == {"nlp": [2, 0]}
    assert len((await pair.both.load_batch("b")).essay_ids) == 2
    assert [essay.essay_id for essay in await pair.both.essays("b")] == ["e1", "e2"]


async def test_without_redis_the_archive_goes_on(pair: Pair) -> None:
    pair.live.away = True
    told = [tied("e1"), result("e1")]
    await pair.both.record(told)
    assert not pair.both.is_provisional
    assert await state_of(pair.both) == model(told)
    assert any("live is gone" in notice for notice in pair.both.notices)
    pair.live.away = False
    await pair.mend()
    await pair.agree(told)


async def test_a_gap_that_another_process_left_is_found(pair: Pair) -> None:
    told = [tied("e1", "e2"), result("e1"), result("e2")]
    await pair.both.record(told[:1])
    await pair.archive.record(told[1:2])  # somebody died before Redis had it
    await pair.both.record(told[2:])
    assert (await pair.both.batch_record("b")).counts == {"nlp": [2, 0]}, "Redis is not believed"
    await pair.mend()
    await pair.agree(told)


async def test_an_emptied_redis_is_filled_again(pair: Pair, monkeypatch: Any) -> None:
    monkeypatch.setattr(mending, "PAGE", 2)
    told = [result("e1", f"b{number}") for number in range(7)]
    for fact in told:
        await pair.both.record([fact])
    await pair.mend()
    await pair.forget_live()
    assert await state_of(pair.both) == model(told)
    await pair.both._mender.mend()  # at once: it is known to have lost something
    await pair.agree(told)


async def test_a_key_that_is_damaged_keeps_nothing_else_from_being_recorded(pair: Pair) -> None:
    told = [result("e1", f"b{number}") for number in range(4)]
    pair.live.damaged = "b1"
    assert all((await pair.both.record(told)).news)
    await pair.mend()
    assert [one.batch_id for one in await pair.live.summaries()] == ["b0", "b2", "b3"]
    assert await state_of(pair.both) == model(told)
    pair.live.damaged = ""
    await pair.mend()
    await pair.agree(told)


async def test_a_damaged_key_is_no_obstacle_while_the_archive_is_away(pair: Pair) -> None:
    pair.live.damaged, pair.archive.away = "b1", True
    recorded = await pair.both.record([result("e1", "b1")])
    assert (list(recorded.news), list(recorded.faded)) == ([True], ["b1"])
    pair.live.damaged, pair.archive.away = "", False
    await pair.mend()
    await pair.agree([result("e1", "b1")])


async def test_a_redis_that_is_emptied_while_it_is_mended_is_mended_anew(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [result("e1", f"b{number}") for number in range(4)]
    await pair.archive.record(told)
    bring_back = pair.live.record
    left = 2

    async def record(facts: Sequence[Fact]) -> Recorded:
        nonlocal left
        left -= 1
        recorded = await bring_back(facts)
        if left == 0:
            await pair.forget_live()
        return recorded

    monkeypatch.setattr(pair.live, "record", record)
    with pytest.raises(RepositoryUnavailable, match="begins anew"):
        await pair.both.mend()
    await pair.both.mend()
    await pair.agree(told)


async def test_in_an_emptied_redis_no_mark_is_believed(pair: Pair) -> None:
    told = [result("e1"), result("e2")]
    await pair.both.record(told[:1])
    await pair.mend()
    await pair.both.record(told[1:])
    await pair.forget_live()
    await pair.both._ledger.chain({"b": (0, 2)})  # by a worker that had written before that
    await pair.both.mend()
    await pair.agree(told)


async def test_a_redis_that_was_set_back_is_not_believed(pair: Pair) -> None:
    await pair.both.record([tied("e1"), result("e1")])
    then, mark = pair.live.checkpoint(), await pair.client.dump("index:b")
    await pair.both.record([result("e2")])
    assert (await pair.both.batch_record("b")).counts == {"nlp": [2, 0]}
    pair.live.restore(then)
    await pair.client.restore("index:b", 0, mark, replace=True)
    assert (await pair.both.batch_record("b")).counts == {"nlp": [2, 0]}


async def test_what_the_archive_is_known_to_have_is_not_believed_to_be_missing(pair: Pair) -> None:
    await pair.both.record([tied("e1"), result("e1")])
    await pair.archive.record([result("e2")])  # by somebody who cannot reach Redis
    fresh = pair.another()
    assert (await fresh.batch_record("b")).counts == {"nlp": [1, 0]}, "nobody can know yet"
    await pair.both.mend()  # it is seen, but may still be on its way
    assert (await fresh.batch_record("b")).counts == {"nlp": [2, 0]}


async def test_what_was_listed_from_the_archive_is_not_taken_back(pair: Pair) -> None:
    await pair.both.record([tied("e1"), result("e1")])
    await pair.mend()
    reader = pair.another()
    assert await reader._look_behind()
    assert (await reader.batch_record("b")).counts == {"nlp": [1, 0]}
    await pair.archive.record([result("e2")])  # by a worker that was killed before it told Redis
    assert [one.counts for one in await reader.summaries()] == [{"nlp": [2, 0]}]
    assert (await reader.batch_record("b")).counts == {"nlp": [2, 0]}


@pytest.mark.parametrize("was_away", [False, True])
async def test_who_begins_looks_what_redis_lacks(pair: Pair, was_away: bool) -> None:
    await pair.both.record([tied("e1"), result("e1")])
    await pair.mend()
    await pair.archive.record([result("e2")])  # by somebody who cannot reach Redis
    fresh = pair.another()
    assert was_away or await fresh._look_behind()
    fresh._has_looked_behind = not was_away  # then as soon as it is back
    assert (await fresh.batch_record("b")).counts == {"nlp": [2, 0]}


async def test_what_is_read_while_it_is_mended_is_not_called_whole(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.archive.record([result("e1"), result("e2")])
    await pair.live.record([result("e1")])
    summaries = pair.live.summaries

    async def read(*arguments: Any, **named: Any) -> Any:
        records = await summaries(*arguments, **named)
        await pair.live.record([result("e2")])
        await pair.both._ledger.mark({"b": 1})
        return records

    monkeypatch.setattr(pair.live, "summaries", read)
    assert (await pair.both.batch_record("b")).counts == {"nlp": [2, 0]}


async def test_both_away_is_unavailable_and_says_both(pair: Pair) -> None:
    pair.live.away = pair.archive.away = True
    for _ in range(2):
        with pytest.raises(RepositoryUnavailable, match="archive is gone"):
            await pair.both.record([result("e1")])
    pair.clock.advance(10)
    with pytest.raises(RepositoryUnavailable, match=r"archive is gone; live is gone"):
        await pair.both.summaries()


async def test_a_lost_answer_counts_nothing_twice(pair: Pair) -> None:
    told = [tied("e1"), result("e1")]
    pair.archive.loses_answer = True
    await pair.both.record(told)
    assert pair.both.is_provisional
    pair.archive.loses_answer = False
    await pair.mend()
    await pair.both.record(told)
    await pair.agree(told)


async def test_something_else_among_what_waits_becomes_a_dead_letter(pair: Pair) -> None:
    await pair.client.xadd("bcs:tui:unarchived", {b"facts": b"\xff nonsense"})
    await pair.mend()
    [letter] = await pair.both.dead_letters()
    assert (letter.reason, letter.payload) == ("unreadable_document", b"\xff nonsense")
    assert await pair.client.xlen("bcs:tui:unarchived") == 0


async def test_dead_letters_reach_the_archive_later(pair: Pair) -> None:
    letter = DeadLetter(START, "feed", "line 1", "json", "no", "", b"{", "00", 1)
    pair.archive.away = True
    await pair.both.record_dead_letters([letter])
    assert await pair.both.dead_letters() == [letter]
    pair.archive.away = False
    await pair.mend()
    assert await pair.archive.dead_letters() == [letter]


async def test_a_result_in_the_archive_of_an_essay_that_redis_cannot_read_is_known(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.both.record([tied("e1", "e2", "e3"), result("e1")])
    pair.live.doubt = "another service has written it; 2 essays cannot be read"
    summaries, load_batch = pair.live.summaries, pair.live.load_batch

    async def unread(*arguments: Any, **named: Any) -> Any:
        records = await summaries(*arguments, **named)
        for record in records:
            record.unread = 2
        return records

    async def unreadable(batch_id: str) -> Any:
        columns = await load_batch(batch_id)
        columns.record.unreadable = ("e1", "e2")
        return columns

    monkeypatch.setattr(pair.live, "summaries", unread)
    monkeypatch.setattr(pair.live, "load_batch", unreadable)
    [record] = await pair.both.summaries()
    assert (record.unread, record.unread_results) == (2, {"nlp": 1})


async def test_an_unknown_batch_is_not_found(pair: Pair) -> None:
    with pytest.raises(NotFound, match=r"redis\+postgresql"):
        await pair.both.load_batch("nobody")
    assert await pair.both.essays("nobody") == []


async def test_pages_hold_what_either_has(pair: Pair) -> None:
    await pair.archive.record([result("e1", "b1"), result("e1", "b3")])
    await pair.live.record([result("e1", "b2"), result("e1", "b4")])
    assert [one.batch_id for one in await pair.both.summaries(limit=3)] == ["b1", "b2", "b3"]
    assert [one.batch_id for one in await pair.both.summaries(after="b3")] == ["b4"]


async def test_what_both_know_in_part_is_merged_again_when_one_of_them_changes(pair: Pair) -> None:
    pair.live.doubt = "another service has written it"
    await pair.archive.record([tied("e1", "e2"), result("e1")])
    await pair.live.record([result("e3")])
    for _ in range(3):
        [record] = await pair.both.summaries()
        assert (record.seen, record.counts, record.doubt) == (3, {"nlp": [2, 0]}, pair.live.doubt)
        record.counts.clear()  # a copy, nobody else's
    assert pair.live.pages_read == 1

    await pair.live.record([result("e4")])
    await pair.both.summaries(["b"])
    await pair.archive.record([result("e5")])
    [record] = await pair.both.summaries(["b"])
    assert (record.seen, record.counts) == (5, {"nlp": [4, 0]})
    assert pair.live.pages_read == 3


async def test_what_only_redis_knows_is_merged_with_nothing(pair: Pair) -> None:
    pair.live.doubt = "its counters are gone"
    await pair.live.record([result("e1")])
    [record] = await pair.both.summaries()
    assert (record.seen, record.doubt) == (1, pair.live.doubt)
    assert pair.live.pages_read == 0


outages = st.sampled_from(["", "archive", "live", "archive answer"])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.lists(facts, min_size=1, max_size=4), outages), max_size=6))
async def test_whatever_was_away_when_in_the_end_all_have_all(
    server: PrivateRedis, chunks: list[tuple[list[Fact], str]]
) -> None:
    client = await open_redis(server.url)
    await client.flushall()
    pair = Pair(client, server.url)
    told: list[Fact] = []
    for chunk, outage in chunks:
        pair.archive.away = outage == "archive"
        pair.archive.loses_answer = outage == "archive answer"
        pair.live.away = outage == "live"
        try:
            await pair.both.record(chunk)
            told += chunk
        except RepositoryUnavailable:
            # Whoever feeds it tries again, as the engine does.
            pair.archive.away = pair.archive.loses_answer = pair.live.away = False
            await pair.mend()
            await pair.both.record(chunk)
            told += chunk
    pair.archive.away = pair.archive.loses_answer = pair.live.away = False
    await pair.mend()
    assert await state_of(pair.archive) == await state_of(pair.both) == model(told)
    await client.aclose()

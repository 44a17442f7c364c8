"""The engine: the account of events, outages, views, the open batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from envelopes import (
    START,
    ListFeed,
    Tape,
    at,
    document,
    encode,
    nlp_result,
    registered,
    requested,
    spellchecked,
    vector,
)

import engine.recorder as recorder_module
from engine.account import LOG_LENGTH, Account
from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.engine import Engine
from engine.errors import (
    FeedError,
    FeedUnavailable,
    NotFound,
    RepositoryConflict,
    RepositoryUnavailable,
)
from engine.events import Ignored, Rejected
from engine.feeds.port import Envelope
from engine.models import Fact
from engine.projection import OTHERS_PER_VIEW
from engine.repository import BatchStateRepository, DeadLetter, Recorded
from engine.view import Health, LogEntry, Mode, View

IGNORED = encode(document("huleedu.resource.consumption.v1", {}))
BAD = b"no JSON"


class Flaky(MockBatchStateRepository):
    """Fails as often as it is told to, before or after keeping what it is given."""

    name = "flaky"

    def __init__(self, *failures: str) -> None:
        super().__init__()
        self.failures = list(failures)
        self.told: list[int] = []
        self.on_record: Callable[[], None] = lambda: None

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        self.told.append(len(facts))
        self.on_record()
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise RepositoryUnavailable("flaky: gone; wait")
        recorded = await super().record(facts)
        if failure == "after":
            raise RepositoryUnavailable("flaky: no answer; wait")
        return recorded

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        if self.failures and self.failures[0] == "letters":
            self.failures.pop(0)
            raise RepositoryUnavailable("flaky: no room; wait")
        await super().record_dead_letters(letters)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr(recorder_module, "_FIRST_DELAY_SECONDS", 0.001)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


def balances(health: Health) -> bool:
    return health.read == (
        health.applied + health.ignored + health.duplicates + health.dead_letters + health.in_flight
    )


# The account


async def test_every_event_is_accounted_for_once() -> None:
    raws = [spellchecked("b1", "e1"), spellchecked("b1", "e1"), IGNORED, BAD, nlp_result("e1")]
    engine = Engine(MockBatchStateRepository(), ListFeed(raws))
    await engine.run()
    health = engine.health
    assert (health.read, health.applied, health.ignored) == (5, 2, 1)
    assert (health.duplicates, health.dead_letters, health.in_flight) == (1, 1, 0)
    assert health.ignored_types == {"huleedu.resource.consumption.v1": 1}
    assert (health.mode, health.feed, health.backend) == (Mode.ENDED, "list", "mock")
    fates = [(entry.number, entry.fate) for entry in engine.view.log]
    words = ["applied", "duplicate", "ignored", "dead letter", "applied"]
    assert fates == list(enumerate(words, 1))


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
async def test_the_account_balances_at_every_moment(chunk_size: int) -> None:
    repository = Flaky()
    engine = Engine(repository, ListFeed(vector("comprehensive_batch"), chunk_size))
    moments: list[Health] = []
    repository.on_record = lambda: moments.append(engine.health)
    await engine.run()
    assert all(balances(health) for health in moments)
    assert all(health.in_flight > 0 for health in moments)
    assert engine.health.read == 218


async def test_a_chunk_is_acknowledged_after_it_is_recorded() -> None:
    repository = Flaky()
    feed = ListFeed([spellchecked("b1", f"e{n}") for n in range(5)], chunk_size=2)
    acknowledged: list[int] = []
    repository.on_record = lambda: acknowledged.append(feed.acknowledged)
    await Engine(repository, feed).run()
    assert acknowledged == [0, 1, 2]
    assert feed.acknowledged == 3


async def test_dead_letters_are_kept_with_their_place() -> None:
    repository = MockBatchStateRepository()
    clock = ManualClock(START)
    engine = Engine(repository, ListFeed([spellchecked("b1", "e1"), BAD]), clock)
    await engine.run()
    (letter,) = await engine.dead_letters()
    assert (letter.received_at, letter.source, letter.position) == (START, "list", "line 2")
    assert (letter.reason, letter.payload, letter.size) == ("json", BAD, len(BAD))


async def test_of_an_oversize_envelope_the_feed_knows_more_than_its_bytes() -> None:
    class Oversize(ListFeed):
        async def read(self) -> list[Envelope] | None:
            chunk = await super().read()
            return chunk and [Envelope(b"x" * 70_000, "line 1", 5_000_000, "f00d")]

    repository = MockBatchStateRepository()
    await Engine(repository, Oversize([BAD])).run()
    (letter,) = await repository.dead_letters()
    assert (letter.reason, letter.size, letter.sha256) == ("too_large", 5_000_000, "f00d")
    assert len(letter.payload) == 64 * 1024


async def test_the_log_keeps_the_newest_events() -> None:
    account = Account(ManualClock(START))
    event = Ignored("x", None, True)
    for _ in range(LOG_LENGTH + 5):
        account.begin(1)
        account.settle([event], [])
    assert len(account.log) == LOG_LENGTH
    assert account.log[0] == LogEntry(6, event, "ignored")
    assert account.log[-1].number == LOG_LENGTH + 5
    assert [entry.number for entry in account.log[:2]] == [6, 7]


async def test_the_log_knows_in_which_batches_a_result_that_names_none_took_effect() -> None:
    engine = Engine(MockBatchStateRepository())
    chunk = [
        registered("b1", ["e1", "e2"], 2), registered("b2", ["e2"], 1),
        nlp_result("e1", 1), nlp_result("e2", 2), nlp_result("e9", 3), spellchecked("b1", "e1"),
    ]  # fmt: skip
    await engine._recorder.take([Envelope(raw, str(place)) for place, raw in enumerate(chunk)])
    await engine.submit(nlp_result("e1", 4, words=5))
    told = [(), (), ("b1",), ("b1", "b2"), (), (), ("b1",)]
    assert [entry.homes for entry in engine.view.log] == told
    books = engine._account.books()
    for number in range(LOG_LENGTH):
        await engine.submit(IGNORED if number else BAD)
    assert {entry.homes for entry in engine.view.log} == {()}
    engine._account.restore(books)
    assert [entry.homes for entry in engine.view.log] == told


async def test_the_rate_of_a_replay_is_that_of_whoever_looks() -> None:
    then, outside = ManualClock(START), ManualClock(at(0))
    engine = Engine(MockBatchStateRepository(then), clock=then, pace=outside)
    for second in range(4):
        await engine.submit(spellchecked("b1", f"e{second}", seconds=second))
        then.advance(600)
        outside.advance(1)
        assert engine.health.events_per_second == pytest.approx(1.0)


async def test_the_rate_and_the_lag_are_those_of_the_clock() -> None:
    clock = ManualClock(at(60))
    engine = Engine(MockBatchStateRepository(), clock=clock)
    assert engine.health.lag_seconds is None
    for second in range(8):
        await engine.submit(spellchecked("b1", f"e{second}", seconds=second))
        clock.advance(1)
        health = engine.health
    assert 1.0 <= health.events_per_second <= 1.5
    assert health.lag_seconds == 60
    clock.advance(60)
    assert engine.health.events_per_second < 0.1
    clock.advance(60)
    assert engine.health.events_per_second == 0
    clock.set(START)
    assert engine.health.events_per_second == 0


async def test_an_event_of_the_future_has_no_negative_lag() -> None:
    engine = Engine(MockBatchStateRepository(), clock=ManualClock(START))
    await engine.submit(spellchecked("b1", "e1", seconds=600))
    assert engine.health.lag_seconds == 0


# Outages


@pytest.mark.usefixtures("impatience")
async def test_an_unavailable_repository_gets_the_same_chunk_again() -> None:
    repository = Flaky("before", "before")
    feed = ListFeed([spellchecked("b1", "e1"), spellchecked("b1", "e2")])
    engine = Engine(repository, feed)
    modes: list[tuple[Mode, str]] = []
    repository.on_record = lambda: modes.append((engine.health.mode, engine.health.trouble))
    await engine.run()
    assert repository.told == [2, 2, 2]
    assert modes == [
        (Mode.LIVE, ""),
        (Mode.RETRYING, "flaky: gone; wait"),
        (Mode.RETRYING, "flaky: gone; wait"),
    ]
    assert (engine.health.applied, engine.health.trouble, feed.acknowledged) == (2, "", 1)
    assert engine.view.batches["b1"].summary.seen == 2


@pytest.mark.usefixtures("impatience")
async def test_a_lost_answer_counts_nothing_twice_and_hides_nothing() -> None:
    raws = [registered("b1", ["e1"], 3), spellchecked("b1", "e2")]
    engine = Engine(Flaky("", "after"), ListFeed(raws))
    await engine.submit(spellchecked("b1", "e1"))
    await engine.open("b1")
    await engine.run()
    summary = engine.view.batches["b1"].summary
    assert (summary.expected, summary.seen) == (3, 2)
    assert [counts.completed for counts in summary.steps] == [2]
    assert balances(engine.health)
    grid = engine.view.grid
    assert grid is not None
    assert sorted(grid.essay_ids) == ["e1", "e2"]


@pytest.mark.usefixtures("impatience")
async def test_trouble_with_dead_letters_alone_is_over_when_it_is_over() -> None:
    repository = Flaky("letters")
    engine = Engine(repository, ListFeed([BAD]))
    await engine.run()
    assert (engine.health.dead_letters, engine.health.trouble) == (1, "")
    assert len(await repository.dead_letters()) == 1


@pytest.mark.usefixtures("impatience")
async def test_patience_runs_out() -> None:
    repository = Flaky(*["before"] * 99)
    engine = Engine(
        repository, feed := ListFeed([spellchecked("b1", "e1")]), patience_seconds=0.002
    )
    with pytest.raises(RepositoryUnavailable):
        await engine.run()
    health = engine.health
    assert (health.mode, health.trouble) == (Mode.FAILED, "flaky: gone; wait")
    assert (health.read, health.in_flight, feed.acknowledged) == (1, 1, 0)
    assert 1 < len(repository.told) < 99


async def test_a_submitted_event_that_is_not_kept_is_not_counted() -> None:
    engine = Engine(Flaky("before"), patience_seconds=0)
    with pytest.raises(RepositoryUnavailable):
        await engine.submit(spellchecked("b1", "e1"))
    assert (engine.health.read, engine.health.in_flight) == (0, 0)
    await engine.submit(spellchecked("b1", "e1"))
    assert [entry.number for entry in engine.view.log] == [1]


@pytest.mark.usefixtures("impatience")
async def test_a_retried_submission_leaves_the_mode_as_it_was() -> None:
    engine = Engine(Flaky("before"), ListFeed([]))
    await engine.run()
    await engine.submit(spellchecked("b1", "e1"))
    assert engine.health.mode is Mode.ENDED


async def test_a_feed_that_breaks_is_shown() -> None:
    class Broken(ListFeed):
        async def read(self) -> list[Envelope] | None:
            raise FeedUnavailable("list: gone; look for it")

    engine = Engine(MockBatchStateRepository(), Broken([]))
    with pytest.raises(FeedUnavailable):
        await engine.run()
    assert (engine.health.mode, engine.health.trouble) == (Mode.FAILED, "list: gone; look for it")


class Live(ListFeed):
    """Waits at its end, and has things to tell."""

    trouble = ""
    told: tuple[str, ...] = ()
    back = 0

    async def read(self) -> list[Envelope] | None:
        chunk = await super().read()
        if chunk is None:
            await asyncio.Event().wait()
        return chunk

    @property
    def notices(self) -> list[str]:
        return list(self.told)

    def give_back(self) -> None:
        self.back += 1


async def test_what_a_silent_feed_has_to_tell_is_shown() -> None:
    feed = Live([])
    engine = Engine(MockBatchStateRepository(), feed)
    running = asyncio.create_task(engine.run())
    views = engine.views(fps=1000)
    async with asyncio.timeout(60):
        while (await anext(views)).health.mode is not Mode.LIVE:
            pass
        feed.trouble = "Redis is away"
        health = (await anext(views)).health
        assert (health.mode, health.trouble) == (Mode.RECONNECTING, "Redis is away")
        feed.trouble, feed.told = "", ("back again",)
        health = (await anext(views)).health
        assert (health.mode, health.trouble, health.notices) == (Mode.LIVE, "", ("back again",))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert feed.back == 0
    await views.aclose()


async def test_what_a_feed_refuses_is_a_dead_letter() -> None:
    class Refusing(ListFeed):
        async def read(self) -> list[Envelope] | None:
            chunk = await super().read()
            return chunk and [Envelope(chunk[0].raw, "1-0", refusal=("poison", "five times"))]

    repository = MockBatchStateRepository()
    engine = Engine(repository, Refusing([spellchecked("b1", "e1")]))
    await engine.run()
    (letter,) = await repository.dead_letters()
    assert (letter.reason, letter.message, letter.position) == ("poison", "five times", "1-0")
    assert (engine.health.dead_letters, engine.health.applied) == (1, 0)


@pytest.mark.parametrize(("error", "back"), [(RepositoryUnavailable, 1), (ArithmeticError, 0)])
async def test_only_what_is_guiltless_is_given_back(error: type[Exception], back: int) -> None:
    class Failing(MockBatchStateRepository):
        async def record(self, facts: Sequence[Fact]) -> Recorded:
            raise error("no")

    engine = Engine(Failing(), feed := Live([spellchecked("b1", "e1")]), patience_seconds=0)
    with pytest.raises(error):
        await engine.run()
    assert (feed.back, feed.acknowledged) == (back, 0)


async def test_what_an_interruption_leaves_unrecorded_is_given_back() -> None:
    begun = asyncio.Event()

    class Slow(MockBatchStateRepository):
        async def record(self, facts: Sequence[Fact]) -> Recorded:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError("never")

    engine = Engine(Slow(), feed := Live([spellchecked("b1", "e1")]))
    running = asyncio.create_task(engine.run())
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (feed.back, feed.acknowledged) == (1, 0)


# Writing by hand, and what was there before


async def test_what_the_repository_knows_is_loaded_page_by_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_module, "_PAGE", 2)
    repository = MockBatchStateRepository()
    before = Engine(repository)
    for number in range(5):
        await before.submit(spellchecked(f"b{number}", "e1"))
    engine = Engine(repository)
    assert engine.health.mode is Mode.STARTING
    await engine.run()
    assert engine.view.batches == before.view.batches
    assert (engine.health.mode, engine.health.feed, engine.health.read) == (
        Mode.ENDED, "no feed", 0,
    )  # fmt: skip


async def test_submitted_events_take_the_same_path() -> None:
    engine = Engine(MockBatchStateRepository(), clock=ManualClock(START))
    for raw in (spellchecked("b1", "e1"), spellchecked("b1", "e1"), IGNORED, BAD):
        await engine.submit(raw)
    health = engine.health
    assert (health.applied, health.duplicates, health.ignored, health.dead_letters) == (1, 1, 1, 1)
    assert isinstance(engine.view.log[-1].event, Rejected)
    (letter,) = await engine.dead_letters()
    assert (letter.source, letter.position) == ("", "submitted")


async def test_an_essay_in_full() -> None:
    engine = Engine(MockBatchStateRepository())
    await engine.submit(spellchecked("b1", "e1"))
    essay = await engine.essay("b1", "e1")
    assert essay is not None
    assert list(essay.steps) == ["spellcheck"]
    assert await engine.essay("b1", "e2") is None


async def test_expired_essays_are_counted_once_when_they_come_again() -> None:
    clock = ManualClock(START)
    engine = Engine(MockBatchStateRepository(clock, ttl_days=1), clock=clock)
    await engine.submit(registered("b1", ["e1", "e2"], 2))
    await engine.submit(spellchecked("b1", "e1"))
    await engine.submit(spellchecked("b2", "e1"))
    await engine.open("b1")
    clock.advance(50_000)
    await engine.submit(spellchecked("b1", "e2"))
    clock.advance(50_000)
    await engine.submit(spellchecked("b1", "e1"))
    rows = engine.view.batches
    assert list(rows) == ["b1"]
    assert (rows["b1"].summary.seen, rows["b1"].summary.steps[0].completed) == (2, 2)
    grid = engine.view.grid
    assert grid is not None
    assert sorted(grid.essay_ids) == ["e1", "e2"]


# Views


async def test_views_share_what_did_not_change() -> None:
    engine = Engine(MockBatchStateRepository(), clock=ManualClock(START))
    await engine.submit(spellchecked("b1", "e1"))
    await engine.submit(spellchecked("b2", "e1"))
    views = engine.views(fps=1000)
    first = await anext(views)
    assert first.changed == {"b1", "b2"}
    await engine.submit(spellchecked("b1", "e2"))
    second = await anext(views)
    assert second.changed == {"b1"}
    assert second.revision > first.revision
    assert second.batches["b2"] is first.batches["b2"]
    assert second.batches["b1"] is not first.batches["b1"]
    assert engine.row("b1") is second.batches["b1"]
    assert engine.row("b9") is None
    await views.aclose()


async def test_a_glance_takes_no_change_away_from_the_views() -> None:
    engine = Engine(MockBatchStateRepository(), clock=ManualClock(START))
    assert engine.row("b1") is None
    views = engine.views(fps=1000)
    await anext(views)
    await engine.submit(spellchecked("b1", "e1"))
    assert engine.view.changed == {"b1"}
    assert engine.view.changed == {"b1"}
    assert (await anext(views)).changed == {"b1"}
    await engine.submit(spellchecked("b2", "e1"))
    assert (await anext(views)).changed == {"b2"}
    await views.aclose()


async def test_nothing_is_shown_again_when_nothing_happens() -> None:
    engine = Engine(MockBatchStateRepository(), clock=ManualClock(START))
    views = engine.views(fps=1000)
    seen: list[View] = []

    async def look() -> None:
        async for view in views:
            seen.append(view)

    looking = asyncio.create_task(look())
    await until(lambda: len(seen) >= 1)
    shown = len(seen)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(seen) <= shown + 1
    await engine.submit(spellchecked("b1", "e1"))
    await until(lambda: "b1" in seen[-1].batches)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_a_stall_shows_although_nothing_happens() -> None:
    clock = ManualClock(START)
    engine = Engine(MockBatchStateRepository(), clock=clock, stall_seconds=60)
    await engine.submit(requested("b1", "nlp"))
    views = engine.views(fps=1000)
    for _ in range(2):
        row = (await anext(views)).batches["b1"]
        assert row.stalled_since is None
    waiting = asyncio.ensure_future(anext(views))
    await asyncio.sleep(0)
    clock.advance(60)
    view = await waiting
    row = view.batches["b1"]
    assert (row.stalled_since, view.changed, view.now) == (START, {"b1"}, at(60))
    await views.aclose()


async def test_a_rate_that_silence_made_untrue_fades_from_the_views() -> None:
    clock = ManualClock(START)
    engine = Engine(MockBatchStateRepository(), clock=clock)
    await engine.submit(spellchecked("b1", "e1"))
    clock.advance(1)
    views = engine.views(fps=1000)
    assert (await anext(views)).health.events_per_second == 1
    async with asyncio.timeout(60):
        while (await anext(views)).health.events_per_second:
            clock.advance(4)
    await views.aclose()


async def test_what_is_out_of_sight_comes_without_further_news() -> None:
    engine = Engine(MockBatchStateRepository(), clock=ManualClock(START))
    names = [f"b{number:03}" for number in range(2 * OTHERS_PER_VIEW)]
    for name in names:
        await engine.submit(spellchecked(name, "e1"))
    views = engine.views(fps=1000)
    engine.look_at(names[-1:])
    assert (await anext(views)).changed == set(names)
    for name in names:
        await engine.submit(spellchecked(name, "e2"))
    view = await anext(views)
    assert view.changed == {*names[:OTHERS_PER_VIEW], names[-1]}
    assert view.batches[names[-1]].summary.seen == 2
    assert (await anext(views)).changed == set(names) - view.changed
    await views.aclose()


# The open batch


async def test_the_open_batch_shows_its_essays() -> None:
    engine = Engine(MockBatchStateRepository())
    with pytest.raises(NotFound):
        await engine.open("b1")
    await engine.submit(spellchecked("b1", "e1"))
    await engine.open("b1")
    await engine.submit(spellchecked("b1", "e2", "failed"))
    grid = engine.view.grid
    assert grid is not None
    assert (grid.essay_ids, grid.outcomes) == (["e1", "e2"], {"spellcheck": bytearray([2, 1])})
    engine.close_batch()
    assert engine.view.grid is None


# What only a recording can do


async def test_only_a_replay_can_be_moved_in() -> None:
    engine = Engine(MockBatchStateRepository(), ListFeed([]))
    with pytest.raises(FeedError, match="only a replay"):
        engine.pause(True)
    with pytest.raises(FeedError, match="only a replay"):
        await engine.seek(index=3)
    assert engine.view.replay is None


def test_a_replay_runs_on_the_repository_in_memory_alone() -> None:
    class Durable(BatchStateRepository):
        name = "durable"

    with pytest.raises(FeedError, match="mock repository, not on durable"):
        Engine(durable(Durable), Tape([]))


def durable(kind: type[BatchStateRepository]) -> BatchStateRepository:
    """An object that is no mock; nobody calls it."""
    return object.__new__(type("Concrete", (kind,), dict.fromkeys(kind.__abstractmethods__)))


class Waiting(ListFeed):
    """A list that does not end: it waits for more."""

    async def read(self) -> list[Envelope] | None:
        return await super().read() or await asyncio.get_running_loop().create_future()


class Archiving(MockBatchStateRepository):
    """A repository whose permanent record is away until it is said to be back."""

    def __init__(self) -> None:
        super().__init__()
        self.back = asyncio.Event()

    @property
    def is_provisional(self) -> bool:
        return not self.back.is_set()

    @property
    def notices(self) -> list[str]:
        return ["the archive is away"]

    async def settled(self) -> None:
        await self.back.wait()


async def test_what_is_provisional_is_acknowledged_when_the_permanent_record_has_it() -> None:
    repository, feed = Archiving(), Waiting([spellchecked("b1", "e1"), spellchecked("b1", "e2")], 1)
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: engine.health.applied == 2)
    assert engine.health.mode is Mode.PROVISIONAL
    assert engine.health.notices == ("the archive is away",)
    assert feed.acknowledged == 0
    repository.back.set()
    await until(lambda: feed.acknowledged == 1)  # although nothing more is read
    assert engine.health.mode is Mode.LIVE
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_at_its_end_it_waits_for_the_permanent_record_as_long_as_patience_lasts() -> None:
    repository, feed = Archiving(), ListFeed([spellchecked("b1", "e1")])
    engine = Engine(repository, feed, patience_seconds=0.05)
    with pytest.raises(RepositoryUnavailable, match="permanent record yet: the archive is away"):
        await engine.run()
    assert feed.acknowledged == 0
    repository.back.set()
    feed = ListFeed([spellchecked("b1", "e1")])
    await Engine(repository, feed).run()
    assert feed.acknowledged == 1


@pytest.mark.usefixtures("impatience")
async def test_losing_to_other_writers_is_tried_again_as_well() -> None:
    class Contested(MockBatchStateRepository):
        tries = 0

        async def record(self, facts: Sequence[Fact]) -> Recorded:
            self.tries += 1
            if self.tries < 3:
                raise RepositoryConflict("others kept winning")
            return await super().record(facts)

    engine = Engine(Contested(), ListFeed([spellchecked("b1", "e1")]))
    await engine.run()
    assert (engine.health.applied, engine.health.trouble) == (1, "")

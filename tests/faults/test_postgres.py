"""PostgreSQL that restarts, dies, hangs, fills up, or answers nobody: nothing acknowledged is lost.

The server is durable as in production, and the tests' own: other tests are not disturbed.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import asyncpg
import psutil
import pytest
from proxy import Proxy
from servers import run_in, run_script
from test_sqlite_kill import CHUNKS, chunk, everything, order

from engine.backends.mock import MockBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.postgres_schema import migrate
from engine.errors import (
    BCSError,
    CorruptDocument,
    NotPermitted,
    RepositoryConflict,
    RepositoryError,
    RepositoryUnavailable,
)
from engine.models import COMPLETED, FAILED, Fact, RegistrationFact, StepFact
from engine.repository import BatchStateRepository, DeadLetter
from engine.servers import PrivatePostgres

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BOUND_SECONDS = 20
"""Far above every bound of ours and far below for ever."""

_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    with PrivatePostgres({"max_connections": "12"}) as running:
        yield running
        running.kill()  # nobody needs what it would write in order


@pytest.fixture
async def url(server: PrivatePostgres) -> str:
    name = f"fault{next(_numbers)}"
    await run_in(server.url, f"CREATE DATABASE {name}")
    await migrate(server.url_of(name))
    return server.url_of(name)


@pytest.fixture
async def repository(url: str) -> AsyncIterator[PostgresBatchStateRepository]:
    async with aclosing(await PostgresBatchStateRepository.open(url)) as opened:
        yield opened


def results(number: int, essays: Iterable[int] = range(20), outcome: int = COMPLETED) -> list[Fact]:
    moment = START + timedelta(seconds=number)
    return [StepFact("b1", f"e{one}", f"step{number}", outcome, moment) for one in essays]


async def until_recorded(repository: BatchStateRepository, facts: list[Fact]) -> int:
    """Record as the engine does, again after an outage; return how often it was unavailable."""
    refused = 0
    async with asyncio.timeout(60):
        while True:
            try:
                await repository.record(facts)
                return refused
            except RepositoryUnavailable:
                refused += 1
                await asyncio.sleep(0.02)


async def same_as_truth(url: str) -> None:
    """All chunks are there, as if nothing had happened, and recording them again is no news."""
    truth = MockBatchStateRepository()
    async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
        for number in range(CHUNKS):
            await truth.record(chunk(number))
            recorded = await repository.record(chunk(number))
            assert not any(recorded.news)
            assert not recorded.changes
        assert await everything(repository) == await everything(truth)


async def eventually(url: str, sql: str, answer: list[tuple[object, ...]]) -> None:
    """Wait until a query has an answer."""
    async with asyncio.timeout(BOUND_SECONDS):
        while await run_in(url, sql) != answer:  # noqa: ASYNC110 # the server tells nobody
            await asyncio.sleep(0.02)


async def record_beside(
    repository: BatchStateRepository, harm: Callable[[], Awaitable[None]]
) -> int:
    """Record all chunks and do some harm in between; return how often there was an outage."""
    refused = 0
    for place, number in enumerate(order(5)):
        if place == CHUNKS // 2:
            harming = asyncio.ensure_future(harm())
        refused += await until_recorded(repository, chunk(number))
    await harming
    return refused


def tell_all(server: PrivatePostgres, number: signal.Signals) -> None:
    """Send a signal to every process of a server."""
    parent = psutil.Process(server.pid)
    for process in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


# Servers that go and come back


async def test_p01_a_restart_while_recording(
    server: PrivatePostgres, url: str, repository: PostgresBatchStateRepository
) -> None:
    async def restart() -> None:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)

    await record_beside(repository, restart)
    await same_as_truth(url)


async def test_p02_one_backend_is_killed(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    async def kill_one() -> None:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'bcs-tui'"
        for row in await run_in(url, sql):
            os.kill(row["pid"], signal.SIGKILL)

    assert await record_beside(repository, kill_one) > 0
    await same_as_truth(url)


async def test_p03_all_are_killed_at_once(
    server: PrivatePostgres, url: str, repository: PostgresBatchStateRepository
) -> None:
    async def kill() -> None:
        tell_all(server, signal.SIGKILL)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    for number in range(3):
        acknowledged = await repository.record(results(number))
        assert all(acknowledged.news)
        await kill()
        assert await until_recorded(repository, []) <= 1
        assert not any((await repository.record(results(number))).news)
    await record_beside(repository, kill)
    record = await repository.batch_record("b1")
    assert [record.counts[f"step{number}"] for number in range(3)] == [[20, 0]] * 3


# Servers that do not answer

OPERATIONS: list[Callable[[BatchStateRepository], Awaitable[object]]] = [
    lambda repository: repository.record(results(1)),
    lambda repository: repository.record(results(1, range(30_000))),
    lambda repository: repository.summaries(),
    lambda repository: repository.load_batch("b1"),
    lambda repository: repository.essays("b1"),
    lambda repository: repository.dead_letters(),
    lambda repository: repository.record_dead_letters(
        [DeadLetter(START, "feed", "1", "json", "", "", b"{", "aa", 1)]
    ),
]


async def nothing_hangs(repository: BatchStateRepository) -> None:
    """Every operation says in bounded time that there is no answer."""
    for operation in OPERATIONS:
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(RepositoryUnavailable, match="does not answer in time"):
                await operation(repository)


async def test_p04_a_server_that_is_stopped(server: PrivatePostgres, url: str) -> None:
    async with AsyncExitStack() as stack:
        used, unused, stuck = [
            await PostgresBatchStateRepository.open(url, answer_seconds=0.3) for _ in range(3)
        ]
        tell_all(server, signal.SIGSTOP)
        stack.callback(tell_all, server, signal.SIGCONT)
        await nothing_hangs(used)
        with pytest.raises(RepositoryUnavailable, match="does not answer in time"):
            await PostgresBatchStateRepository.open(url, answer_seconds=0.3)
        waiting = asyncio.ensure_future(stuck.record(results(2)))
        await asyncio.sleep(0.1)
        waiting.cancel()
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(asyncio.CancelledError):
                await waiting
            for one in (used, unused, stuck):
                await one.aclose()
    async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
        await until_recorded(repository, results(1))
        assert (await repository.batch_record("b1")).counts["step1"] == [20, 0]


@asynccontextmanager
async def proxied(
    server: PrivatePostgres, url: str, answer_seconds: float = 5.0
) -> AsyncIterator[tuple[Proxy, PostgresBatchStateRepository]]:
    async with Proxy(server.port) as proxy:
        through = re.sub(r":\d+/", f":{proxy.port}/", url)
        opened = await PostgresBatchStateRepository.open(through, answer_seconds=answer_seconds)
        async with aclosing(opened):
            yield proxy, opened


async def test_p04_a_network_that_swallows_everything(server: PrivatePostgres, url: str) -> None:
    async with proxied(server, url, 0.3) as (proxy, repository):
        proxy.silent = True
        await nothing_hangs(repository)
        proxy.silent = False
        await until_recorded(repository, results(1))
        proxy.silent = True
        async with asyncio.timeout(BOUND_SECONDS):
            await repository.aclose()


async def test_a_slow_network_is_only_slow(server: PrivatePostgres, url: str) -> None:
    async with proxied(server, url) as (proxy, repository):
        proxy.latency_seconds = 0.02
        assert all((await repository.record(results(1))).news)
        assert (await repository.batch_record("b1")).counts["step1"] == [20, 0]


@pytest.mark.parametrize("reset", [True, False])
async def test_p05_an_answer_to_a_commit_that_is_lost(
    server: PrivatePostgres, url: str, reset: bool
) -> None:
    async with proxied(server, url, 1.0) as (proxy, repository):
        await repository.record(results(1))
        proxy.reset_when_lost = reset
        proxy.lose_answer_to = b"COMMIT\0"
        with pytest.raises(RepositoryUnavailable):
            await repository.record(results(2))
        assert proxy.lost > 0
        recorded = await repository.record(results(2))
        assert not any(recorded.news), "it had been committed"
        assert (await repository.batch_record("b1")).counts["step2"] == [20, 0]


async def test_p06_too_many_clients(url: str) -> None:
    async with AsyncExitStack() as stack:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                one = await asyncpg.connect(url)
                stack.push_async_callback(one.close)
        with pytest.raises(RepositoryUnavailable, match="has too many clients"):
            await PostgresBatchStateRepository.open(url)
    async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
        await asyncio.gather(*(repository.summaries() for _ in range(40)))
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bcs-tui'"
        [(connections,)] = await run_in(url, sql)
        assert 1 <= connections <= 5


async def test_p08_a_lock_that_somebody_holds(url: str) -> None:
    holder = await asyncpg.connect(url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(holder.close)
        waiting = await PostgresBatchStateRepository.open(url, answer_seconds=0.3)
        stack.push_async_callback(waiting.aclose)
        await holder.execute("BEGIN; UPDATE bcs.ledger SET version = version + 1")
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(RepositoryUnavailable):
                await waiting.record(results(1))
            assert await waiting.summaries() == [], "readers wait for nobody"
        await holder.execute("COMMIT")
        assert all((await waiting.record(results(1))).news)


# Writers beside each other


async def test_p09_writers_in_opposite_order(url: str) -> None:
    writers = [await PostgresBatchStateRepository.open(url) for _ in range(2)]
    essays = list(range(40))

    async def write(number: int) -> None:
        for turn in range(10):
            facts = results(turn, essays if number else essays[::-1], (COMPLETED, FAILED)[number])
            await writers[number].record(facts if number else facts[::-1])

    await asyncio.gather(write(0), write(1))
    for writer in writers:
        record = await writer.batch_record("b1")
        assert record.seen == 40
        assert record.counts == {f"step{turn}": [40, 0] for turn in range(10)}
        await writer.aclose()
    assert await run_in(url, "SELECT count(*) FROM bcs.essay_steps") == [(400,)]
    [(deadlocks,)] = await run_in(
        url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0


REFUSE = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('refusals') <= {times} THEN
        RAISE EXCEPTION 'CANARY-7f3a' USING ERRCODE = '{code}';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON bcs.batches
    DEFERRABLE INITIALLY {moment} FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize("code", ["40001", "40P01"])
@pytest.mark.parametrize("moment", ["IMMEDIATE", "DEFERRED"])
async def test_p10_a_conflict_is_tried_again(
    url: str, repository: PostgresBatchStateRepository, code: str, moment: str
) -> None:
    await repository.record(results(1))
    await run_script(url, REFUSE.format(times=3, code=code, moment=moment))
    assert all((await repository.record(results(2))).news)
    assert (await repository.batch_record("b1")).counts == {"step1": [20, 0], "step2": [20, 0]}
    await run_in(url, "SELECT setval('refusals', 1, false)")


async def test_p10_a_conflict_without_end_is_given_up(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    await run_script(url, REFUSE.format(times=99, code="40001", moment="DEFERRED"))
    with pytest.raises(RepositoryConflict, match="kept winning"):
        await repository.record(results(1))
    assert await run_in(url, "SELECT last_value FROM refusals") == [(5,)]
    assert await repository.summaries() == []


async def test_p11_a_server_that_becomes_read_only(
    server: PrivatePostgres, url: str, repository: PostgresBatchStateRepository
) -> None:
    async def set_read_only(value: str) -> None:
        await run_in(server.url, f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await run_in(server.url, "SELECT pg_reload_conf()")
        await eventually(url, "SHOW default_transaction_read_only", [(value,)])

    await repository.record(results(1))
    await set_read_only("on")
    try:
        for _ in range(2):  # on the connection that there was, and on a new one
            with pytest.raises(RepositoryUnavailable, match="is read-only"):
                await repository.record(results(2))
        async with aclosing(await PostgresBatchStateRepository.open(url, read_only=True)) as other:
            assert (await other.batch_record("b1")).counts == {"step1": [20, 0]}
    finally:
        await set_read_only("off")
    assert all((await repository.record(results(2))).news)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("53100", RepositoryUnavailable, "no space left on its disk"),
        ("53200", RepositoryUnavailable, "lacks memory"),
        ("57014", RepositoryUnavailable, "takes too long"),
        ("57P01", RepositoryUnavailable, "has been stopped or is starting"),
        ("55P03", RepositoryUnavailable, "another session keeps locked"),
        ("58030", RepositoryUnavailable, "cannot read or write its files"),
        ("42501", NotPermitted, "does not permit this"),
        ("XX001", CorruptDocument, "its data is damaged"),
        ("22012", RepositoryError, "refuses this"),
    ],
)
async def test_what_the_server_says_in_our_words(
    url: str, code: str, kind: type[BCSError], words: str
) -> None:
    # One error each is raised by the server itself; a full disk needs one of its own.
    async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
        await run_script(url, REFUSE.format(times=1, code=code, moment="DEFERRED"))
        with pytest.raises(kind, match=words) as told:
            await repository.record(results(1))
        assert type(told.value) is kind
        assert code in str(told.value)
        assert "CANARY" not in f"{told.value!r} {told.value.__cause__!r}"
        assert all((await repository.record(results(1))).news), "nothing was acknowledged"


async def test_an_operation_that_takes_too_long_is_ended_by_the_server(url: str) -> None:
    slow = await PostgresBatchStateRepository.open(url, answer_seconds=0.3)
    async with aclosing(slow):
        await run_script(url, REFUSE.format(times=0, code="40001", moment="IMMEDIATE"))
        await run_in(
            url,
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$",
        )
        with pytest.raises(RepositoryUnavailable):
            await slow.record([RegistrationFact("b1", 1, (), START)])
        await eventually(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'", [])


async def test_cancelled_recording_leaves_all_or_nothing(
    url: str, repository: PostgresBatchStateRepository
) -> None:
    chances = random.Random(7)
    for number in range(20):
        recording = asyncio.ensure_future(repository.record(results(number)))
        await asyncio.sleep(chances.uniform(0, 0.01))
        recording.cancel()
        await asyncio.wait([recording])
        record = (await repository.summaries() or [None])[0]
        counts = record.counts.get(f"step{number}", [0, 0]) if record else [0, 0]
        assert counts in ([0, 0], [20, 0])
        recorded = await repository.record(results(number))
        assert all(recorded.news) == (counts == [0, 0])
        assert (await repository.batch_record("b1")).counts[f"step{number}"] == [20, 0]

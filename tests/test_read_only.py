"""Accounts that may only read are enough to watch: everything is seen, nothing is written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis.asyncio as redis_client
from redis_servers import (
    NOSCRIPT_RULES,
    TTL_SECONDS,
    empty,
    private_redis,
    rules_of,
    shared_redis,
    url_for,
)
from servers import administer, new_database, postgres_server, run_in, run_script
from stills import until

from engine.backends.archived import RedisCachedBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.redis import RedisBatchStateRepository
from engine.backends.redis_account import could_write
from engine.engine import Engine
from engine.errors import NotPermitted, RepositoryUnavailable
from engine.models import COMPLETED, FAILED, BatchFact, Fact, PhaseFact, RegistrationFact, StepFact
from engine.repository import BatchStateRepository, DeadLetter
from engine.servers import PrivateRedis
from engine.view import Mode

NOW = datetime.now(UTC)
LETTER = DeadLetter(NOW, "f", "1", "json", "", "", b"", "aa", 0)
FACTS: list[Fact] = [
    RegistrationFact("b1", 3, ("e1", "e2"), NOW, "owner"),
    StepFact("b1", "e1", "nlp", COMPLETED, NOW, "x", 1),
    StepFact("", "e1", "later", COMPLETED, NOW, "x", 1),
    PhaseFact("b1", "spellcheck", "completed_successfully", "r", NOW),
    BatchFact("b1", "provisioned", "upload", "r", NOW),
]
ROLES = ("bcs_ingester", "bcs_observer")


def grants() -> str:
    """The statements of the README."""
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    [text] = re.findall(r"```sql\n(.*?)```", readme, re.DOTALL)
    return str(text)


@pytest.fixture
async def database() -> AsyncIterator[str]:
    """A database with the accounts of the README."""
    server, url = postgres_server(), await new_database()
    name = urlsplit(url).path[1:]
    text = grants().replace("huleedu_batch_conductor", name).replace("<secret>", server.password)
    await run_script(url, text)
    await administer("ALTER ROLE bcs_observer SET log_statement = 'all'")
    yield url
    await run_script(url, "".join(f"DROP OWNED BY {role};" for role in ROLES))
    await administer(*(f"DROP ROLE {role}" for role in ROLES))


@pytest.fixture
def server() -> PrivateRedis:
    empty(shared_redis())
    return shared_redis()


def as_role(url: str, role: str) -> str:
    return url.replace("//bcs:", f"//{role}:")


async def both(
    server: PrivateRedis, database: str, role: str, *, read_only: bool = False
) -> RedisCachedBatchStateRepository:
    return await RedisCachedBatchStateRepository.open(
        url_for(server, role, rules_of(role)),
        as_role(database, role),
        ttl_seconds=TTL_SECONDS,
        read_only=read_only,
    )


class Monitor:
    """Every command that a server executes, with the address it came from."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def follow(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if found := re.match(rb'\+[\d.]+ \[\d+ ([^\]]+)\] "([^"]+)"', line):
                self.seen.append((found[1].decode(), found[2].decode().upper()))


@asynccontextmanager
async def monitored(server: PrivateRedis) -> AsyncIterator[Monitor]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"AUTH {server.password}\r\nMONITOR\r\n".encode())
    monitor = Monitor()
    assert [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+OK\r\n"]
    task = asyncio.create_task(monitor.follow(reader))
    try:
        yield monitor
    finally:
        task.cancel()
        writer.close()
        await writer.wait_closed()


async def addresses(admin: redis_client.Redis, user: str) -> set[str]:
    return {client["addr"] for client in await admin.client_list() if client["user"] == user}


async def see_everything(engine: Engine, ingester: BatchStateRepository) -> None:
    """Have an observing engine find what is there, and what is written meanwhile."""
    running = asyncio.create_task(engine.run())
    await until(lambda: engine.health.mode is Mode.LIVE and "b1" in engine.view.batches)
    await engine.open("b1")
    grid = engine.view.grid
    assert grid is not None
    assert grid.essay_ids == ["e1", "e2"]
    await ingester.record([StepFact("b1", "e3", "nlp", FAILED, NOW, "y", 1)])
    await ingester.record([StepFact("b2", "e1", "nlp", COMPLETED, NOW, "y", 1)])
    await until(lambda: "b2" in engine.view.batches)
    await until(lambda: engine.view.grid and len(engine.view.grid.essay_ids) == 3)
    steps = {step.step: step for step in engine.view.batches["b1"].summary.steps}
    assert (steps["nlp"].completed, steps["nlp"].failed) == (1, 1)
    assert (await engine.audit("b1")).disagreements == []
    essay = await engine.essay("b1", "e1")
    assert essay is not None
    assert set(essay.steps) == {"nlp", "later"}
    assert await engine.repository.uploads("b1") == [("provisioned", "upload")]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_observer_of_both_sees_everything_and_writes_nothing(
    server: PrivateRedis, database: str
) -> None:
    log = postgres_server().directory / "log"
    async with (
        aclosing(await both(server, database, "bcs_ingester")) as ingester,
        redis_client.Redis.from_url(server.url, driver_info=None) as admin,
        monitored(server) as monitor,
    ):
        await ingester.record(FACTS)
        await ingester.record_dead_letters([LETTER])
        assert not ingester.is_provisional
        started = log.stat().st_size
        async with aclosing(await both(server, database, "bcs_observer", read_only=True)) as ours:
            await see_everything(Engine(ours, observing=True), ingester)
            with pytest.raises(NotPermitted, match="grant it to the account"):
                await ours.dead_letters()
            with pytest.raises(NotPermitted, match="grant it to the account"):
                await ours.count_dead_letters()
            assert (ours.notices, ours.hints) == ([], [])
            assert not ours.is_provisional
            theirs = await addresses(admin, "bcs_ingester")
            observers = await addresses(admin, "bcs_observer")
        commands = await admin.command()

    writes = {name.upper() for name, about in commands.items() if "write" in about["flags"]}
    writers = {address for address, name in monitor.seen if name in writes | {"PUBLISH"}}
    assert observers & {address for address, name in monitor.seen if name == "HGETALL"}
    assert writers
    assert writers <= theirs | {"lua"}

    text = log.read_bytes()[started:].decode()
    statements = re.findall(r"LOG:  (?:statement|execute [^:]*): \(?(\w+)", text)
    assert statements.count("SELECT") > 10
    assert set(statements) <= {"SELECT", "BEGIN", "COMMIT"}


async def test_each_alone_can_be_watched(server: PrivateRedis, database: str) -> None:
    redis_url = url_for(server, "bcs_ingester", rules_of("bcs_ingester"))
    watched_url = url_for(server, "bcs_observer", rules_of("bcs_observer"))
    async with (
        aclosing(
            await RedisBatchStateRepository.open(redis_url, ttl_seconds=TTL_SECONDS)
        ) as ingester,
        aclosing(
            await RedisBatchStateRepository.open(
                watched_url, ttl_seconds=TTL_SECONDS, read_only=True
            )
        ) as ours,
    ):
        await ingester.record(FACTS)
        await see_everything(Engine(ours, observing=True), ingester)
        assert ours.hints == []


async def test_the_database_refuses_every_write_of_an_observer(database: str) -> None:
    url = as_role(database, "bcs_observer")
    tables = await run_in(
        database,
        "SELECT schemaname || '.' || tablename FROM pg_tables"
        " WHERE schemaname = 'bcs' OR tablename = 'phase_completions'",
    )
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("UPDATE bcs.ledger SET version = version")
        await connection.execute("SET default_transaction_read_only = off")  # anybody may
        for (table,) in tables:
            for statement in (f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        for statement in (
            "UPDATE bcs.ledger SET version = version",
            "TRUNCATE bcs.batches",
            "CREATE TABLE bcs.more (a int)",
            "SELECT nextval('public.phase_completions_id_seq')",
            "SELECT * FROM bcs.dead_letters",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        ("~* &* +@all", ["the Redis account could write"]),
        (rules_of("bcs_ingester"), ["the Redis account could write"]),
        (NOSCRIPT_RULES, ["the Redis account could write"]),
        ("~bcs:* &* -@all +hdel +info +ping +hello", ["the Redis account could write"]),
        ("%R~bcs:* ~other:* &* +@all", []),
        (rules_of("bcs_observer"), []),
    ],
)
async def test_a_redis_account_that_could_write_is_told_without_writing(
    server: PrivateRedis, rights: str, said: list[str]
) -> None:
    url = url_for(server, "somebody", rights)
    async with (
        redis_client.Redis.from_url(server.url, driver_info=None) as admin,
        monitored(server) as monitor,
    ):
        async with aclosing(
            await RedisBatchStateRepository.open(url, ttl_seconds=TTL_SECONDS, read_only=True)
        ) as ours:
            assert ours.hints == said
            assert not any("account" in notice for notice in ours.notices)
        await admin.ping()
        await until(lambda: any(name == "PING" for _, name in monitor.seen))
        assert not {"SET", "DEL"} & {name for _, name in monitor.seen}
        assert await admin.keys() == []


async def test_whether_an_account_could_write_may_stay_unknown() -> None:
    with private_redis({f"rename-command {name}": '""' for name in ("SET", "DEL")}) as server:
        url = url_for(server, "somebody", "~* &* +@read +@connection +@transaction +info")
        assert await could_write(url, 3.0) is None


async def test_a_database_account_that_could_write_is_told(database: str) -> None:
    for role, said in (
        ("bcs_ingester", ["the PostgreSQL account could write"]),
        ("bcs_observer", []),
    ):
        url = as_role(database, role)
        async with aclosing(await PostgresBatchStateRepository.open(url, read_only=True)) as ours:
            assert ours.hints == said
    await run_script(database, "GRANT DELETE ON public.phase_completions TO bcs_observer")
    url = as_role(database, "bcs_observer")
    async with aclosing(await PostgresBatchStateRepository.open(url, read_only=True)) as ours:
        assert ours.hints == ["the PostgreSQL account could write"]


async def test_an_observer_of_both_is_told_of_both(server: PrivateRedis, database: str) -> None:
    async with aclosing(await both(server, database, "bcs_ingester", read_only=True)) as ours:
        assert ours.hints == ["the Redis account could write", "the PostgreSQL account could write"]
        assert Engine(ours, observing=True).health.hints == tuple(ours.hints)
    async with aclosing(await both(server, database, "bcs_ingester")) as ingester:
        assert ingester.hints == []


async def test_an_observer_that_is_told_to_record_refuses(
    server: PrivateRedis, database: str
) -> None:
    reader = await RedisCachedBatchStateRepository.open(
        server.url, database, ttl_seconds=TTL_SECONDS, read_only=True
    )
    for attempt in (reader.record(FACTS), reader.record_dead_letters([LETTER])):
        with pytest.raises(RepositoryUnavailable, match="reading only"):
            await attempt
    async with redis_client.Redis.from_url(server.url, driver_info=None) as admin:
        assert await admin.keys() == []
    await reader.aclose()

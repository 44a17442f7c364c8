"""A deployment of the tests' own: Redis, PostgreSQL behind it, and processes that ingest."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Self, TypeAlias

import psutil
import redis
from envelopes import registered, spellchecked
from redis_servers import TTL_SECONDS, private_redis
from servers import run_in

import engine as engine_package
from engine.backends.archived import ARCHIVE_SECONDS, RedisCachedBatchStateRepository
from engine.backends.mock import MockBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.postgres_schema import migrate
from engine.backends.redis import RedisBatchStateRepository
from engine.engine import Engine
from engine.errors import RepositoryUnavailable
from engine.feeds.port import Feed
from engine.models import BatchRecord, EssayState
from engine.repository import BatchStateRepository
from engine.servers import PrivatePostgres, PrivateRedis

STREAM = "events"
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
HEAL_SECONDS = 30.0

Everything: TypeAlias = list[tuple[BatchRecord, list[EssayState]]]

_databases = count(1)


@cache
def killable_postgres() -> PrivatePostgres:
    """A server that no other tests use; it is running between the tests."""
    server = PrivatePostgres({"fsync": "off", "full_page_writes": "off"})
    atexit.register(server.close)
    return server.start()


def events(batches: int, essays: int) -> list[bytes]:
    """A registration of each batch, then a result of each essay, the batches side by side."""
    names = [f"b{number:03}" for number in range(batches)]
    ids = [f"e{number:03}" for number in range(essays)]
    return [registered(name, ids, essays) for name in names] + [
        spellchecked(name, one, seconds=number) for number, one in enumerate(ids) for name in names
    ]


async def known(repository: BatchStateRepository) -> Everything:
    """Everything there is to know, in order."""
    records = await repository.summaries()
    return [(record, await repository.essays(record.batch_id)) for record in records]


async def truth(raws: Sequence[bytes]) -> Everything:
    repository = MockBatchStateRepository()
    engine = Engine(repository)
    for raw in raws:
        await engine.submit(raw)
    return await known(repository)


class Deployment:
    """Both servers, one database, and whoever uses them; a context that ends all."""

    def __init__(self, postgres: PrivatePostgres, live: PrivateRedis) -> None:
        self.postgres, self.live = postgres, live
        self.database = ""
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._said = live.directory / "workers"

    async def __aenter__(self) -> Self:
        if not self.postgres.is_running:
            self.postgres.start()  # a test that failed has left it so
        name = f"deployment{next(_databases)}"
        await run_in(self.postgres.url, f"CREATE DATABASE {name}")
        self.database = self.postgres.url_of(name)
        await migrate(self.database)
        self.live.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        self.live.close()

    async def open(
        self,
        *,
        read_only: bool = False,
        archive_may_be_away: bool = False,
        archive_seconds: float = ARCHIVE_SECONDS,
    ) -> RedisCachedBatchStateRepository:
        return await RedisCachedBatchStateRepository.open(
            self.live.url,
            self.database,
            ttl_seconds=TTL_SECONDS,
            read_only=read_only,
            archive_may_be_away=archive_may_be_away,
            archive_seconds=archive_seconds,
        )

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.live.url)

    def add(self, raws: Sequence[bytes]) -> None:
        """Put events into the stream."""
        with self.client() as client, client.pipeline(transaction=False) as pipeline:
            for raw in raws:
                pipeline.xadd(STREAM, {"data": raw})
            pipeline.execute()

    def pending(self) -> int:
        """How many entries of the stream were read and not acknowledged."""
        with self.client() as client:
            groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
        return groups[0]["pending"] if groups else 0

    def unread(self) -> int:
        with self.client() as client:
            groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
        return (groups[0]["lag"] or 0) if groups else 0

    def ingest(self, source: str = f"redis-stream:{STREAM}", name: str = "") -> None:
        """Start a process of the command line."""
        root = Path(engine_package.__file__).parents[1]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("BCS_")
        } | {
            "PYTHONPATH": str(root),
            "BCS_ENVIRONMENT": "development",
            "BCS_TUI_CONFIG": os.devnull,
            "BCS_REDIS_URL": self.live.url,
            "BCS_DATABASE_URL": self.database,
        }
        words = ["ingest", source, "--follow", *(["--consumer", name] if name else [])]
        with self._said.open("ab") as said:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-m", "bcs_tui", *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def kill_worker(self, name: str = "") -> None:
        worker = self.workers.pop(name)
        assert worker.poll() is None, f"it has ended by itself: {self._said.read_text()}"
        worker.kill()
        worker.wait()

    def kill_postgres(self) -> None:
        self.tell_postgres(signal.SIGKILL)
        self.postgres.kill()

    def tell_postgres(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server."""
        parent = psutil.Process(self.postgres.pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    async def counted_live(self) -> int:
        """How many results Redis counts."""
        async with aclosing(await self.open_live()) as live:
            return sum(sum(pair) for one in await live.summaries() for pair in one.counts.values())

    async def open_live(self) -> RedisBatchStateRepository:
        return await RedisBatchStateRepository.open(
            self.live.url, ttl_seconds=TTL_SECONDS, read_only=True, alone=False
        )

    async def agree(self, raws: Sequence[bytes], seconds: float = HEAL_SECONDS) -> None:
        """Wait until all have all of the events, and each once; the errors before do not count."""
        expected = await truth(raws)
        found: list[Everything] = []
        try:
            async with asyncio.timeout(seconds):
                while found != [expected, expected, expected] or self.pending():
                    await asyncio.sleep(0.1)
                    found = [await self._known(part) for part in ("archive", "live", "both")]
        except TimeoutError:
            assert found == [expected, expected, expected]
            assert self.pending() == 0
            raise
        counted = "SELECT sum(completed + failed)::int, (SELECT count(*)::int FROM bcs.essay_steps)"
        [row] = await run_in(self.database, f"{counted} FROM bcs.counters")
        results = sum(len(essay.steps) for _, essays in expected for essay in essays)
        assert tuple(row) == (results, results)

    async def _known(self, part: str) -> Everything:
        try:
            opened: BatchStateRepository
            if part == "archive":
                opened = await PostgresBatchStateRepository.open(self.database, read_only=True)
            elif part == "live":
                opened = await self.open_live()
            else:
                opened = await self.open(read_only=True)
            async with aclosing(opened):
                return [] if opened.is_provisional else await known(opened)
        except RepositoryUnavailable:
            return []


@asynccontextmanager
async def deployed(
    options: dict[str, str] | None = None, postgres: PrivatePostgres | None = None
) -> AsyncIterator[Deployment]:
    """Start a Redis with a database of its own behind it, in a server that may be killed."""
    server = postgres or killable_postgres()
    async with Deployment(server, private_redis(options or DURABLE)) as deployment:
        yield deployment


@asynccontextmanager
async def running(repository: BatchStateRepository, feed: Feed) -> AsyncIterator[Engine]:
    """An engine at work, as in `ingest --follow`; it must not have ended by itself."""
    async with aclosing(repository), aclosing(feed):
        engine = Engine(repository, feed, headless=True)
        task = asyncio.create_task(engine.run())
        yield engine
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Onlooker:
    """Looks all the time: what it was shown as true once must never become less."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._most: dict[str, tuple[int, int]] = {}
        self.looks = 0
        self.marked = 0

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Self]:
        """Look with a reader that stays, and with readers that come for one look."""
        task = asyncio.create_task(self._look_on())
        yield self
        await asyncio.sleep(0)
        if task.done():
            await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert self.looks > 2

    async def _look_on(self) -> None:
        async with aclosing(await self._deployment.open(read_only=True)) as staying:
            while True:
                await self._look(staying, None)
                await self._look(staying, list(self._most))
                try:
                    async with aclosing(await self._deployment.open(read_only=True)) as fresh:
                        await self._look(fresh, list(self._most))
                        await self._look(fresh, None)
                except RepositoryUnavailable:
                    pass  # both must be there when a command starts
                await asyncio.sleep(0.02)

    async def _look(self, reader: RedisCachedBatchStateRepository, names: list[str] | None) -> None:
        try:
            records = await reader.summaries(names)
        except RepositoryUnavailable:
            return
        self.looks += 1
        if reader.is_provisional:
            self.marked += 1
            return
        missing = self._most.keys() - {record.batch_id for record in records}
        assert not missing, f"{sorted(missing)} have vanished"
        for record in records:
            if record.doubt:
                self.marked += 1
                continue
            now = figures(record)
            before = self._most.get(record.batch_id, (0, 0))
            assert now >= before, f"{record.batch_id}: {before} became {now}, {reader.notices}"
            assert now[0] >= before[0]
            assert now[1] >= before[1]
            self._most[record.batch_id] = now


def figures(record: BatchRecord) -> tuple[int, int]:
    return record.total, sum(pair[0] for pair in record.counts.values())


async def patiently(holds: Callable[[], Awaitable[bool]], seconds: float = HEAL_SECONDS) -> None:
    """Wait until something holds that takes a question to be known."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 # what is asked tells nobody
            await asyncio.sleep(0.05)

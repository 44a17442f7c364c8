"""The repository in one SQLite file: durable, exact, for one machine.

All work on the database happens in functions that the connection's thread runs from begin to
commit without a pause: a task that is cancelled while it waits leaves no half a transaction,
and nobody else's commit can publish one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite

from engine.backends.sqlite_chunk import record_chunk
from engine.backends.sqlite_file import explained, open_database, transaction
from engine.backends.sqlite_known import Known
from engine.backends.sqlite_reads import (
    read_batch,
    read_essays,
    read_letters,
    read_records,
    write_letters,
)
from engine.clock import Clock
from engine.errors import NotFound
from engine.models import BatchRecord, EssayState, Fact
from engine.repository import BatchColumns, BatchStateRepository, DeadLetter, Recorded

_T = TypeVar("_T")


class _Connection(aiosqlite.Connection):
    """A connection whose thread takes whole functions, not only single statements."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # A program that forgot to close ends all the same; the file is safe at any moment.
        self._thread.daemon = True

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a function in the connection's thread."""
        execute: Callable[..., Awaitable[_T]] = self._execute
        return await execute(work, self._conn)


class SqliteBatchStateRepository(BatchStateRepository):
    """Keeps facts in a database file, with counters in the same transaction as the steps.

    Besides `RepositoryUnavailable` (locked, disk full) every method may raise
    `CorruptDocument` when the file is damaged. It is never overwritten or repaired.
    """

    name = "sqlite"

    def __init__(self, path: Path, connection: _Connection, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._path = path
        self._connection = connection
        self._known = Known()

    @classmethod
    async def open(
        cls,
        path: str | Path,
        clock: Clock | None = None,
        *,
        read_only: bool = False,
        busy_timeout_seconds: float = 5.0,
    ) -> Self:
        """Open the database at a path; create it if there is nothing and writing is allowed.

        Args:
            path: The database file.
            clock: Stamps what the seed's methods record.
            read_only: Never create or write the file.
            busy_timeout_seconds: How long to wait for another process that writes.

        Raises:
            SettingsError: The path is not, and cannot become, a database of this version.
            CorruptDocument: The database is damaged.
            RepositoryUnavailable: It is locked, not permitted, or the disk is full.
        """
        path = Path(path)
        connector = partial(
            open_database, path, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds
        )
        connection = _Connection(connector)
        await connection
        return cls(path, connection, clock)

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing, idempotent, in any order.

        On return the facts are on the disk.
        """

        def work(connection: sqlite3.Connection) -> Recorded:
            try:
                with transaction(connection, "IMMEDIATE"):
                    return record_chunk(connection, self._known, facts)
            except BaseException:
                self._known.forget()
                raise

        return await self._run(work)

    async def load_batch(self, batch_id: str) -> BatchColumns:
        """Return a batch with the outcomes of all of its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        columns = await self._read(read_batch, batch_id)
        if columns is None:
            raise NotFound(f"no batch {batch_id!r} in {self.name}; `bcs-tui ls` lists them")
        return columns

    async def summaries(
        self, batch_ids: Sequence[str] | None = None, *, after: str = "", limit: int = 1000
    ) -> list[BatchRecord]:
        """Return batches in the order of their ids, at a cost independent of their essays."""
        return await self._read(read_records, batch_ids, after, limit)

    async def essays(
        self,
        batch_id: str,
        essay_ids: Sequence[str] | None = None,
        *,
        after: str = "",
        limit: int = 1000,
    ) -> list[EssayState]:
        """Return essays of a batch in the order of their ids; none for an unknown batch."""
        return await self._read(read_essays, batch_id, essay_ids, after, limit)

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection, "IMMEDIATE"):
                write_letters(connection, letters)

        await self._run(work)

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival, leaving out the first `after`."""
        return await self._read(read_letters, after, limit)

    async def aclose(self) -> None:
        """Finish what is under way and close the file."""
        await self._connection.close()

    async def _read(self, read: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function that reads, so that it sees one moment of the database."""

        def work(connection: sqlite3.Connection) -> _T:
            with transaction(connection, "DEFERRED"):
                return read(connection, *arguments)

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def explained_work(connection: sqlite3.Connection) -> _T:
            with explained(self._path):
                return work(connection)

        return await self._connection.run(explained_work)

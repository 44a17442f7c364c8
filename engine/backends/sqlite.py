"""The repository in one SQLite file: durable, exact, for one machine.

All work on the database happens in functions that the connection's thread runs from begin to
commit without a pause: a task that is cancelled while it waits leaves no half a transaction,
and nobody else's commit can publish one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiosqlite

from engine.backends.sqlite_chunk import record_chunk
from engine.backends.sqlite_errors import explained
from engine.backends.sqlite_file import (
    Moment,
    check_reading,
    moment,
    open_database,
    read_database,
    transaction,
)
from engine.backends.sqlite_known import Known
from engine.backends.sqlite_reads import (
    count_letters,
    read_batch,
    read_essays,
    read_letters,
    read_records,
    read_uploads,
    write_letters,
)
from engine.clock import Clock
from engine.errors import NotFound, RepositoryUnavailable, SettingsError
from engine.models import BatchRecord, EssayState, Fact
from engine.repository import (
    HEARTBEAT_SECONDS,
    BatchColumns,
    BatchStateRepository,
    DeadLetter,
    Recorded,
)

_T = TypeVar("_T")

POLL_SECONDS: Final = 0.2
"""How often a watched file is looked at."""


class _Writer(aiosqlite.Connection):
    """The writing connection; its thread takes whole functions, not only single statements."""

    def __init__(self, path: Path, busy_timeout_seconds: float) -> None:
        super().__init__(partial(open_database, path, busy_timeout_seconds), iter_chunk_size=64)
        self._path = path
        # A program that forgot to close ends all the same; the file is safe at any moment.
        self._thread.daemon = True

    @classmethod
    async def open(cls, path: Path, busy_timeout_seconds: float) -> Self:
        """Start the thread and open the file in it."""
        writer = cls(path, busy_timeout_seconds)
        try:
            await writer
        except BaseException:
            # The thread is about to end, and must not outlive the loop that it answers to.
            await asyncio.to_thread(writer._thread.join)
            raise
        return writer

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a function in the connection's thread."""

        def explained_work(connection: sqlite3.Connection) -> _T:
            with explained(self._path):
                return work(connection)

        execute: Callable[..., Awaitable[_T]] = self._execute
        return await execute(explained_work, self._conn)


class _Reader:
    """Opens the file anew for each function, so that a reader leaves no trace."""

    def __init__(self, path: Path, busy_timeout_seconds: float) -> None:
        self._path = path
        self._busy_timeout_seconds = busy_timeout_seconds

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a function in a thread."""
        return await asyncio.to_thread(read_database, self._path, self._busy_timeout_seconds, work)

    async def close(self) -> None:
        """Nothing is open."""


class SqliteBatchStateRepository(BatchStateRepository):
    """Keeps facts in a database file, with counters in the same transaction as the steps.

    Besides `RepositoryUnavailable` (locked, disk full) every method may raise
    `CorruptDocument` when the file is damaged. It is never overwritten or repaired.
    """

    name = "sqlite"

    def __init__(
        self, path: Path, connection: _Writer | _Reader, clock: Clock | None = None
    ) -> None:
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
            read_only: Never create or write anything; recording is `RepositoryUnavailable`.
            busy_timeout_seconds: How long to wait for another process that writes.

        Raises:
            SettingsError: The path is not, and cannot become, a database of this version.
            CorruptDocument: The database is damaged.
            RepositoryUnavailable: It is locked, not permitted, or the disk is full.
        """
        path = Path(path)
        if read_only:
            reader = _Reader(path, busy_timeout_seconds)
            await reader.run(partial(check_reading, path=path))
            return cls(path, reader, clock)
        return cls(path, await _Writer.open(path, busy_timeout_seconds), clock)

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing, idempotent, in any order.

        On return the facts are on the disk.
        """
        return await self._write(partial(record_chunk, known=self._known, facts=facts))

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

    async def uploads(self, batch_id: str) -> list[tuple[str, str]]:
        """Return the uploads that a batch has counted, in order."""
        return await self._read(read_uploads, batch_id)

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""
        await self._write(partial(write_letters, letters=letters))

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival, leaving out the first `after`."""
        return await self._read(read_letters, after, limit)

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are kept, without reading them."""
        return await self._read(count_letters)

    async def changes(self) -> AsyncGenerator[Collection[str] | None, None]:
        """Yield `None` after anybody wrote to the file, nothing to say while nobody does.

        Looking at the file's times costs no more than a system call or two.
        """
        seen = self._moment()
        told = self.clock.monotonic()
        yield ()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            before, seen = seen, self._moment()
            if seen != before:
                yield None
            elif self.clock.monotonic() - told >= HEARTBEAT_SECONDS:
                yield ()
            else:
                continue
            told = self.clock.monotonic()

    def _moment(self) -> Moment:
        with explained(self._path):
            return moment(self._path)

    async def aclose(self) -> None:
        """Finish what is under way and close the file."""
        await self._connection.close()

    async def _read(self, read: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function that reads, so that it sees one moment of the database.

        Raises:
            RepositoryUnavailable: The file has gone since it was opened, or is no database now.
        """

        def work(connection: sqlite3.Connection) -> _T:
            with transaction(connection, "DEFERRED"):
                return read(connection, *arguments)

        try:
            return await self._connection.run(work)
        except SettingsError as error:  # a wrong setting would have been refused when it was opened
            raise RepositoryUnavailable(str(error)) from error

    async def _write(self, write: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a function that writes; on return all of it is on the disk."""
        if isinstance(self._connection, _Reader):
            raise RepositoryUnavailable(f"database {str(self._path)!r} is open for reading only")

        def work(connection: sqlite3.Connection) -> _T:
            try:
                with transaction(connection, "IMMEDIATE"):
                    return write(connection)
            except BaseException:
                # What is known may be ahead of the database now.
                self._known.forget()
                raise

        return await self._connection.run(work)

"""The repository in PostgreSQL: the permanent record of a deployment, for several writers.

Writers come one after the other: the first statement of each takes the one row of the ledger,
whose version also tells whether what the writer knows is still true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Self, TypeVar

from engine.backends.postgres_chunk import record_chunk
from engine.backends.postgres_known import Known
from engine.backends.postgres_phases import read_outcomes_of_others
from engine.backends.postgres_reads import (
    count_letters,
    read_batch,
    read_essays,
    read_letters,
    read_records,
    read_uploads,
    write_letters,
)
from engine.backends.postgres_schema import check_schema
from engine.backends.postgres_session import (
    ALONE,
    ANSWER_SECONDS,
    READING,
    WRITING,
    Connection,
    Sessions,
)
from engine.backends.postgres_versions import read_changed
from engine.clock import Clock
from engine.errors import NotFound, RepositoryUnavailable
from engine.models import BatchRecord, EssayState, Fact, PhaseFact
from engine.repository import Archive, BatchColumns, DeadLetter, Recorded, rights_hints

_T = TypeVar("_T")

_MAY_WRITE = """
SELECT bool_or(has_table_privilege(tables.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
FROM pg_class AS tables
WHERE tables.relkind = 'r'
    AND (tables.relnamespace = 'bcs'::regnamespace
        OR tables.oid = to_regclass('public.phase_completions'))
"""

_NEXT_VERSION = "UPDATE bcs.ledger SET version = version + 1 RETURNING version"


class PostgresBatchStateRepository(Archive):
    """Keeps facts in PostgreSQL, with counters in the same transaction as the steps.

    Besides `RepositoryUnavailable` (away, full, read-only, too slow) every method may raise
    `RepositoryConflict` when other sessions keep winning, and `SettingsError` when the schema
    has become another.
    """

    name = "postgres"

    def __init__(self, sessions: Sessions, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._sessions = sessions
        self._known = Known()
        self._one_writer = asyncio.Lock()
        self._hints: list[str] = []

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock | None = None,
        *,
        read_only: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Self:
        """Open the database of a URL, which `migrate` has prepared.

        Args:
            url: `postgresql://` or `postgresql+asyncpg://`.
            clock: Stamps what the seed's methods record.
            read_only: The server refuses every write; recording is `RepositoryUnavailable`.
            answer_seconds: The bound of every operation.

        Raises:
            SettingsError: The schema is missing, older or newer; or there is no such database.
            RepositoryUnavailable: The server cannot be reached, or refuses the account.
        """
        repository = cls.at(url, clock, read_only=read_only, answer_seconds=answer_seconds)
        await repository.greet()
        return repository

    @classmethod
    def at(
        cls,
        url: str,
        clock: Clock | None = None,
        *,
        read_only: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Self:
        """Return the same without asking whether it is there: it connects when it is used."""
        sessions = Sessions(
            url, read_only=read_only, answer_seconds=answer_seconds, check=check_schema
        )
        return cls(sessions, clock)

    async def greet(self) -> None:
        """Connect, and find out what the account may do.

        Raises:
            SettingsError: The schema is missing, older or newer; or there is no such database.
            RepositoryUnavailable: The server cannot be reached, or refuses the account.
        """
        could_write = await self._sessions.run(READING, _could_write)
        if self._sessions.read_only:
            self._hints = rights_hints("PostgreSQL", could_write)

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing, idempotent, in any order.

        On return the facts are committed.
        """
        async with self._one_writer:
            # Only what a commit has confirmed is known for the next chunk.
            recorded, self._known = await self._write(partial(self._record, facts))
            return recorded

    async def _record(
        self, facts: Sequence[Fact], connection: Connection
    ) -> tuple[Recorded, Known]:
        """Merge a chunk inside an open transaction."""
        known, self._known = self._known, Known()
        version = await connection.fetchval(_NEXT_VERSION)
        known.refresh(version)
        return await record_chunk(connection, known, version, facts), known

    async def changed_since(
        self, version: int, *, within_seconds: float, limit: int = 500
    ) -> list[tuple[str, int]]:
        """Return batches that changed after a version, with their newest, in its order."""
        read = partial(read_changed, version=version, within_seconds=within_seconds, limit=limit)
        return await self._sessions.run(READING, read)

    async def outcomes_of_others(self, batch_ids: Sequence[str]) -> list[PhaseFact]:
        """Return what only other services noted here about phases; no version tells of it."""
        read = partial(read_outcomes_of_others, batch_ids=batch_ids)
        return await self._sessions.run(ALONE, read)

    async def load_batch(self, batch_id: str) -> BatchColumns:
        """Return a batch with the outcomes of all of its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        columns = await self._sessions.run(READING, partial(read_batch, batch_id=batch_id))
        if columns is None:
            raise NotFound(f"no batch {batch_id!r} in {self.name}; `bcs-tui ls` lists them")
        return columns

    async def summaries(
        self, batch_ids: Sequence[str] | None = None, *, after: str = "", limit: int = 1000
    ) -> list[BatchRecord]:
        """Return batches in the order of their ids, at a cost independent of their essays."""
        read = partial(read_records, batch_ids=batch_ids, after=after, limit=limit)
        return await self._sessions.run(READING, read)

    async def essays(
        self,
        batch_id: str,
        essay_ids: Sequence[str] | None = None,
        *,
        after: str = "",
        limit: int = 1000,
    ) -> list[EssayState]:
        """Return essays of a batch in the order of their ids; none for an unknown batch."""
        read = partial(
            read_essays, batch_id=batch_id, essay_ids=essay_ids, after=after, limit=limit
        )
        return await self._sessions.run(READING, read)

    async def uploads(self, batch_id: str) -> list[tuple[str, str]]:
        """Return the uploads that a batch has counted, in order."""
        return await self._sessions.run(READING, partial(read_uploads, batch_id=batch_id))

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""
        await self._write(partial(write_letters, letters=letters))

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival, leaving out the first `after`."""
        return await self._sessions.run(READING, partial(read_letters, after=after, limit=limit))

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are kept, without reading them."""
        return await self._sessions.run(READING, count_letters)

    @property
    def hints(self) -> list[str]:
        """Whether an account that is to read could also write."""
        return list(self._hints)

    async def aclose(self) -> None:
        """Close the connections; bounded, whether the server answers or not."""
        await self._sessions.aclose()

    async def _write(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        if self._sessions.read_only:
            raise RepositoryUnavailable(f"{self._sessions.place} is open for reading only")
        return await self._sessions.run(WRITING, work)


async def _could_write(connection: Connection) -> bool:
    """Tell whether the account has more rights than reading takes."""
    return bool(await connection.fetchval(_MAY_WRITE))

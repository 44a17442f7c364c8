"""The repository in Redis: shared with the services that use the same keys, live, expiring.

Documents of essays are those of the services. Beside them stand our copies: a service that
reads, waits and writes can overwrite what we wrote, and then the copy still has it. Counters
count the copies, and the published summary proves whether documents and copies agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import Self

from engine.auditing import Claim, claims_of
from engine.backends.redis_account import could_write
from engine.backends.redis_audit import claims_of_documents, read_stored_summary
from engine.backends.redis_counts import Counts, count_rows
from engine.backends.redis_doubts import STEPS_AT_ONCE, Doubts
from engine.backends.redis_letters import count_letters, read_letters, write_letters
from engine.backends.redis_notices import Notices, listen
from engine.backends.redis_promises import warnings_of
from engine.backends.redis_reads import (
    essay_ids_of,
    page_of_batches,
    read_records,
    read_rows,
    read_uploads,
)
from engine.backends.redis_store import Store
from engine.backends.redis_survey import Survey
from engine.backends.redis_sweep import Sweeper
from engine.backends.redis_writer import Writer
from engine.clock import Clock
from engine.errors import RepositoryUnavailable
from engine.models import BatchRecord, EssayState, Fact, is_aggregate
from engine.redis_access import ANSWER_SECONDS, explained, open_redis
from engine.repository import BatchColumns, Cache, DeadLetter, Recorded, rights_hints


class RedisBatchStateRepository(Cache):
    """Keeps facts in Redis or Valkey, on one server or on a cluster.

    Besides `RepositoryUnavailable` every method may raise `CorruptDocument` when a key of
    ours holds another type, and `record` raises `RepositoryConflict` when other writers kept
    winning.
    """

    name = "redis"
    chunks_at_once = 2

    def __init__(self, store: Store, clock: Clock | None = None, *, read_only: bool) -> None:
        super().__init__(clock)
        self._store = store
        self._read_only = read_only
        self._survey = Survey(store)
        self._counts = Counts(self.clock.monotonic)
        self._warnings: list[str] = []
        self._hints: list[str] = []
        self._notices = Notices(store)
        self._doubts = Doubts(store, Sweeper(store, self.clock.now))
        self._writer = Writer(store, self._doubts, self.clock)

    @property
    def store(self) -> Store:
        """The server, for those who keep accounts beside the batches."""
        return self._store

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock | None = None,
        *,
        ttl_seconds: int,
        read_only: bool = False,
        alone: bool = True,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Self:
        """Connect to the server of a URL, or to the cluster that it belongs to.

        Args:
            url: `redis://`, `rediss://` or `unix://`.
            clock: Stamps what the seed's methods record.
            ttl_seconds: For how long everything lives after it was last written.
            read_only: Never write anything; recording is `RepositoryUnavailable`.
            alone: Whether Redis is the only record, without an archive behind it.
            answer_seconds: The bound of every exchange with the server.

        Raises:
            RepositoryUnavailable: It does not answer, or not to us.
        """
        client = await open_redis(url, answer_seconds=answer_seconds)
        store = Store(client, url, ttl_seconds, answer_seconds)
        opened = cls(store, clock, read_only=read_only)
        try:
            with explained(url):
                opened._warnings += await warnings_of(client, alone=alone)
            if read_only:
                opened._hints = rights_hints("Redis", await could_write(url, answer_seconds))
        except BaseException:
            await client.aclose()
            raise
        return opened

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing per essay, idempotent, in any order.

        On return the facts are in Redis, as durable as that is.
        """
        self._check_writable()
        recorded = await self._writer.record(facts)
        await self._notices.tell(
            {change.fact.batch_id for change in recorded.changes} | set(recorded.faded)
        )
        await self._doubts.settle()
        return recorded

    def distrust(self) -> None:
        """Ask Redis again for everything: it may have lost what is known to be there."""
        self._writer.forget()
        self._survey.is_complete = False

    async def changes(self) -> AsyncGenerator[Collection[str] | None, None]:
        """Yield what others changed, by their notices; now and then everything is looked at.

        Of what is written without any notice, the batches are named in turn.
        """
        surveying = asyncio.create_task(self._survey.run())
        try:
            async with aclosing(listen(self._store.url, self.clock)) as notices:
                async for names in notices:
                    if names is not None:
                        names = [*names, *self._counts.next_turn(self._survey.essays)]
                    yield names
        finally:
            surveying.cancel()
            await asyncio.wait([surveying])

    async def load_batch(self, batch_id: str) -> BatchColumns:
        """Return a batch with the outcomes of all of its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        record = await self.batch_record(batch_id)
        rows = await read_rows(self._store, batch_id, None, self._survey.essays.get(batch_id, ()))
        rows = [row for row in rows if not is_aggregate(batch_id, row.essay_id)]
        count_rows(record, rows)
        outcomes = {step: bytearray(len(rows)) for step in record.counts}
        for position, row in enumerate(rows):
            for step, fact in row.document.steps.items():
                outcomes[step][position] = fact.outcome
        record.unreadable = tuple(row.essay_id for row in rows if row.trouble)
        return BatchColumns(record, [row.essay_id for row in rows], outcomes)

    async def summaries(
        self, batch_ids: Sequence[str] | None = None, *, after: str = "", limit: int = 1000
    ) -> list[BatchRecord]:
        """Return batches in the order of their ids, at a cost independent of their essays."""
        if batch_ids is not None:
            return await self._chosen(sorted({name for name in batch_ids if name > after}), limit)
        if self._survey.is_due and not after:  # between pages nothing new comes in
            await self._survey.look(STEPS_AT_ONCE)
        found: list[BatchRecord] = []
        while len(found) < limit:
            want = limit - len(found)
            page = await page_of_batches(self._store, after, want)
            others = [
                name for name in self._survey.essays if name > after and self._may_count(name)
            ]
            names = sorted({*page, *others})[:want]
            found += await self._records(names, anew=False)
            if len(names) < want:
                break
            after = names[-1]
        return found

    async def _chosen(self, names: Sequence[str], limit: int) -> list[BatchRecord]:
        found: list[BatchRecord] = []
        for start in range(0, len(names), 1000):
            part = names[start : start + 1000]
            records = await self._records(part, anew=True)
            unsure = len(records) < len(part) or any(record.doubt for record in records)
            if unsure and self._survey.is_due:
                await self._survey.look(STEPS_AT_ONCE)
                records = await self._records(part, anew=True)
            found += records
            if len(found) >= limit:
                break
        return found[:limit]

    def _may_count(self, batch_id: str) -> bool:
        """Whether a listing may count a batch of another service: not before its first turn."""
        return batch_id in self._counts or not self._survey.is_running

    async def _records(self, batch_ids: Sequence[str], *, anew: bool) -> list[BatchRecord]:
        """Return records; of what is proved by our counters, nothing else need be remembered."""
        counts = self._counts if self._survey.is_running else None
        essays = self._survey.essays
        records = await read_records(self._store, batch_ids, essays, counts, anew=anew)
        proved = [record.batch_id for record in records if not record.doubt]
        self._survey.forget(proved)
        self._counts.forget(proved)
        if len(records) < len(batch_ids):
            self._counts.forget(set(batch_ids) - {record.batch_id for record in records})
        return records

    async def discover(self, budget_steps: int | None = None) -> bool:
        """Look for batches and essays that only other services know.

        Args:
            budget_steps: At most so many thousand keys, and next time on from there; `None`:
                look through all, slowly.

        Returns:
            Whether all keys were looked through.
        """
        return await self._survey.look(budget_steps)

    async def essays(
        self,
        batch_id: str,
        essay_ids: Sequence[str] | None = None,
        *,
        after: str = "",
        limit: int = 1000,
    ) -> list[EssayState]:
        """Return essays of a batch in the order of their ids; none for an unknown batch."""
        names: Iterable[str]
        if essay_ids is None:
            known = await essay_ids_of(self._store, batch_id)
            names = (
                name
                for name in known.union(self._survey.essays.get(batch_id, ()))
                if not is_aggregate(batch_id, name)
            )
        else:
            names = set(essay_ids)
        wanted = sorted(name for name in names if name > after)
        found: list[EssayState] = []
        for start in range(0, len(wanted), limit or 1):
            if len(found) >= limit:
                break
            part = wanted[start : start + limit]
            rows = await read_rows(self._store, batch_id, part)
            found += [row.document.state(row.trouble) for row in rows]
        return found[:limit]

    async def said(self, batch_id: str) -> list[Claim]:
        """Return our counters where they are proved, and what the services' keys say.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        record = await self.batch_record(batch_id)
        if not record.doubt:
            counters = claims_of("counters", record.counts, record.total)
            return [*counters, *await read_stored_summary(self._store, batch_id)]
        rows = await read_rows(self._store, batch_id, None, self._survey.essays.get(batch_id, ()))
        return [
            *await read_stored_summary(self._store, batch_id),
            *claims_of_documents(batch_id, rows),
        ]

    async def uploads(self, batch_id: str) -> list[tuple[str, str]]:
        """Return the uploads that a batch has counted, in order."""
        return await read_uploads(self._store, batch_id)

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""
        self._check_writable()
        await write_letters(self._store, letters)

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival, leaving out the first `after`."""
        return await read_letters(self._store, after, limit)

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are kept, without reading them."""
        return await count_letters(self._store)

    @property
    def notices(self) -> list[str]:
        """What the server does not promise, and what is not seen yet."""
        lacking = self.lacking if self._survey.is_running else ""
        return [*self._warnings, *filter(None, [lacking])]

    @property
    def lacking(self) -> str:
        """Why batches that only another service wrote may be missing; empty where none is."""
        return self._survey.lacking

    @property
    def hints(self) -> list[str]:
        """Whether an account that is to read could also write."""
        return list(self._hints)

    async def aclose(self) -> None:
        """Stop what goes on in the background and close the connections."""
        await self._doubts.aclose()
        await self._store.client.aclose()

    def _check_writable(self) -> None:
        if self._read_only:
            raise RepositoryUnavailable(f"Redis at {self._store.place} was opened for reading only")

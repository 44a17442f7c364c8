"""Redis in front, PostgreSQL behind: what is recorded stands in both, and one may be away.

The archive is the permanent record, and facts are merged there first: what they have moved is
told to Redis, which merges it with what others have written there. While the archive is away,
facts go on into Redis and wait there to be archived. While Redis is away, or after it lost
something, it is mended from the archive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, Self

import msgspec

from engine.auditing import ESSAYS, Evidence
from engine.backends.archived_mending import PAGE, Mender, Part
from engine.backends.archived_watch import Watch
from engine.backends.mock import MockBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.redis import RedisBatchStateRepository
from engine.backends.redis_batch import UNVERIFIED
from engine.backends.redis_ledger import RedisLedger
from engine.clock import Clock
from engine.errors import (
    CorruptDocument,
    NotFound,
    RepositoryConflict,
    RepositoryUnavailable,
)
from engine.models import BatchRecord, EssayState, Fact, absorb_milestone
from engine.repository import (
    Archive,
    BatchColumns,
    BatchStateRepository,
    Cache,
    DeadLetter,
    Recorded,
)
from engine.retelling import retell
from engine.together import side_by_side

_log = logging.getLogger(__name__)

ARCHIVE_SECONDS: Final = 4.0
"""After so long without an answer of the archive it goes on without."""

_MOST_MERGES: Final = 10_000
"""Of so many batches in doubt the merged records are kept, a few kB each."""


class RedisCachedBatchStateRepository(BatchStateRepository):
    """Keeps facts in an archive and, for whoever reads them there, in Redis.

    It is provisional until everything recorded is in the archive. Summaries of
    single batches come from Redis where it is known to have them whole; the archive answers
    for essays, as it has all of them; what only Redis has is merged in.

    Args:
        live: The repository in Redis.
        ledger: What both owe each other.
        archive: The permanent record.
        clock: Stamps what the seed's methods record.
        ttl_seconds: How long Redis keeps what it has; older batches are not brought back.
        read_only: Never write anything; recording is `RepositoryUnavailable`.
    """

    name = "redis+postgresql"
    chunks_at_once = 3

    def __init__(
        self,
        live: Cache,
        ledger: RedisLedger,
        archive: Archive,
        clock: Clock | None = None,
        *,
        ttl_seconds: float,
        read_only: bool = False,
    ) -> None:
        super().__init__(clock)
        self._read_only = read_only
        self._live, self._ledger, self._archive = live, ledger, archive
        self._live_part = Part("Redis", self.clock)
        self._archive_part = Part("PostgreSQL", self.clock)
        self._mender = Mender(
            live, ledger, archive, self._live_part, self._archive_part, self.clock, ttl_seconds
        )
        self._watch = Watch(
            live,
            archive,
            self._live_part,
            self._archive_part,
            self._mender.count_backlog,
            self._learn,
            ttl_seconds,
        )
        self._ttl_seconds = ttl_seconds
        self._newest_marks: dict[str, int] = {}
        self._has_looked_behind = True
        self._learned = 0
        self._merges: dict[str, tuple[BatchRecord, BatchRecord, BatchRecord]] = {}
        self._archiving, self._following = asyncio.Lock(), asyncio.Lock()

    @classmethod
    async def open(
        cls,
        redis_url: str,
        database_url: str,
        clock: Clock | None = None,
        *,
        ttl_seconds: int,
        read_only: bool = False,
        archive_may_be_away: bool = False,
        archive_seconds: float = ARCHIVE_SECONDS,
    ) -> Self:
        """Connect to both; who may write also mends from now on.

        Args:
            redis_url: `redis://`, `rediss://` or `unix://`.
            database_url: `postgresql://`; `migrate` has prepared it.
            clock: Stamps what the seed's methods record.
            ttl_seconds: How long Redis keeps what it has.
            read_only: Never write anything.
            archive_may_be_away: Begin without the archive where it does not answer, as if it had
                gone away later: for whoever goes on for long.
            archive_seconds: The bound of every transaction in the archive.

        Raises:
            SettingsError: The schema of the database is missing, older or newer.
            RepositoryUnavailable: One of them refuses the account, or does not answer and has to.
        """
        live = await RedisBatchStateRepository.open(
            redis_url, clock, ttl_seconds=ttl_seconds, read_only=read_only, alone=False
        )
        archive = PostgresBatchStateRepository.at(
            database_url, clock, read_only=read_only, answer_seconds=archive_seconds
        )
        store = live.store
        ledger = RedisLedger(
            store.client, redis_url, lambda name: store.keys.of(name).index, ttl_seconds
        )
        both = cls(live, ledger, archive, clock, ttl_seconds=ttl_seconds, read_only=read_only)
        try:
            try:
                await both._archive_part.reach(archive.greet)
            except RepositoryUnavailable as error:
                if not archive_may_be_away or isinstance(error.__cause__, PermissionError):
                    raise
            both._has_looked_behind = await both._look_behind()
        except BaseException:
            await both.aclose()
            raise
        if not read_only:
            both.start_mending()
        return both

    def start_mending(self) -> None:
        """Look after both parts from now on, until closed; for those who may write."""
        self._mender.start()

    # --- writing ---------------------------------------------------------------------------

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts into both; idempotent, in any order."""
        self._check_writable()
        if not self._archive_part.trouble:
            try:
                # While one chunk is on its way to Redis, the next is on its way to the archive;
                # Redis gets them in the order of the archive's versions.
                async with self._archiving:
                    recorded = await self._archive.record(facts)
                    await self._following.acquire()
            except RepositoryUnavailable as error:
                self._archive_part.lost(error)
            else:
                try:
                    await self._follow(recorded)
                finally:
                    self._following.release()
                return recorded
        return await self._record_provisionally(facts)

    async def _follow(self, recorded: Recorded) -> None:
        """Bring to Redis what the archive has recorded; if that fails it is mended later.

        What the archive knew before is not told again: the version of the batch at that time is
        noted with what is told, so that it shows if Redis did not know it.
        """
        if self._live_part.trouble or not recorded.telling:
            return
        try:
            await self._live.record(recorded.telling)
            await self._ledger.chain(recorded.versions)
        except RepositoryUnavailable as error:
            self._live_part.lost(error)
        except (RepositoryConflict, CorruptDocument) as error:
            # What stands in Redis must not keep anything from being recorded.
            _log.warning("Redis has to be mended: %s", error)

    async def _record_provisionally(self, facts: Sequence[Fact]) -> Recorded:
        """Keep facts in Redis: for the archive first, so that nothing shown can be lost."""
        if self._live_part.trouble:
            raise RepositoryUnavailable(self._both_away())
        try:
            await self._ledger.keep_unarchived(facts)
            self._mender.backlog += 1
            return await self._live.record(facts)
        except CorruptDocument as error:
            _log.warning("Redis has to be mended: %s", error)
            batch_ids = {fact.batch_id for fact in facts if fact.batch_id}
            return Recorded([True] * len(facts), (), sorted(batch_ids))
        except RepositoryUnavailable as error:
            self._live_part.lost(error)
            raise RepositoryUnavailable(self._both_away()) from error

    def _check_writable(self) -> None:
        if self._read_only:
            raise RepositoryUnavailable(f"{self.name} is open for reading only")

    def _both_away(self) -> str:
        return f"{self._archive_part.trouble}; {self._live_part.trouble}"

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters in the archive, or in Redis while it is away; each once."""
        self._check_writable()
        if not self._archive_part.trouble:
            try:
                await self._archive.record_dead_letters(letters)
                return
            except RepositoryUnavailable as error:
                self._archive_part.lost(error)
        await self._live.record_dead_letters(letters)

    # --- reading ---------------------------------------------------------------------------

    async def summaries(
        self, batch_ids: Sequence[str] | None = None, *, after: str = "", limit: int = 1000
    ) -> list[BatchRecord]:
        """Return batches in the order of their ids."""
        if batch_ids is None:
            live, archived = await side_by_side(
                self._live_part.ask(lambda: self._live.summaries(after=after, limit=limit)),
                self._archive_part.ask(lambda: self._archive.summaries(after=after, limit=limit)),
            )
            return await self._joined(live, archived, limit)
        marks = await self._marks(batch_ids)
        live = await self._live_part.ask(
            lambda: self._live.summaries(batch_ids, after=after, limit=limit)
        )
        records = {record.batch_id: record for record in live or ()}
        whole = await self._whole(records.values(), marks) if marks else set()
        if whole >= {name for name in batch_ids if name > after}:
            chosen = [records[name] for name in sorted(whole)][:limit]
            await self._add_outcomes_of_others(chosen)
            return chosen
        archived = await self._archive_part.ask(
            lambda: self._archive.summaries(batch_ids, after=after, limit=limit)
        )
        return await self._joined(live, archived, limit)

    async def _joined(
        self, live: list[BatchRecord] | None, archived: list[BatchRecord] | None, limit: int
    ) -> list[BatchRecord]:
        """Return what both parts have said of batches; `None` is what one that is away said."""
        if archived is None:
            return self._provisional(live)
        await self._learn_on()
        records = {record.batch_id: record for record in live or ()}
        there = {record.batch_id: record for record in archived}
        page = sorted({*records, *there})[:limit]
        for name in records.keys() & there.keys():
            there[name].doubt = records[name].doubt
            there[name].is_disputed = records[name].is_disputed
        return [
            await self._merged_record(records[name], there[name])
            if name in records and name in there and not self._is_settled(records[name])
            else there.get(name) or records[name]
            for name in page
        ]

    async def _add_outcomes_of_others(self, records: Sequence[BatchRecord]) -> None:
        """Add what other services noted in the archive, where Redis never gets it from us."""
        names = [record.batch_id for record in records]
        facts = await self._archive_part.ask(lambda: self._archive.outcomes_of_others(names))
        by_name = {record.batch_id: record for record in records}
        for fact in facts or ():
            absorb_milestone(by_name[fact.batch_id], fact)

    def _is_settled(self, live: BatchRecord) -> bool:
        """Whether Redis cannot know more of a batch than the archive does."""
        return not self._mender.backlog and live.doubt in ("", UNVERIFIED)

    def _provisional(self, live: list[BatchRecord] | None) -> list[BatchRecord]:
        if live is None:
            raise RepositoryUnavailable(self._both_away())
        for record in live:
            record.doubt = record.doubt or "the archive is away: what expired in Redis is missing"
        return live

    async def _marks(self, batch_ids: Sequence[str]) -> dict[str, int]:
        """Return the marks of batches that are not older than what is known to be the newest."""
        if not self._has_looked_behind:
            self._has_looked_behind = await self._look_behind()
            if not self._has_looked_behind:
                return {}
        marks = await self._live_part.ask(lambda: self._ledger.marks(batch_ids)) or {}
        return {
            name: mark
            for name, mark in marks.items()
            if 0 < mark >= self._newest_marks.get(name, 0)
        }

    async def _whole(self, records: Iterable[BatchRecord], before: Mapping[str, int]) -> set[str]:
        """Return those batches of which Redis has everything that the archive has.

        A mark that is older than one seen before tells of a Redis that lost something. What was
        read between two marks is whole if it was so before, and nothing was lost meanwhile.
        """
        in_sync = [one.batch_id for one in records if not one.doubt and one.batch_id in before]
        whole = await self._marks(in_sync)
        self._newest_marks.update(whole)
        return {name for name, mark in whole.items() if mark >= before[name]}

    def _learn(self, versions: Iterable[tuple[str, int]]) -> None:
        """Believe no mark that is older than what the archive has."""
        for name, version in versions:
            self._newest_marks[name] = max(version, self._newest_marks.get(name, 0))

    async def _look_behind(self) -> bool:
        """Find out what Redis may lack: what has changed, and what waits for the archive.

        Tell whether the archive was there to say it.
        """
        await self._mender.count_backlog()
        verified = await self._ledger.verified()
        if verified is None:  # in an emptied Redis nothing has a mark
            return not self._archive_part.trouble
        self._learned = verified
        return await self._learn_on()

    async def _learn_on(self) -> bool:
        """Learn what the archive has recorded up to now; tell whether it was there to say it.

        What has been shown of it may not be in Redis yet, or only when it is mended: until then
        no older mark may be believed.
        """
        while True:
            changed = await self._archive_part.ask(partial(self._changed_since, self._learned))
            if changed is None:
                self._has_looked_behind = False
                return False
            self._learn(changed)
            if changed:
                self._learned = changed[-1][1]
            if len(changed) < PAGE:
                return True

    async def _changed_since(self, version: int) -> list[tuple[str, int]]:
        return await self._archive.changed_since(
            version, within_seconds=self._ttl_seconds, limit=PAGE
        )

    async def load_batch(self, batch_id: str) -> BatchColumns:
        """Return a batch with the outcomes of all of its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        source = await self._source(batch_id)
        try:
            columns = await source.load_batch(batch_id)
        except NotFound:
            raise NotFound(
                f"no batch {batch_id!r} in {self.name}; `bcs-tui ls` lists them"
            ) from None
        if source is not self._live and source is not self._archive:
            live = await self._live_part.ask(lambda: self._live.load_batch(batch_id))
            columns.record.unreadable = live.record.unreadable if live else ()
        return columns

    async def essays(
        self,
        batch_id: str,
        essay_ids: Sequence[str] | None = None,
        *,
        after: str = "",
        limit: int = 1000,
    ) -> list[EssayState]:
        """Return essays of a batch in the order of their ids; none for an unknown batch."""
        source = await self._source(batch_id)
        page = await source.essays(batch_id, essay_ids, after=after, limit=limit)
        if source is self._live or source is self._archive:
            return page
        # What was merged are facts, and that something cannot be read is none.
        names = [essay.essay_id for essay in page]
        found = await self._live_part.ask(lambda: self._live.essays(batch_id, names))
        troubles = {essay.essay_id: essay.trouble for essay in found or ()}
        return [
            msgspec.structs.replace(essay, trouble=troubles.get(essay.essay_id, ""))
            for essay in page
        ]

    async def uploads(self, batch_id: str) -> list[tuple[str, str]]:
        """Return the uploads that a batch has counted."""
        return await (await self._source(batch_id)).uploads(batch_id)

    async def _source(self, batch_id: str) -> BatchStateRepository:
        """Return the repository that has everything there is to know of a batch."""
        live = await self._live_part.ask(lambda: self._live.summaries([batch_id]))
        if live is None:
            return self._archive
        archived = await self._archive_part.ask(lambda: self._archive.summaries([batch_id]))
        if archived is None:
            return self._live
        if live and not (archived and self._is_settled(live[0])):
            return await self._merged(batch_id)
        return self._archive

    async def _merged(self, batch_id: str) -> BatchStateRepository:
        """Return a repository in memory with what both parts know of a batch."""
        both = MockBatchStateRepository(self.clock)
        both.keep_everything()
        for part in (self._archive, self._live):
            async for page in retell(part, batch_id):
                await both.record(page)
        return both

    async def _merged_record(self, live: BatchRecord, archived: BatchRecord) -> BatchRecord:
        """Return the record of all essays together, merged anew when a part's own is another."""
        batch_id = live.batch_id
        last = self._merges.get(batch_id)
        if last is None or last[:2] != (live, archived):
            both = await self._merged(batch_id)
            merged = await both.batch_record(batch_id)
            merged.doubt, merged.is_disputed = live.doubt, live.is_disputed
            if live.unread:
                unread = (await self._live.load_batch(batch_id)).record.unreadable
                for essay in await both.essays(batch_id, unread, limit=len(unread)):
                    merged.count_unread(essay.steps.values())
            last = live, archived, merged
        self._merges.pop(batch_id, None)
        self._merges[batch_id] = last  # used lately: forgotten last
        while len(self._merges) > _MOST_MERGES:
            del self._merges[next(iter(self._merges))]
        return last[2].copy()

    async def evidence(self, batch_id: str) -> Evidence:
        """Return what the merged essays say, and each source of both parts.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        merged = await super().evidence(batch_id)
        claims = [one for one in merged.claims if one.source == ESSAYS]
        for part, source in ((self._live_part, self._live), (self._archive_part, self._archive)):
            with suppress(NotFound):
                said = await part.ask(partial(source.evidence, batch_id))
                claims += [
                    one._replace(source=f"{part.name} {one.source}")
                    for one in (said.claims if said else ())
                ]
        return merged._replace(claims=claims)

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival."""
        letters = await self._archive_part.ask(
            lambda: self._archive.dead_letters(after=after, limit=limit)
        )
        if letters is None:
            return await self._live.dead_letters(after=after, limit=limit)
        return letters

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are kept, without reading them."""
        count = await self._archive_part.ask(self._archive.count_dead_letters)
        return await self._live.count_dead_letters() if count is None else count

    async def changes(self) -> AsyncGenerator[Collection[str] | None, None]:
        """Yield what others changed: by the notices in Redis, and by the archive's versions."""
        async with aclosing(self._watch.changes()) as changes:
            async for names in changes:
                yield names

    @property
    def is_provisional(self) -> bool:
        """Whether the archive is away, or something waits for it, or never came to it."""
        owed = self._ledger.owed
        return bool(self._archive_part.trouble or self._mender.backlog or owed or owed.lost)

    @property
    def silences(self) -> Mapping[str, float]:
        """For how many seconds each part has not answered."""
        return {part.name: part.silence for part in (self._live_part, self._archive_part)}

    @property
    def notices(self) -> list[str]:
        """Which part is away, and how much waits for the archive."""
        notices = list(self._live.notices)
        if self._archive_part.trouble:
            notices.append(f"provisional, not archived: {self._archive_part.trouble}")
        if self._live_part.trouble:
            notices.append(f"recording to PostgreSQL only: {self._live_part.trouble}")
        elif self._mender.is_redis_behind:
            notices.append("Redis has lost what it had: PostgreSQL answers until it is mended")
        if self._mender.backlog:
            notices.append(f"{self._mender.backlog} chunks wait in Redis for PostgreSQL")
        if lost := self._ledger.owed.lost:
            notices.append(
                f"Redis has dropped {lost} chunks that waited for PostgreSQL: end this process and "
                "start it again; a stream or file then brings them again, a channel cannot"
            )
        return notices

    @property
    def hints(self) -> list[str]:
        """Whether an account that is to read could also write."""
        return [*self._live.hints, *self._archive.hints]

    @property
    def lacking(self) -> str:
        """Why batches that only another service wrote may be missing; empty where none is."""
        return self._live.lacking

    async def mend(self) -> None:
        """Bring each part what it lacks, now and not only when it is due.

        Raises:
            RepositoryUnavailable: One of them is away.
        """
        await self._mender.mend()

    async def settled(self) -> None:
        """Wait until everything recorded is in the archive: mending sees to it."""
        while self.is_provisional:
            await self._mender.next_look()

    async def aclose(self) -> None:
        """Stop mending and give back both parts."""
        await self._mender.stop()
        try:
            await self._live.aclose()
        finally:
            await self._archive.aclose()

"""Mending between Redis and the archive: after an outage each gets what it lacks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final, TypeVar

import msgspec

from engine.backends.redis_ledger import RedisLedger, Unarchived
from engine.clock import Clock
from engine.errors import (
    CorruptDocument,
    NotPermitted,
    RepositoryConflict,
    RepositoryError,
    RepositoryUnavailable,
    SettingsError,
)
from engine.repository import Archive, Cache, DeadLetter
from engine.retelling import retell

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MEND_SECONDS: Final = 1.0
"""How often it is looked whether something has to be mended."""

PAGE: Final = 500
"""How many changed batches are looked at in one go."""

_KEPT_BYTES: Final = 64 * 1024


class Part:
    """One of the two repositories, and whether it is there."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.trouble = ""
        self.is_followed = False
        """Whether somebody asks again and again whether it is there; others need not then."""
        self._clock = clock
        self._lost_at = 0.0
        self._heard_at = clock.monotonic()

    def lost(self, error: Exception) -> None:
        """Note that it did not answer; nothing is written to it until it was found again."""
        if not self.trouble:
            _log.warning("%s is away: %s", self.name, error)
        self.trouble = str(error)
        self._lost_at = self._clock.monotonic()

    def found(self) -> None:
        """Note that it answered."""
        if self.trouble:
            _log.warning("%s is back", self.name)
        self.trouble = ""
        self._heard_at = self._clock.monotonic()

    @property
    def silence(self) -> float:
        """For how many seconds it has not answered."""
        return self._clock.monotonic() - self._heard_at

    async def reach(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask the part, and note whether it is there.

        Raises:
            RepositoryUnavailable: It is away.
        """
        try:
            answer = await ask()
        except NotPermitted:
            self.found()
            raise
        except RepositoryUnavailable as error:
            self.lost(error)
            raise
        self.found()
        return answer

    async def ask(self, ask: Callable[[], Awaitable[_T]]) -> _T | None:
        """Ask the part; `None` if it is away. Who waits for one away is not made to wait again.

        Raises:
            NotPermitted: It is there, but the account may not.
        """
        waited = self._clock.monotonic() - self._lost_at
        if self.trouble and (self.is_followed or waited < MEND_SECONDS):
            return None
        try:
            return await self.reach(ask)
        except NotPermitted:
            raise
        except RepositoryUnavailable:
            return None


class Mender:
    """Looks after both parts: what waits is archived, what Redis lacks is brought back.

    Of several processes that mend, one does; if it ends, another takes over.
    """

    def __init__(
        self,
        live: Cache,
        ledger: RedisLedger,
        archive: Archive,
        live_part: Part,
        archive_part: Part,
        clock: Clock,
        ttl_seconds: float,
    ) -> None:
        self.backlog = 0
        self.is_redis_behind = False
        """Whether Redis has lost what it had, and has not been brought up to date yet."""
        self._seen = -1
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Condition()
        self._live, self._ledger, self._archive = live, ledger, archive
        self._live_part, self._archive_part = live_part, archive_part
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._verified = 0
        self._is_catching_up = self._is_emptied = False
        self._is_evicting = self._has_evicted = False
        self._evicted: int | None = None
        self._suspects: Mapping[str, int] = {}
        self._resisting: dict[str, int] = {}
        self._letters = 0

    def start(self) -> None:
        """Look again and again from now on."""
        self._task = asyncio.create_task(self._keep_mending())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            # What is under way in a driver may end with an error of its own instead.
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
        if task is not None and not self._live_part.trouble:
            with suppress(RepositoryError):
                await self._ledger.resign()

    async def _keep_mending(self) -> None:
        while True:
            try:
                await self.mend()
            except (RepositoryError, SettingsError) as error:
                _log.info("mending goes on later: %s", error)
            async with self._looked:
                self._looked.notify_all()
            await asyncio.sleep(MEND_SECONDS)

    async def next_look(self) -> None:
        """Wait until it has been looked what there is to mend."""
        async with self._looked:
            await self._looked.wait()

    async def mend(self) -> None:
        """Bring each part what it lacks.

        Raises:
            RepositoryUnavailable: One of them is away.
            RepositoryConflict: Other writers kept winning; the next time may do it.
        """
        was_away = self._archive_part.trouble
        try:
            await self._live_part.reach(self.count_backlog)
        finally:
            # Each is asked, so that the return of one is seen while the other is away.
            await self._archive_part.reach(lambda: self._changed_since(self._verified, limit=1))
        if not await self._ledger.lead():
            return
        while waiting := await self._ledger.unarchived():
            await self._archive_waiting(waiting)
        await self.count_backlog()
        await self._archive_letters(anew=bool(was_away))
        await self._look_for_evictions()
        while await self._verify_page():
            pass
        for batch_id, version in list(self._resisting.items()):
            await self._bring_back(batch_id, version)

    async def count_backlog(self) -> None:
        """Ask how many chunks wait for the archive, and whether Redis has lost anything."""
        await self._ledger.keep_dropped()
        self.backlog = await self._ledger.count_unarchived()
        verified = await self._ledger.verified()
        self._seen = max(self._seen, -1 if verified is None else verified)
        if verified is None:
            # Nobody has ever brought it up to date, or it was emptied since.
            changed = await self._archive_part.ask(lambda: self._changed_since(0, limit=1))
            self.is_redis_behind = self._seen >= 0 or bool(changed)
        else:
            self.is_redis_behind = verified < self._seen

    async def _changed_since(self, version: int, limit: int = PAGE) -> list[tuple[str, int]]:
        return await self._archive.changed_since(
            version, within_seconds=self._ttl_seconds, limit=limit
        )

    async def _archive_waiting(self, waiting: Sequence[Unarchived]) -> None:
        """Record in the archive what waits in Redis, and let it go there."""
        for one in waiting:
            try:
                await self._archive.record(one.facts())
            except msgspec.MsgspecError as error:
                await self._archive.record_dead_letters([self._unreadable(one, error)])
            await self._ledger.forget_unarchived([one])

    def _unreadable(self, one: Unarchived, error: Exception) -> DeadLetter:
        return DeadLetter(
            self._clock.now(),
            "redis",
            one.id.decode(),
            "unreadable_document",
            f"facts that waited for the archive: {error}",
            "",
            one.packed[:_KEPT_BYTES],
            sha256(one.packed).hexdigest(),
            len(one.packed),
        )

    async def _archive_letters(self, anew: bool) -> None:
        """Copy to the archive the dead letters that stand in Redis only."""
        if anew:
            self._letters = 0
        while letters := await self._live.dead_letters(after=self._letters):
            await self._archive.record_dead_letters(letters)
            self._letters += len(letters)

    async def _look_for_evictions(self) -> None:
        """Look at all batches again when the server has stopped to evict keys, and not before."""
        evicted = await self._ledger.evicted()
        if self._evicted not in (None, evicted):
            self._is_evicting = True
        elif self._is_evicting:
            self._is_evicting = False
            self._has_evicted = True
            await self._ledger.set_verified(0)
        self._evicted = evicted

    async def _verify_page(self) -> bool:
        """Look whether Redis has what has changed in the archive; return if there may be more.

        What was recorded a moment ago may be on its way to Redis. So a batch is brought back
        only if it lacked the same at the look before, or while Redis, which was found emptied
        or set back (it has verified less than it had), catches up. In an emptied Redis no mark
        is believed: it may be about what was there before.
        """
        found = await self._ledger.verified()
        verified = found or 0
        self._is_emptied |= found is None
        self._is_catching_up |= self._is_emptied or verified < self._verified
        changed = await self._changed_since(verified)
        names = [batch_id for batch_id, _ in changed]
        marks = await self._ledger.marks(names, shorten=True)
        if self._is_emptied:
            marks = dict.fromkeys(marks, -1)
        elif self._has_evicted and names:
            for record in await self._live.summaries(names, limit=len(names)):
                if record.doubt:
                    marks[record.batch_id] = -1
        lacking = {name: version for name, version in changed if marks[name] < version}
        stale = [
            name
            for name in lacking
            if self._is_catching_up or marks[name] < self._suspects.get(name, marks[name])
        ]
        for batch_id in stale:
            await self._bring_back(batch_id, lacking.pop(batch_id))
        self._suspects = lacking
        reached = min(lacking.values(), default=changed[-1][1] + 1 if changed else 0) - 1
        if reached > verified or found is None:
            await self._ledger.set_verified(max(reached, verified))
            await self._check_lead()
        self._verified = max(reached, verified)
        more = len(changed) >= PAGE and not lacking
        self._is_catching_up &= more
        self._is_emptied &= more
        self._has_evicted &= more
        return more

    async def _bring_back(self, batch_id: str, version: int) -> None:
        """Merge into Redis what the archive knows of a batch; one that resists is tried again."""
        self._live.distrust()
        try:
            async for page in retell(self._archive, batch_id):
                await self._live.record(page)
                await self._check_lead()
        except (CorruptDocument, RepositoryConflict) as error:
            _log.warning("batch %r cannot be mended yet: %s", batch_id, error)
            self._resisting[batch_id] = version
            return
        await self._ledger.mark({batch_id: version})
        self._resisting.pop(batch_id, None)

    async def _check_lead(self) -> None:
        """Make sure that what was brought back is still there.

        Raises:
            RepositoryUnavailable: Redis was emptied meanwhile, or another process mends.
        """
        if not await self._ledger.still_leads():
            self._is_emptied = True
            raise RepositoryUnavailable("Redis was emptied while it was mended; that begins anew")

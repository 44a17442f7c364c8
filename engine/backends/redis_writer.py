"""How chunks of facts come into Redis, so that nothing is lost that others write there.

What a chunk is about is read, or known from before; it is merged; and it is written in steps,
each of which changes something only if everything it is about still is as it was read. What
others have changed meanwhile is read anew, and merged with what they wrote.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from engine.backends.redis_chunk import Chunk, Known, essays_by_batch
from engine.backends.redis_doubts import Doubts
from engine.backends.redis_homeless import keep_homeless
from engine.backends.redis_keys import BATCHES
from engine.backends.redis_letters import set_aside, unreadable, write_letters
from engine.backends.redis_rows import BatchWrite, settle
from engine.backends.redis_store import Store
from engine.backends.redis_sweep import adopt
from engine.clock import Clock
from engine.errors import RepositoryConflict
from engine.merge import Merge
from engine.models import Fact, StepFact
from engine.repository import Change, Recorded

_ATTEMPTS: Final = 40
_LONGEST_PAUSE: Final = 0.25


class Writer:
    """Records chunks of facts, also several at the same time.

    Args:
        store: The server.
        doubts: Told of batches whose counts are not proved.
        clock: Dates what is written.
    """

    def __init__(self, store: Store, doubts: Doubts, clock: Clock) -> None:
        self._store = store
        self._doubts = doubts
        self._clock = clock
        self._known = Known()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._listed: dict[str, float] = {}
        self._pruned_at = -float(store.ttl)
        self._unsure: set[str] = set()

    def forget(self) -> None:
        """Ask Redis again for everything: it may have lost what is known to be there."""
        self._known = Known()
        self._listed.clear()

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing per essay.

        Raises:
            RepositoryConflict: Others kept writing the same.
        """
        try:
            return await self._record(facts)
        except BaseException:
            # Some of it may have been written, unseen by whoever follows the changes.
            self._unsure |= {fact.batch_id for fact in facts if fact.batch_id}
            raise

    async def _record(self, facts: Sequence[Fact]) -> Recorded:
        """Try until nobody else changes what was read."""
        news = [False] * len(facts)
        changes: list[Change] = []
        pending = list(range(len(facts)))
        faded: set[str] = set()
        for attempt in range(_ATTEMPTS):
            recorded, contested, torn = await self._record_once([facts[n] for n in pending])
            faded |= torn
            changes += [one for one in recorded.changes if one.fact.batch_id not in contested]
            untouched = contested - faded
            for number, is_new in zip(pending, recorded.news, strict=True):
                if is_new and facts[number].batch_id not in untouched:
                    news[number] = True
            if not contested:
                faded |= self._unsure
                self._unsure -= faded
                kept = [change for change in changes if change.fact.batch_id not in faded]
                return Recorded(news, kept, sorted(faded))
            pending = [
                number
                for number in pending
                if not facts[number].batch_id or facts[number].batch_id in contested
            ]
            await asyncio.sleep(random.random() * min(_LONGEST_PAUSE, 0.002 * 2**attempt))
        raise RepositoryConflict(
            f"others kept writing {', '.join(sorted(contested))!r} in Redis at "
            f"{self._store.place}; nothing was lost, try again"
        )

    async def _record_once(self, facts: Sequence[Fact]) -> tuple[Recorded, set[str], set[str]]:
        """Read, merge and write once.

        Returns:
            What was merged; the batches that others changed meanwhile; and those of which the
            changes do not tell all: a part was written, or others had written too.
        """
        homeless, homes = await keep_homeless(
            self._store,
            [fact for fact in facts if type(fact) is StepFact and not fact.batch_id],
        )
        wanted = essays_by_batch(facts, homes)
        async with self._alone(wanted):
            await self._list(wanted)
            chunk = Chunk(self._store, self._known)
            await chunk.load(facts, wanted, homeless, homes)
            recorded = Merge(chunk).apply(facts)
            now = self._clock.now()
            letters = [unreadable(*trouble, now) for trouble in chunk.troubled]
            await write_letters(self._store, letters)
            contested, written = await self._write(chunk.writes(now.isoformat()))
            self._known.put(
                batch for batch_id, batch in chunk.cached.items() if batch_id not in contested
            )
        return recorded, contested, (contested & written) | chunk.foreign

    async def _write(self, writes: Sequence[BatchWrite]) -> tuple[set[str], set[str]]:
        """Make writes; return the batches that have changed, and those that were written."""
        contested: set[str] = set()
        written: set[str] = set()
        replies = await self._store.write(writes)
        for write, reply in zip(writes, replies, strict=True):
            batch_id = write.batch.record.batch_id
            if reply[0] == b"done":
                settle(write)
                written.add(batch_id)
                if not reply[1]:
                    self._doubts.add(batch_id)
                continue
            contested.add(batch_id)
            self._listed.pop(batch_id, None)  # Redis may have been emptied
            if reply[0] == b"lost":
                await adopt(self._store, batch_id)
            elif reply[0] == b"type":
                keys = [write.batch.keys.essay_prefix + row.essay_id for row, _ in write.essays]
                now = self._clock.now()
                letters = [set_aside(*m, now) for m in await self._store.set_aside(keys)]
                await write_letters(self._store, letters)
        return contested, written

    @asynccontextmanager
    async def _alone(self, batch_ids: Iterable[str]) -> AsyncIterator[None]:
        """Keep other tasks of this process away from batches."""
        locks = [self._locks.setdefault(batch_id, asyncio.Lock()) for batch_id in sorted(batch_ids)]
        async with AsyncExitStack() as stack:
            for lock in locks:
                await stack.enter_async_context(lock)
            yield

    async def _list(self, batch_ids: Iterable[str]) -> None:
        """Put batches into the list of all, and often enough for it not to expire."""
        now = self._clock.monotonic()
        due = [
            batch_id
            for batch_id in batch_ids
            if now - self._listed.get(batch_id, -self._store.ttl) >= self._store.ttl / 4
        ]
        if due:
            scored = [word for batch_id in due for word in (0, batch_id)]
            await self._store.send(
                [("ZADD", BATCHES, *scored), ("EXPIRE", BATCHES, self._store.ttl)]
            )
            self._listed.update(dict.fromkeys(due, now))
            if now - self._pruned_at >= self._store.ttl / 4:
                self._pruned_at = now
                self._doubts.keep_list_short()

"""Looking through all keys: which essays do only other services know, and are counts right?

It is never in the way of a summary. A look that is not over soon goes on in the background,
slowly, once for all batches that wait for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from engine.backends.redis_batch import decode_index, delta_of
from engine.backends.redis_chunk import read_batches
from engine.backends.redis_homeless import tie
from engine.backends.redis_keys import ANY_ESSAY, BATCHES
from engine.backends.redis_letters import unreadable, write_letters
from engine.backends.redis_link import mapping
from engine.backends.redis_reads import page_of_batches, read_rows, without_keys
from engine.backends.redis_rows import BatchWrite, CachedBatch, EssayRow, settle, writes_of
from engine.backends.redis_store import Store
from engine.models import is_aggregate

KEYS_AT_ONCE: Final = 1000
_PAUSE_PER_STEP: Final = 3.0
"""Of the background's time, so many parts are pause for each part of work."""

_ATTEMPTS: Final = 5


async def scan(
    store: Store, match: str, budget_steps: int | None = None
) -> AsyncIterator[list[bytes] | None]:
    """Yield all keys of a pattern, page by page; `None` at last if the budget has run out.

    Without a budget it takes its time: most of it is pause.
    """
    steps = 0
    for node in store.nodes():
        cursor = 0
        while True:
            began = asyncio.get_running_loop().time()
            cursor, keys = await store.scan(node, cursor, match, KEYS_AT_ONCE)
            yield keys
            if not cursor:
                break
            steps += 1
            if budget_steps is None:
                took = asyncio.get_running_loop().time() - began
                await asyncio.sleep(took * _PAUSE_PER_STEP)
            elif steps >= budget_steps:
                yield None
                return


async def discover(
    store: Store, batch_ids: Iterable[str], budget_steps: int | None
) -> dict[str, set[str]] | None:
    """Return the essays of batches for which any service left a document; `None` if too many.

    Args:
        store: The server.
        batch_ids: Those of other batches are passed over: there may be millions.
        budget_steps: How many thousand keys are looked at before it is too many.
    """
    found: dict[str, set[str]] = {batch_id: set() for batch_id in batch_ids}
    prefixes = {
        store.keys.of(batch_id).essay_prefix.encode(): essays for batch_id, essays in found.items()
    }
    async for keys in scan(store, ANY_ESSAY, budget_steps):
        if keys is None:
            return None
        for key in keys:
            place = key.rfind(b":") + 1
            essays = prefixes.get(key[:place])
            if essays is not None and place < len(key):
                essays.add(key[place:].decode(errors="replace"))
    return found


class _Chain(NamedTuple):
    """Since when nobody else has written; whether from the beginning; whether essays expire."""

    name: str
    from_birth: bool
    expiring: bool


class Sweeper:
    """Brings counters of batches in line with all documents, and says so in their index."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def verify(self, batch_ids: Iterable[str], budget_steps: int | None) -> set[str] | None:
        """Look through the keys for these batches; return those that stay in doubt.

        Those are the ones into which another service wrote meanwhile; `None`: the budget was
        not enough, and nothing is proved.
        """
        chains = await self._chains(list(batch_ids))
        found = await discover(self._store, chains, budget_steps)
        if found is None:
            return None
        names = list(chains)
        asked = [("HKEYS", self._store.keys.of(batch_id).essays) for batch_id in names]
        for batch_id, counted in zip(names, await self._store.send(asked), strict=True):
            chain, others = chains[batch_id], found[batch_id]
            known = {name.decode() for name in counted}
            # Since its birth nobody but us has written: only what we never counted can be wrong.
            own = chain.from_birth and not chain.expiring
            if wanted := others - known if own else known | others:
                await self._align(batch_id, wanted, everything=chain.expiring)
        return await self._seal(chains)

    async def _seal(self, chains: Mapping[str, _Chain]) -> set[str]:
        """Declare the counts of batches right; return those into which others have written."""
        until = str(await self._store.now_ms() + self._store.ttl * 1000)
        calls = []
        for batch_id, chain in chains.items():
            keys = self._store.keys.of(batch_id)
            calls.append((keys.summary, keys.index, chain.name, until if chain.expiring else ""))
        sealed = await self._store.seal(calls)
        return {batch_id for batch_id, holds in zip(chains, sealed, strict=True) if not holds}

    async def _chains(self, batch_ids: Sequence[str]) -> dict[str, _Chain]:
        """Return the chains that hold now, whether from the beginning, and what runs out."""
        batches = await self._batches(batch_ids)
        lost = list(batches)
        for _ in range(_ATTEMPTS):
            writes = [BatchWrite(batches[name], None, None, (), (), (), ()) for name in lost]
            replies = await self._store.write(writes)
            lost = [n for n, reply in zip(lost, replies, strict=True) if reply[0] == b"lost"]
            if not lost:
                break
            for batch_id in lost:
                await adopt(self._store, batch_id)
        asked = [("HGETALL", batch.keys.index) for batch in batches.values()]
        stored = await self._store.send(asked)
        now = await self._store.now_ms()
        chains = {}
        for batch_id, fields in zip(batches, stored, strict=True):
            index = decode_index(mapping(fields))
            chains[batch_id] = _Chain(index.chain, index.chain == index.born, index.until <= now)
        return chains

    async def _batches(self, batch_ids: Sequence[str]) -> dict[str, CachedBatch]:
        batches, troubled = await read_batches(self._store, batch_ids)
        letters = [unreadable(*trouble, self._now()) for trouble in troubled]
        await write_letters(self._store, letters)
        return batches

    async def _align(self, batch_id: str, essay_ids: set[str], everything: bool) -> None:
        """Bring documents and copies of essays together; `everything`: renew their expiry too."""
        for _ in range(_ATTEMPTS):
            batch = (await self._batches([batch_id]))[batch_id]
            rows = await read_rows(self._store, batch_id, essay_ids)
            there = [row for row in rows if row.raw is not None or row.copy is not None]
            behind = [row for row in there if everything or not row.in_step]
            if not behind:
                return
            # Which batches know an essay is forgotten as long after it was first said.
            await self._take_home(batch, [row for row in behind if everything or row.copy is None])
            await write_letters(
                self._store,
                [
                    unreadable(
                        batch.keys.essay_prefix + row.essay_id, row.raw, row.trouble, self._now()
                    )
                    for row in behind
                    if row.trouble and row.raw is not None
                ],
            )
            now = self._now().isoformat()
            writes = list(writes_of(batch, behind, (), False, now))
            replies = await self._store.write(writes)
            if any(reply[0] == b"lost" for reply in replies):
                await adopt(self._store, batch_id)
            for write, reply in zip(writes, replies, strict=True):
                if reply[0] == b"done":
                    settle(write)
            essay_ids = {row.essay_id for row in behind if not row.in_step}
            everything = False
            if not essay_ids:
                return

    async def _take_home(self, batch: CachedBatch, rows: list[EssayRow]) -> None:
        """Tie essays to their batch, and add what was kept of them without a batch."""
        batch_id = batch.record.batch_id
        new = {row.essay_id: row for row in rows}
        kept = await tie(self._store, [(batch_id, essay_id) for essay_id in sorted(new)])
        for essay_id, row in new.items():
            document = row.document
            for one in kept.get(essay_id, {}).values():
                other = type(document)(essay_id, one.earliest)
                other.put(msgspec.structs.replace(one.fact, batch_id=batch_id))
                document.absorb(other)
                for moment in (one.first, one.last):
                    if moment:
                        batch.record.saw(moment)
            for fact in document.steps.values():
                if fact.detail and not is_aggregate(batch_id, essay_id):
                    batch.record.saw(fact.time)


async def prune(store: Store, pause_seconds: float) -> None:
    """Take batches of which nothing is left out of the list of all.

    A batch is listed before anything of it is written, so what is missing is looked at twice.
    """
    after = ""
    while page := await page_of_batches(store, after, KEYS_AT_ONCE):
        gone = await without_keys(store, page)
        if gone:
            await asyncio.sleep(pause_seconds)
            gone = await without_keys(store, gone)
        if gone:
            await store.send([("ZREM", BATCHES, *gone)])
        after = page[-1]


async def adopt(store: Store, batch_id: str) -> None:
    """Set counters that the server has lost to what our copies say."""
    keys = store.keys.of(batch_id)
    [reply] = await store.send([("HGETALL", keys.essays)])
    copies = mapping(reply)
    fields: dict[str, int] = defaultdict(int)
    for name, raw in copies.items():
        row = EssayRow(batch_id, name.decode(), raw, raw)
        counted = not is_aggregate(batch_id, row.essay_id)
        for field, change in delta_of(None, row.document.outcomes(), counted):
            fields[field] += change
    arguments: list[Any] = [len(copies)]
    for field, number in {"e": len(copies), **fields}.items():
        arguments += (field, number)
    await store.adopt([keys.summary, keys.index, keys.batch, keys.essays], arguments)

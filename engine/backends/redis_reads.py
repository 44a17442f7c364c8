"""Everything that is read back. No script is needed, so reading needs no more than reading."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.backends.redis_batch import (
    UNVERIFIED,
    Index,
    add_stored_phases,
    decode_batch,
    decode_index,
)
from engine.backends.redis_chunk import ESSAYS_PER_READ
from engine.backends.redis_counts import Counts, count_rows
from engine.backends.redis_decode import Unreadable
from engine.backends.redis_keys import BATCHES
from engine.backends.redis_link import mapping
from engine.backends.redis_rows import EssayRow, upload_of
from engine.backends.redis_store import Store
from engine.models import BatchRecord


async def read_records(
    store: Store,
    batch_ids: Sequence[str],
    foreign: Mapping[str, Collection[str]],
    counts: Counts | None = None,
    *,
    anew: bool = True,
) -> list[BatchRecord]:
    """Return those of the batches that are known, in the given order.

    Counts are those of the index while the published summary proves them, or nothing of others
    was found that they lack; otherwise the essays are counted. The record says why in `doubt`.

    Args:
        store: The server.
        batch_ids: Which batches.
        foreign: Essays that were found in documents of other services.
        counts: Keeps what was counted.
        anew: Count also those whose counts are kept.
    """
    found = await _read_stored(store, batch_ids)
    blank = [
        batch_id
        for batch_id, one in zip(batch_ids, found, strict=True)
        if one.counters.summary is None
        and one.raw is None
        and not one.phases
        and batch_id not in foreign
    ]
    gone = set(await without_keys(store, blank))
    own = await _without_others(
        store,
        [name for name, one in zip(batch_ids, found, strict=True) if one.doubt == UNVERIFIED],
        foreign,
    )
    records: list[BatchRecord] = []
    for batch_id, (index, summary, doubt, lost, raw, phases) in zip(batch_ids, found, strict=True):
        if batch_id in gone:
            continue
        record = BatchRecord(batch_id)
        if raw is not None:
            try:
                record = decode_batch(batch_id, raw)
            except Unreadable:
                doubt = "its own record cannot be read"
        if record.expected is None:
            record.expected = index.expected  # the record was dropped, and made anew since
        record.seen, record.counts = index.seen, index.counts
        record.doubt = lost
        if doubt == UNVERIFIED and batch_id not in own:
            doubt = "others have written essays of it"
        if doubt == UNVERIFIED:
            record.doubt = lost or doubt
        elif doubt:
            if counts is not None and batch_id in counts and not anew:
                counts.recall(record)
            else:
                rows = await read_rows(store, batch_id, None, foreign.get(batch_id, ()))
                count_rows(record, rows)
                if counts is not None:
                    counts.keep(record, summary)
            record.doubt = doubt
            if record.unread:
                what = "essay" if record.unread == 1 else "essays"
                record.doubt = f"{doubt}; {record.unread} {what} cannot be read"
        add_stored_phases(record, phases)
        records.append(record)
    return records


class _Stored(NamedTuple):
    """What is stored of a batch.

    `doubt` says why the `counters` may be wrong, `lost` what else was dropped. `raw` is
    the record of our own, `phases` are the services'.
    """

    counters: Index
    summary: bytes | None
    doubt: str
    lost: str
    raw: bytes | None
    phases: dict[bytes, bytes]

    @property
    def is_torn(self) -> bool:
        """Whether index and summary are of different writes."""
        proof = self.counters.summary
        return proof is not None and self.summary not in (None, proof)


async def _read_stored(store: Store, batch_ids: Sequence[str]) -> list[_Stored]:
    """Read what is stored, once more where one of us may have written in the midst of it."""
    found = await _read_once(store, batch_ids)
    torn = [number for number, one in enumerate(found) if one.is_torn]
    again = await _read_once(store, [batch_ids[number] for number in torn])
    for number, one in zip(torn, again, strict=True):
        found[number] = one
    return found


async def _read_once(store: Store, batch_ids: Sequence[str]) -> list[_Stored]:
    """Read index, then summary: if they agree, nobody else wrote between the two moments."""
    names = [store.keys.of(batch_id) for batch_id in batch_ids]
    commands: list[tuple[Any, ...]] = []
    for keys in names:
        commands += [("HGETALL", keys.index), ("GET", keys.summary)]
        commands += [("HGETALL", keys.phases), ("HLEN", keys.essays)]
    if names and not store.clustered:
        commands.append(("TIME",))
    replies = await store.send(commands, tolerate=True)
    now = int(time.time() * 1000)
    if names and not store.clustered:
        now = int(replies[-1][0]) * 1000 + int(replies[-1][1]) // 1000
    found = []
    for number, raw in enumerate(await _read_texts(store, [keys.batch for keys in names])):
        fields, summary, phases, entries = replies[number * 4 : number * 4 + 4]
        index = decode_index(mapping(fields))
        summary = summary if isinstance(summary, bytes) else None
        doubt = index.doubt(summary, now)
        if isinstance(raw, Exception):
            doubt, raw = "its own record is of another type", None
        # More than was counted a moment ago have been added since.
        is_whole = index.summary is None or (raw is not None and entries >= index.entries)
        lost = "" if is_whole else "some of its keys are gone"
        found.append(_Stored(index, summary, doubt, lost, raw, mapping(phases)))
    return found


async def _read_texts(store: Store, keys: Sequence[str]) -> list[Any]:
    """Return texts, `None` for those that are not there; an error where there is no text."""
    if store.clustered:
        return await store.send([("GET", key) for key in keys], tolerate=True)
    if not keys:
        return []
    texts: list[Any]
    [texts] = await store.send([("MGET", *keys)])
    missing = [number for number, text in enumerate(texts) if text is None]
    # It tells nothing of keys of another type.
    again = await store.send([("GET", keys[number]) for number in missing], tolerate=True)
    for number, text in zip(missing, again, strict=True):
        texts[number] = text
    return texts


async def _without_others(
    store: Store, batch_ids: Sequence[str], foreign: Mapping[str, Collection[str]]
) -> set[str]:
    """Return those of the batches in which we count every essay that was found."""
    # What others are known to have written may change while the server is asked.
    found = {batch_id: names for batch_id in batch_ids if (names := foreign.get(batch_id))}
    replies = await store.send([("HKEYS", store.keys.of(batch_id).essays) for batch_id in found])
    mixed = {
        batch_id
        for (batch_id, names), ours in zip(found.items(), replies, strict=True)
        if not {name.decode() for name in ours}.issuperset(names)
    }
    return set(batch_ids) - mixed


async def essay_ids_of(store: Store, batch_id: str) -> set[str]:
    """Return the essays that we count in a batch."""
    [names] = await store.send([("HKEYS", store.keys.of(batch_id).essays)])
    return {name.decode() for name in names}


async def read_rows(
    store: Store, batch_id: str, essay_ids: Iterable[str] | None, others: Iterable[str] = ()
) -> list[EssayRow]:
    """Return essays of a batch, each merged from its document and our copy.

    One whose key holds another type is in trouble, and there.

    Args:
        store: The server.
        batch_id: The batch.
        essay_ids: Only these; unknown ones are left out. `None`: all of them.
        others: Essays that we do not count but that may be there.
    """
    names = sorted(
        {*await essay_ids_of(store, batch_id), *others} if essay_ids is None else essay_ids
    )
    keys = store.keys.of(batch_id)
    commands: list[tuple[Any, ...]] = []
    for start in range(0, len(names), ESSAYS_PER_READ):
        part = names[start : start + ESSAYS_PER_READ]
        commands.append(("MGET", *(keys.essay_prefix + name for name in part)))
        commands.append(("HMGET", keys.essays, *part))
    replies = await store.send(commands)
    raws = [raw for reply in replies[::2] for raw in reply]
    copies = [copy for reply in replies[1::2] for copy in reply]
    rows = [
        EssayRow(batch_id, name, raw, copy)
        for name, raw, copy in zip(names, raws, copies, strict=True)
    ]
    await _find_other_types(store, keys.essay_prefix, [row for row in rows if row.raw is None])
    return [row for row in rows if row.raw is not None or row.copy is not None or row.trouble]


async def _find_other_types(store: Store, prefix: str, rows: Sequence[EssayRow]) -> None:
    """Note the trouble with those essays for which MGET found no text, but which are there."""
    commands = [("GET", prefix + row.essay_id) for row in rows]
    replies = await store.send(commands, tolerate=True) if commands else []
    for row, reply in zip(rows, replies, strict=True):
        if isinstance(reply, Exception):
            row.trouble = "its key holds another type"


async def without_keys(store: Store, batch_ids: Sequence[str]) -> list[str]:
    """Return those of the batches of which we have nothing."""
    names = [store.keys.of(batch_id) for batch_id in batch_ids]
    found = await store.send([("EXISTS", *keys.fixed) for keys in names])
    return [batch_id for batch_id, keys in zip(batch_ids, found, strict=True) if not keys]


async def read_uploads(store: Store, batch_id: str) -> list[tuple[str, str]]:
    """Return the uploads of a batch: status and id."""
    [names] = await store.send([("SMEMBERS", store.keys.of(batch_id).uploads)])
    return sorted(upload_of(name.decode()) for name in names)


async def page_of_batches(store: Store, after: str, limit: int) -> list[str]:
    """Return ids of batches that we have written, in their order."""
    start = b"(" + after.encode() if after else b"-"
    [names] = await store.send([("ZRANGE", BATCHES, start, "+", "BYLEX", "LIMIT", 0, limit)])
    return [name.decode() for name in names]

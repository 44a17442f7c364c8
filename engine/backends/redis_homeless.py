"""Results that name no batch, and which batches know an essay.

Two writers find each other in either order: who has such a result writes it first and then
looks for batches; who ties an essay to a batch says so first and then looks for results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.backends.redis_keys import homeless_key, homes_key
from engine.backends.redis_store import Store
from engine.clock import from_microseconds, to_microseconds
from engine.errors import CorruptDocument, RepositoryConflict
from engine.models import Homeless, StepFact, merge_homeless

_ATTEMPTS = 20

Kept = dict[str, Homeless]

_Stored = tuple[int, int, str, int, str, int, int | None, int | None]
_decoder = msgspec.json.Decoder(dict[str, _Stored])


async def keep_homeless(
    store: Store, facts: Sequence[StepFact]
) -> tuple[dict[str, Kept], dict[str, list[str]]]:
    """Keep results that name no batch.

    Returns:
        What was known of their essays before, and the batches that know those essays now.
    """
    before: dict[str, Kept] = {}
    by_essay: dict[str, list[StepFact]] = defaultdict(list)
    for fact in facts:
        by_essay[fact.essay_id].append(fact)
    pending = set(by_essay)
    for _ in range(_ATTEMPTS):
        if not pending:
            homes = await read_homes(store, before)
            return before, homes
        essay_ids = sorted(pending)
        raws = await store.send([("GET", homeless_key(name)) for name in essay_ids])
        changes: list[tuple[str, bytes | None, bytes]] = []
        changed: list[str] = []
        for essay_id, raw in zip(essay_ids, raws, strict=True):
            before[essay_id] = _decode(essay_id, raw)
            after = dict(before[essay_id])
            for fact in by_essay[essay_id]:
                after[fact.step] = merge_homeless(after.get(fact.step), fact)
            if after != before[essay_id]:
                changes.append((homeless_key(essay_id), raw, _encode(after)))
                changed.append(essay_id)
        pending = {changed[number] for number in await store.swap(changes)}
    raise RepositoryConflict("results without a batch were changed by others again and again")


async def read_homes(store: Store, essay_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the batches that know each of the essays."""
    names = list(essay_ids)
    found = await store.send([("SMEMBERS", homes_key(name)) for name in names])
    return {
        name: sorted(batch_id.decode() for batch_id in batch_ids)
        for name, batch_ids in zip(names, found, strict=True)
    }


async def tie(store: Store, pairs: Sequence[tuple[str, str]]) -> dict[str, Kept]:
    """Note that batches know essays; return results of those essays that name no batch.

    Args:
        store: The server.
        pairs: Batch and essay.
    """
    essay_ids = [essay_id for _, essay_id in pairs]
    homes = [homes_key(essay_id) for essay_id in essay_ids]
    results = [homeless_key(essay_id) for essay_id in essay_ids]
    raws = await store.tie([batch_id for batch_id, _ in pairs], homes, results)
    return {
        essay_id: _decode(essay_id, raw)
        for essay_id, raw in zip(essay_ids, raws, strict=True)
        if raw is not None
    }


def _encode(kept: Mapping[str, Homeless]) -> bytes:
    return msgspec.json.encode(
        {
            step: (
                one.fact.outcome,
                to_microseconds(one.fact.time),
                one.fact.event_id,
                one.fact.detail,
                one.fact.metadata,
                to_microseconds(one.earliest),
                None if one.first is None else to_microseconds(one.first),
                None if one.last is None else to_microseconds(one.last),
            )
            for step, one in kept.items()
        }
    )


def _decode(essay_id: str, raw: bytes | None) -> Kept:
    if raw is None:
        return {}
    try:
        stored = _decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise CorruptDocument(f"{homeless_key(essay_id)!r} cannot be read: {error}") from None
    kept: Kept = {}
    for step, columns in stored.items():
        outcome, time, event_id, detail, metadata, earliest, first, last = columns
        kept[step] = Homeless(
            StepFact(
                "", essay_id, step, outcome, from_microseconds(time), event_id, detail, metadata
            ),
            from_microseconds(earliest),
            None if first is None else from_microseconds(first),
            None if last is None else from_microseconds(last),
        )
    return kept

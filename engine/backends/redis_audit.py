"""What the keys of the services say of a batch's counts: for the audit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from engine.auditing import Claim
from engine.backends.redis_decode import Unreadable, decode
from engine.backends.redis_rows import EssayRow
from engine.backends.redis_store import Store
from engine.models import count_step, is_aggregate

SUMMARY: Final = "stored summary"
DOCUMENTS: Final = "documents"


async def read_stored_summary(store: Store, batch_id: str) -> list[Claim]:
    """Return what the published summary says, whoever wrote it; it has no failures."""
    key = store.keys.of(batch_id).summary
    [raw] = await store.send([("GET", key)], tolerate=True)
    return claims_of_summary(raw) if isinstance(raw, bytes) else []


def claims_of_summary(raw: bytes) -> list[Claim]:
    """Return what a published summary says; nothing if it cannot be read."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return []
    return [
        Claim(SUMMARY, step, _number(counts, "completed"), None, _number(counts, "total"))
        for step, counts in sorted(told.items() if isinstance(told, dict) else ())
        if isinstance(counts, dict)
    ]


def _number(counts: dict[str, object], member: str) -> int | None:
    value = counts.get(member)
    return value if type(value) is int else None


def claims_of_documents(batch_id: str, rows: Sequence[EssayRow]) -> list[Claim]:
    """Return what the documents alone say, where our copies of them know more or other things."""
    counts: dict[str, list[int]] = {}
    known: dict[str, list[int]] = {}
    for row in rows:
        if is_aggregate(batch_id, row.essay_id):
            continue
        for step, outcome in row.document.outcomes().items():
            count_step(known, step, 0, outcome)
        for step, outcome in _outcomes(batch_id, row).items():
            count_step(counts, step, 0, outcome)
    return [
        Claim(DOCUMENTS, step, found[0], found[1], None)
        for step, pair in sorted(known.items())
        if (found := counts.get(step, [0, 0])) != pair
    ]


def _outcomes(batch_id: str, row: EssayRow) -> dict[str, int]:
    """Return what the document of an essay says by itself."""
    if row.raw is None:
        return {}
    try:
        return decode(batch_id, row.essay_id, row.raw).outcomes()
    except Unreadable:
        return {}

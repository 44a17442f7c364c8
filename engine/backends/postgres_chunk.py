"""One chunk of facts inside one transaction: load what it touches, merge, write it back.

A large chunk is merged part by part, so that the server takes in one part while the next is
being merged here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from engine.backends.postgres_known import Known
from engine.backends.postgres_rows import Rows
from engine.backends.postgres_session import Connection
from engine.backends.postgres_versions import number_changes
from engine.merge import Merge
from engine.models import Fact
from engine.repository import Recorded

_PART: Final = 250


async def record_chunk(
    connection: Connection, known: Known, version: int, facts: Sequence[Fact]
) -> Recorded:
    """Merge a chunk of facts inside the open transaction, which makes a version."""
    rows = Rows(connection, known)
    await rows.load(facts)
    merge = Merge(rows)
    recorded = Recorded([], [])
    news: list[bool] = []
    writing: asyncio.Task[None] | None = None
    try:
        for first in range(0, len(facts), _PART):
            recorded = merge.apply(facts[first : first + _PART])
            news += recorded.news
            part = rows.take()
            if writing is not None:
                await writing
            writing = asyncio.create_task(rows.write(part))
            await asyncio.sleep(0)  # it is on its way before the next part is merged
        if writing is not None:
            await writing
    finally:
        if writing is not None and writing.cancel():
            await asyncio.wait([writing])
    await rows.write_batches()
    versions = await number_changes(connection, version, rows.changed_batches)
    return Recorded(news, recorded.changes, versions=versions)

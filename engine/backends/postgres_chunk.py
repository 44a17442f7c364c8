"""One chunk of facts inside one transaction: load what it touches, merge, write it back."""

from __future__ import annotations

from collections.abc import Sequence

from engine.backends.postgres_known import Known
from engine.backends.postgres_rows import Rows
from engine.backends.postgres_session import Connection
from engine.backends.postgres_versions import number_changes
from engine.merge import Merge
from engine.models import Fact
from engine.repository import Recorded


async def record_chunk(
    connection: Connection, known: Known, version: int, facts: Sequence[Fact]
) -> Recorded:
    """Merge a chunk of facts inside the open transaction, which makes a version."""
    rows = Rows(connection, known)
    await rows.load(facts)
    recorded = Merge(rows).apply(facts)
    await rows.write()
    versions = await number_changes(connection, version, rows.changed_batches)
    return recorded._replace(versions=versions)

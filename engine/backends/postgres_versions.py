"""The versions of batches: which have changed since when, for a cache that has to be checked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from engine.backends.postgres_known import original
from engine.backends.postgres_session import Connection

# All parts of a statement see the versions as they were before it.
_NUMBER: Final = """
WITH before AS (SELECT batch_id, version FROM bcs.versions WHERE batch_id = ANY($1::text[]))
INSERT INTO bcs.versions AS known (batch_id, version, changed_at)
SELECT batch_id, $2, now() FROM unnest($1::text[]) AS changed (batch_id)
ON CONFLICT (batch_id) DO UPDATE SET version = excluded.version, changed_at = excluded.changed_at
RETURNING batch_id,
    coalesce((SELECT version FROM before WHERE before.batch_id = known.batch_id), 0)
"""

# Who goes on behind the last version of a page must not miss others that have the same.
_CHANGED: Final = """
SELECT batch_id, version FROM (
    SELECT batch_id, version FROM bcs.versions
    WHERE version > $1 AND changed_at > now() - make_interval(secs => $2)
    ORDER BY version FETCH FIRST $3 ROWS WITH TIES
) AS page ORDER BY version, batch_id
"""


async def number_changes(
    connection: Connection, version: int, keys: Collection[str]
) -> dict[str, tuple[int, int]]:
    """Give batches the version of this transaction; return it behind the one each had."""
    if not keys:
        return {}
    rows = await connection.fetch(_NUMBER, sorted(keys), version)
    return {original(key): (before, version) for key, before in rows}


async def read_changed(
    connection: Connection, version: int, within_seconds: float, limit: int
) -> list[tuple[str, int]]:
    """Return batches that changed after a version, with their newest, in its order."""
    rows = await connection.fetch(_CHANGED, version, within_seconds, limit)
    return [(original(key), newest) for key, newest in rows]

"""The table of the existing service: what others wrote there is read, our outcomes are added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from engine.backends.postgres_known import columns_of, original, stored
from engine.backends.postgres_session import Connection
from engine.merge import Identity
from engine.models import NOT_OUTCOMES, SUCCESSFUL, BatchRecord, PhaseFact, absorb_milestone

_LONGEST_BATCH_ID: Final = 255
_LONGEST_PHASE: Final = 100

OF_OTHERS: Final = "phase_metadata->>'recorded_by' IS DISTINCT FROM 'bcs-tui'"
"""The rows that are not our own; ours are known better from the milestones."""

_READ: Final = f"""
SELECT batch_id, phase_name, completed, completed_at FROM public.phase_completions
WHERE batch_id = ANY($1::text[]) AND {OF_OTHERS}
"""

_PUBLISH: Final = """
INSERT INTO public.phase_completions AS known
    (batch_id, phase_name, completed, completed_at, phase_metadata)
SELECT batch_id, phase, status = $5, coalesce(happened_at, now()), jsonb_build_object(
    'recorded_by', 'bcs-tui', 'source', 'event', 'phase_status', status)
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    AS ours (batch_id, phase, status, happened_at)
"""
_NEWER: Final = """
ON CONFLICT (batch_id, phase_name) DO UPDATE SET completed = excluded.completed,
    completed_at = excluded.completed_at, phase_metadata = excluded.phase_metadata
WHERE excluded.completed_at > known.completed_at
"""
# An outcome without a time is older than every other.
_ABSENT: Final = "ON CONFLICT (batch_id, phase_name) DO NOTHING"


async def read_outcomes_of_others(
    connection: Connection, batch_ids: Iterable[str]
) -> list[PhaseFact]:
    """Return what other services noted about the phases of batches."""
    rows = await connection.fetch(_READ, list(map(stored, batch_ids)))
    # In what others wrote, "not completed" also stands for a success with failures.
    return [
        PhaseFact(original(key), phase, SUCCESSFUL if completed else "failed", "", moment)
        for key, phase, completed, moment in rows
    ]


async def add_outcomes_of_others(
    connection: Connection, records: Mapping[str, BatchRecord]
) -> None:
    """Add to records what other services noted about the phases of these batches."""
    for fact in await read_outcomes_of_others(connection, records):
        absorb_milestone(records[fact.batch_id], fact)


async def publish_outcomes(
    connection: Connection,
    records: Mapping[str, BatchRecord],
    changed: Iterable[tuple[str, Identity]],
) -> None:
    """Write the newest outcome of every phase that has got one, unless the table has a newer."""
    dated: list[tuple[str, str, str, datetime | None]] = []
    undated: list[tuple[str, str, str, datetime | None]] = []
    phases = {
        (batch_id, identity[0])
        for batch_id, identity in changed
        if identity[0] and identity[1] not in NOT_OUTCOMES
    }
    for batch_id, phase in sorted(phases):
        key, name = stored(batch_id), stored(phase)
        if len(key) > _LONGEST_BATCH_ID or len(name) > _LONGEST_PHASE:
            continue  # the table cannot hold it; the milestones do
        mark = max(
            (
                mark
                for mark in records[batch_id].milestones.values()
                if mark.phase == phase and mark.status not in NOT_OUTCOMES
            ),
            key=lambda mark: (mark.when, mark.identity),
        )
        (dated if mark.time else undated).append((key, name, mark.status, mark.time))
    await _publish(connection, _PUBLISH + _NEWER, dated)
    await _publish(connection, _PUBLISH + _ABSENT, undated)


async def _publish(
    connection: Connection, sql: str, rows: Sequence[tuple[str, str, str, datetime | None]]
) -> None:
    if rows:
        await connection.execute(sql, *columns_of(rows), SUCCESSFUL)

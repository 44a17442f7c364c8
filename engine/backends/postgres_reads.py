"""Everything that is read back from the database, each in the reader's own transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from engine.backends.postgres_known import (
    aware,
    columns_of,
    load_records,
    original,
    step_from,
    stored,
)
from engine.backends.postgres_phases import OF_OTHERS, add_outcomes_of_others
from engine.backends.postgres_session import Connection
from engine.models import BatchRecord, EssayState, StepFact, aggregate_essay_id
from engine.repository import BatchColumns, DeadLetter

# A batch of which only another service has noted a phase is a batch as well.
_PAGE: Final = f"""
(SELECT batch_id FROM bcs.batches WHERE batch_id > $1 {{chosen}} ORDER BY 1 LIMIT $2)
UNION
(SELECT DISTINCT batch_id COLLATE "C" FROM public.phase_completions
    WHERE batch_id COLLATE "C" > $1 AND {OF_OTHERS} {{chosen}} ORDER BY 1 LIMIT $2)
ORDER BY 1 LIMIT $2
"""
_ANY: Final = _PAGE.format(chosen="")
_CHOSEN: Final = _PAGE.format(chosen="AND batch_id = ANY($3::text[])")


async def read_records(
    connection: Connection, batch_ids: Iterable[str] | None, after: str, limit: int
) -> list[BatchRecord]:
    """Return a page of batches."""
    if batch_ids is None:
        rows = await connection.fetch(_ANY, stored(after), limit)
    else:
        names = list(map(stored, set(batch_ids)))
        rows = await connection.fetch(_CHOSEN, stored(after), limit, names)
    page = [original(row[0]) for row in rows]
    if not page:
        return []
    known = await load_records(connection, page)
    records = {batch_id: known.get(batch_id) or BatchRecord(batch_id) for batch_id in page}
    await add_outcomes_of_others(connection, records)
    return list(records.values())


async def read_batch(connection: Connection, batch_id: str) -> BatchColumns | None:
    """Return a batch with the outcomes of all of its essays; `None` for an unknown one."""
    records = await read_records(connection, [batch_id], "", 1)
    if not records:
        return None
    [record] = records
    counted = "WHERE batch_id = $1 AND essay_id <> $2"
    parameters = (stored(batch_id), stored(aggregate_essay_id(batch_id)))
    sql = f"SELECT essay_id FROM bcs.essays {counted} ORDER BY essay_id"
    keys = [row[0] for row in await connection.fetch(sql, *parameters)]
    position = {key: index for index, key in enumerate(keys)}
    outcomes = {step: bytearray(len(keys)) for step in record.counts}
    columns = {stored(step): column for step, column in outcomes.items()}
    sql = f"SELECT essay_id, step, outcome FROM bcs.essay_steps {counted}"
    for key, step, outcome in await connection.fetch(sql, *parameters):
        columns[step][position[key]] = outcome
    return BatchColumns(record, list(map(original, keys)), outcomes)


async def read_essays(
    connection: Connection,
    batch_id: str,
    essay_ids: Iterable[str] | None,
    after: str,
    limit: int,
) -> list[EssayState]:
    """Return a page of essays of a batch, with their results."""
    columns = (
        "SELECT essay_id, created_at, file_name, file_name_at FROM bcs.essays"
        " WHERE batch_id = $1 AND essay_id > $2 AND {} ORDER BY essay_id LIMIT $3"
    )
    if essay_ids is None:
        sql = columns.format("essay_id <> $4")
        chosen: str | list[str] = stored(aggregate_essay_id(batch_id))
    else:
        sql = columns.format("essay_id = ANY($4::text[])")
        chosen = list(map(stored, set(essay_ids)))
    rows = await connection.fetch(sql, stored(batch_id), stored(after), limit, chosen)
    steps = await _read_steps(connection, batch_id, [row[0] for row in rows])
    return [
        EssayState(original(row[0]), aware(row[1]), steps[row[0]], original(row[2]), aware(row[3]))
        for row in rows
    ]


async def read_uploads(connection: Connection, batch_id: str) -> list[tuple[str, str]]:
    """Return the uploads of a batch."""
    sql = "SELECT status, value FROM bcs.uploads WHERE batch_id = $1 ORDER BY status, value"
    return [(row[0], original(row[1])) for row in await connection.fetch(sql, stored(batch_id))]


async def _read_steps(
    connection: Connection, batch_id: str, keys: Sequence[str]
) -> dict[str, dict[str, StepFact]]:
    """Return the results of essays, by their keys."""
    found: dict[str, dict[str, StepFact]] = {key: {} for key in keys}
    sql = (
        "SELECT essay_id, step, outcome, happened_at, event_id, detail, metadata"
        " FROM bcs.essay_steps WHERE batch_id = $1 AND essay_id = ANY($2::text[])"
    )
    for row in await connection.fetch(sql, stored(batch_id), keys) if keys else ():
        step = original(row[1])
        found[row[0]][step] = step_from(batch_id, original(row[0]), step, row[2:])
    return found


_KEEP: Final = """
INSERT INTO bcs.dead_letters
    (place, received_at, source, position, reason, message, field, payload, sha256, size)
SELECT * FROM unnest($1::bytea[], $2::timestamptz[], $3::text[], $4::text[], $5::text[],
    $6::text[], $7::text[], $8::bytea[], $9::text[], $10::bigint[])
ON CONFLICT (place) DO NOTHING
"""


async def write_letters(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters inside the open transaction, each once."""
    rows = []
    for letter in letters:
        # The name of a file may hold bytes that are no text.
        source = letter.source.encode(errors="backslashreplace").decode()
        place = "\0".join((source, letter.position, letter.sha256)).encode()
        words = (source, letter.position, letter.reason, letter.message, letter.field)
        rows.append(
            (
                hashlib.sha256(place).digest(),
                letter.received_at,
                *map(stored, words),
                letter.payload,
                letter.sha256,
                letter.size,
            )
        )
    if rows:
        await connection.execute(_KEEP, *columns_of(rows))


async def count_letters(connection: Connection) -> int:
    """Return the number of dead letters."""
    return int(await connection.fetchval("SELECT count(*) FROM bcs.dead_letters"))


async def read_letters(connection: Connection, after: int, limit: int) -> list[DeadLetter]:
    """Return a page of dead letters."""
    rows = await connection.fetch(
        "SELECT received_at, source, position, reason, message, field, payload, sha256, size"
        " FROM bcs.dead_letters ORDER BY arrival LIMIT $1 OFFSET $2",
        limit,
        after,
    )
    letters = []
    for moment, *words, payload, sha256, size in rows:
        source, position, reason, message, field = map(original, words)
        letters.append(
            DeadLetter(
                aware(moment), source, position, reason, message, field, payload, sha256, size
            )
        )
    return letters

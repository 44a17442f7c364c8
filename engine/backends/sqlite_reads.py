"""Everything that is read back from the database, each in the reader's own transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from engine.backends.sqlite_known import (
    RECORD_COLUMNS,
    StepNames,
    complete_records,
    load_records,
    select_in,
    step_from,
)
from engine.clock import from_microseconds, to_microseconds
from engine.models import BatchRecord, EssayState, StepFact, aggregate_essay_id
from engine.repository import BatchColumns, DeadLetter


def read_batch(connection: sqlite3.Connection, batch_id: str) -> BatchColumns | None:
    """Return a batch with the outcomes of all of its essays; `None` for an unknown one."""
    found = load_records(connection, [batch_id])
    if not found:
        return None
    [(batch_key, record)] = found
    counted = "WHERE batch_key = ? AND essay_id != ?"
    parameters = (batch_key, aggregate_essay_id(batch_id))
    rows = connection.execute(
        f"SELECT essay_key, essay_id FROM essays {counted} ORDER BY essay_key", parameters
    ).fetchall()
    position = {row[0]: index for index, row in enumerate(rows)}
    outcomes = {step: bytearray(len(rows)) for step in record.counts}
    keys = StepNames(connection).keys
    columns = {keys[step]: column for step, column in outcomes.items()}
    for essay_key, step_key, outcome in connection.execute(
        f"SELECT essay_key, step_key, outcome FROM essays JOIN steps USING (essay_key) {counted}",
        parameters,
    ):
        columns[step_key][position[essay_key]] = outcome
    return BatchColumns(record, [row[1] for row in rows], outcomes)


def read_records(
    connection: sqlite3.Connection, batch_ids: Iterable[str] | None, after: str, limit: int
) -> list[BatchRecord]:
    """Return a page of batches."""
    if batch_ids is None:
        sql = f"SELECT {RECORD_COLUMNS} FROM batches WHERE batch_id > ? ORDER BY batch_id LIMIT ?"
        rows: Iterable[tuple[Any, ...]] = connection.execute(sql, (after, limit))
    else:
        names = sorted({name for name in batch_ids if name > after})
        sql = f"SELECT {RECORD_COLUMNS} FROM batches WHERE batch_id IN ({{}}) ORDER BY batch_id"
        rows = islice(select_in(connection, sql, names), limit)
    return [record for _, record in complete_records(connection, rows)]


def read_essays(
    connection: sqlite3.Connection,
    batch_id: str,
    essay_ids: Iterable[str] | None,
    after: str,
    limit: int,
) -> list[EssayState]:
    """Return a page of essays of a batch, with their results."""
    columns = (
        "SELECT essay_key, essay_id, created_us, file_name, file_name_us FROM essays"
        " WHERE batch_key = (SELECT batch_key FROM batches WHERE batch_id = ?) AND "
    )
    if essay_ids is None:
        sql = columns + "essay_id > ? AND essay_id != ? ORDER BY essay_id LIMIT ?"
        parameters = (batch_id, after, aggregate_essay_id(batch_id), limit)
        rows = connection.execute(sql, parameters).fetchall()
    else:
        names = sorted({name for name in essay_ids if name > after})
        sql = columns + "essay_id IN ({}) ORDER BY essay_id"
        rows = list(islice(select_in(connection, sql, names, batch_id), limit))
    steps = _read_steps(connection, batch_id, {row[0]: row[1] for row in rows})
    return [
        EssayState(
            essay_id,
            from_microseconds(created_us),
            steps[key],
            file_name,
            from_microseconds(file_name_us),
        )
        for key, essay_id, created_us, file_name, file_name_us in rows
    ]


def _read_steps(
    connection: sqlite3.Connection, batch_id: str, essays: dict[int, str]
) -> dict[int, dict[str, StepFact]]:
    """Return the results of essays, by their keys."""
    found: dict[int, dict[str, StepFact]] = {key: {} for key in essays}
    sql = (
        "SELECT essay_key, name, outcome, time_us, event_id, detail, metadata"
        " FROM steps JOIN step_names USING (step_key)"
        " WHERE essay_key IN (SELECT value FROM json_each(?))"
    )
    for row in connection.execute(sql, (json.dumps(list(essays)),)):
        key, step = row[:2]
        found[key][step] = step_from(batch_id, essays[key], step, row[2:])
    return found


def read_uploads(connection: sqlite3.Connection, batch_id: str) -> list[tuple[str, str]]:
    """Return the uploads of a batch."""
    rows = connection.execute(
        "SELECT status, value FROM uploads JOIN batches USING (batch_key)"
        " WHERE batch_id = ? ORDER BY status, value",
        (batch_id,),
    )
    return rows.fetchall()


def write_letters(connection: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters inside the open transaction, each once."""
    connection.executemany(
        "INSERT OR IGNORE INTO dead_letters (received_us, source, position, reason, message,"
        " field, payload, sha256, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                to_microseconds(letter.received_at),
                # The name of a file may hold bytes that are no text.
                letter.source.encode(errors="backslashreplace").decode(),
                letter.position,
                letter.reason,
                letter.message,
                letter.field,
                letter.payload,
                letter.sha256,
                letter.size,
            )
            for letter in letters
        ),
    )


def count_letters(connection: sqlite3.Connection) -> int:
    """Return the number of dead letters."""
    return int(connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0])


def read_letters(connection: sqlite3.Connection, after: int, limit: int) -> list[DeadLetter]:
    """Return a page of dead letters."""
    rows = connection.execute(
        "SELECT received_us, source, position, reason, message, field, payload, sha256, size"
        " FROM dead_letters ORDER BY arrival LIMIT ? OFFSET ?",
        (limit, after),
    )
    return [DeadLetter(from_microseconds(row[0]), *row[1:]) for row in rows]

"""What the writing connection knows of the database: rows as objects, loaded set by set."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from engine.clock import from_microseconds, to_microseconds
from engine.merge import KnownBatch, KnownEssay
from engine.models import BatchRecord, Milestone, StepFact

_SLICE: Final = 10_000  # SQLite allows 32,766 parameters in a statement.
_MOST_ESSAYS: Final = 100_000
_MOST_BATCHES: Final = 5_000

RECORD_COLUMNS: Final = (
    "batch_key, batch_id, expected, seen, owner, owner_us, first_us, last_us, provisioned, rejected"
)


class Known:
    """Batches, essays and step names seen lately; forgotten when another process wrote."""

    def __init__(self) -> None:
        self._data_version = -1
        self.forget()

    def forget(self) -> None:
        """Know nothing, so that all is read again."""
        self.batches: dict[str, KnownBatch] = {}
        self.steps: StepNames | None = None
        self._next_batch_key = self.next_essay_key = 0

    def refresh(self, connection: sqlite3.Connection) -> StepNames:
        """Bring everything up to date with the database inside a new transaction."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        essays = sum(len(batch.essays) for batch in self.batches.values())
        if (
            version != self._data_version
            or essays > _MOST_ESSAYS
            or len(self.batches) > _MOST_BATCHES
        ):
            self.forget()
        if self.steps is None:
            self._data_version = version
            self.steps = StepNames(connection)
            self._next_batch_key = _next_key(connection, "batches", "batch_key")
            self.next_essay_key = _next_key(connection, "essays", "essay_key")
        return self.steps

    def take_essay_key(self) -> int:
        """Return a key that no essay has."""
        self.next_essay_key += 1
        return self.next_essay_key - 1

    def load_batches(self, connection: sqlite3.Connection, batch_ids: Iterable[str]) -> set[str]:
        """Make batches known; return those that are not in the database yet."""
        missing = [batch_id for batch_id in batch_ids if batch_id not in self.batches]
        for key, record in load_records(connection, missing):
            self.batches[record.batch_id] = KnownBatch(key, record, complete=False)
        new = {batch_id for batch_id in missing if batch_id not in self.batches}
        for batch_id in sorted(new):
            batch = KnownBatch(self._next_batch_key, BatchRecord(batch_id), complete=True)
            self.batches[batch_id] = batch
            self._next_batch_key += 1
        return new


class StepNames:
    """Step names and the small integers that stand for them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT name, step_key FROM step_names")
        self.keys: dict[str, int] = dict(rows.fetchall())
        self.names = {key: name for name, key in self.keys.items()}

    def add(self, connection: sqlite3.Connection, name: str) -> int:
        """Return the key of a name, giving it one if it has none."""
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = len(self.keys) + 1
            self.names[key] = name
            connection.execute("INSERT INTO step_names VALUES (?, ?)", (key, name))
        return key


def load_essays(
    connection: sqlite3.Connection, batch: KnownBatch, essay_ids: Iterable[str]
) -> None:
    """Make those of the essays known that the database has."""
    if batch.complete:
        return
    sql = (
        "SELECT essay_key, essay_id, created_us, file_name, file_name_us FROM essays"
        " WHERE batch_key = ? AND essay_id IN ({})"
    )
    missing = [essay_id for essay_id in essay_ids if essay_id not in batch.essays]
    for key, essay_id, created_us, file_name, file_name_us in select_in(
        connection, sql, missing, batch.key
    ):
        batch.essays[essay_id] = KnownEssay(
            key,
            batch.key,
            essay_id,
            from_microseconds(created_us),
            file_name,
            from_microseconds(file_name_us),
        )


def load_records(
    connection: sqlite3.Connection, batch_ids: Iterable[str]
) -> list[tuple[int, BatchRecord]]:
    """Return the keys and records of those batches that the database has."""
    sql = f"SELECT {RECORD_COLUMNS} FROM batches WHERE batch_id IN ({{}})"
    return complete_records(connection, select_in(connection, sql, batch_ids))


def complete_records(
    connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]
) -> list[tuple[int, BatchRecord]]:
    """Return records from rows of `RECORD_COLUMNS`, adding their counts and milestones."""
    records = {
        row[0]: BatchRecord(
            row[1],
            row[2],
            row[3],
            row[4],
            from_microseconds(row[5]),
            optional_time(row[6]),
            optional_time(row[7]),
            row[8],
            row[9],
        )
        for row in rows
    }
    sql = (
        "SELECT batch_key, name, completed, failed FROM counters"
        " JOIN step_names USING (step_key) WHERE batch_key IN ({})"
    )
    for key, name, completed, failed in select_in(connection, sql, records):
        records[key].counts[name] = [completed, failed]
    sql = "SELECT * FROM milestones WHERE batch_key IN ({})"
    for key, phase, status, value, run, time_us in select_in(connection, sql, records):
        mark = Milestone(phase, status, value, run, optional_time(time_us))
        records[key].milestones[mark.identity] = mark
    return list(records.items())


def step_from(
    batch_id: str, essay_id: str, step: str, columns: tuple[int, int, str, int, str]
) -> StepFact:
    """Return the fact that a row of a step stands for."""
    outcome, time_us, event_id, detail, metadata = columns
    time = from_microseconds(time_us)
    return StepFact(batch_id, essay_id, step, outcome, time, event_id, detail, metadata)


def select_in(
    connection: sqlite3.Connection, sql: str, values: Iterable[object], *before: object
) -> Iterator[tuple[Any, ...]]:
    """Run a query whose `{}` stands for a list of values, a slice of them at a time.

    `before` are the parameters that come before the list.
    """
    listed = list(values)
    for start in range(0, len(listed), _SLICE):
        part = listed[start : start + _SLICE]
        marks = ",".join("?" * len(part))
        yield from connection.execute(sql.format(marks), (*before, *part))


def optional_time(microseconds: int | None) -> datetime | None:
    """Return a moment, or `None` for an unknown one."""
    return None if microseconds is None else from_microseconds(microseconds)


def optional_microseconds(moment: datetime | None) -> int | None:
    """Return a moment as microseconds, or `None` for an unknown one."""
    return None if moment is None else to_microseconds(moment)


def _next_key(connection: sqlite3.Connection, table: str, column: str) -> int:
    newest = connection.execute(f"SELECT max({column}) FROM {table}").fetchone()[0]
    return int(newest or 0) + 1

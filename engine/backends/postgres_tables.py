"""Rows on their way into the tables: new ones by binary COPY, changed ones by one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from engine.backends.postgres_known import columns_of
from engine.backends.postgres_session import Connection

Row: TypeAlias = tuple[Any, ...]


class Table(NamedTuple):
    """A table of the schema: its columns with their types, the first `keys` of them its key."""

    name: str
    keys: int
    columns: dict[str, str]

    @property
    def upsert(self) -> str:
        """The statement that inserts rows, or replaces what they say of a known key."""
        names = list(self.columns)
        arrays = ", ".join(
            f"${place}::{kind}[]" for place, kind in enumerate(self.columns.values(), 1)
        )
        values = ", ".join(f"{name} = excluded.{name}" for name in names[self.keys :])
        return (
            f"INSERT INTO bcs.{self.name} ({', '.join(names)}) SELECT * FROM unnest({arrays})"
            f" ON CONFLICT ({', '.join(names[: self.keys])}) DO UPDATE SET {values}"
        )


_RESULT: Final = {
    "outcome": "smallint",
    "happened_at": "timestamptz",
    "event_id": "text",
    "detail": "smallint",
    "metadata": "text",
}

BATCHES: Final = Table(
    "batches",
    1,
    {
        "batch_id": "text",
        "expected": "bigint",
        "seen": "bigint",
        "owner": "text",
        "owner_at": "timestamptz",
        "first_at": "timestamptz",
        "last_at": "timestamptz",
        "provisioned": "bigint",
        "rejected": "bigint",
    },
)
ESSAYS: Final = Table(
    "essays",
    2,
    {
        "batch_id": "text",
        "essay_id": "text",
        "created_at": "timestamptz",
        "file_name": "text",
        "file_name_at": "timestamptz",
    },
)
STEPS: Final = Table(
    "essay_steps", 3, {"batch_id": "text", "essay_id": "text", "step": "text", **_RESULT}
)
COUNTERS: Final = Table(
    "counters", 2, {"batch_id": "text", "step": "text", "completed": "bigint", "failed": "bigint"}
)
MILESTONES: Final = Table(
    "milestones",
    5,
    {
        "batch_id": "text",
        "phase": "text",
        "status": "text",
        "value": "text",
        "run": "text",
        "happened_at": "timestamptz",
    },
)
UPLOADS: Final = Table("uploads", 3, {"batch_id": "text", "status": "text", "value": "text"})
HOMELESS: Final = Table(
    "homeless_steps",
    2,
    {
        "essay_id": "text",
        "step": "text",
        **_RESULT,
        "earliest_at": "timestamptz",
        "first_at": "timestamptz",
        "last_at": "timestamptz",
    },
)


async def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows whose keys the table does not have."""
    if rows:
        await connection.copy_records_to_table(
            table.name, records=rows, columns=list(table.columns), schema_name="bcs"
        )


async def upsert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, or replace those of the same keys."""
    if rows:
        await connection.execute(table.upsert, *columns_of(rows))

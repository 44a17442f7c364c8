"""Many rows of one table at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

_SLABS: Final = (2048, 1024, 512, 256, 128, 64, 32)
"""Rows per statement. Whenever SQLite has done one, its thread has to wait until the others let
it go on: up to 5 ms. A statement of any other length would have to be compiled first."""

_WIDTHS: Final = {
    "batches": 10,
    "essays": 7,
    "steps": 7,
    "counters": 4,
    "milestones": 6,
    "uploads": 3,
    "homeless_steps": 12,
}


def insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add rows of which none is there yet; one that is ends the transaction.

    That is what `OR ROLLBACK` is for: to be able to take back only the statement, SQLite would
    copy every page that it touches.
    """
    start = 0
    for slab in _SLABS:
        sql = _statement("INSERT OR ROLLBACK", table, slab)
        while len(rows) - start >= slab:
            part = rows[start : start + slab]
            connection.execute(sql, tuple(chain.from_iterable(part)))
            start += slab
    connection.executemany(_statement("INSERT OR ROLLBACK", table, 1), rows[start:])


def replace(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows over those of the same key, if there are any."""
    connection.executemany(_statement("REPLACE", table, 1), rows)


@cache
def _statement(verb: str, table: str, rows: int) -> str:
    row = "(" + ",".join("?" * _WIDTHS[table]) + ")"
    return f"{verb} INTO {table} VALUES " + ",".join([row] * rows)

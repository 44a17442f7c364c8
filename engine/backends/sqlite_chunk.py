"""One chunk of facts inside one transaction: load what it touches, merge, write it back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from engine.backends.sqlite_known import Known
from engine.backends.sqlite_rows import Rows
from engine.merge import Merge
from engine.models import Fact
from engine.repository import Recorded


def record_chunk(connection: sqlite3.Connection, known: Known, facts: Sequence[Fact]) -> Recorded:
    """Merge a chunk of facts inside the open transaction."""
    rows = Rows(connection, known)
    rows.load(facts)
    recorded = Merge(rows).apply(facts)
    rows.write()
    return recorded

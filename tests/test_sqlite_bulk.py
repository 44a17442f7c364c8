"""Many rows at once: the same as few at a time, and all or none of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.backends.sqlite import SqliteBatchStateRepository
from engine.backends.sqlite_bulk import insert
from engine.backends.sqlite_file import transaction
from engine.models import EssaysFact, Fact, StepFact

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ESSAYS = 700


def facts() -> Iterator[Fact]:
    """Results of every essay, some without their batch, before and behind the essays."""
    for number in range(ESSAYS):
        moment = START + timedelta(seconds=number)
        essay_id = f"e{number * 7919 % ESSAYS:03}"
        batch_id = f"b{number * 7919 % ESSAYS % 3}"
        yield StepFact("", essay_id, "nlp", 2, moment, f"nlp{number}", 1, '{"a": 1}')
        yield StepFact(batch_id, essay_id, "spellcheck", 1, moment, f"s{number}", 1)
        yield EssaysFact(f"b{number % 2}", (essay_id,), moment, f"{essay_id}.txt")


async def recorded(path: Path, given: list[Fact], size: int) -> list[object]:
    async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
        for first in range(0, len(given), size):
            await repository.record(given[first : first + size])
        records = await repository.summaries()
        return [(record, await repository.essays(record.batch_id)) for record in records]


async def test_the_size_of_a_chunk_makes_no_difference(tmp_path: Path) -> None:
    given = list(facts())
    few = await recorded(tmp_path / "few.db", given, 10)
    assert await recorded(tmp_path / "all.db", given, len(given)) == few
    assert await recorded(tmp_path / "all.db", given, len(given)) == few
    better = [
        StepFact(f"b{number % 3}", f"e{number:03}", "spellcheck", 2, START)
        for number in range(ESSAYS)
    ]
    few = await recorded(tmp_path / "few.db", better, 10)
    assert await recorded(tmp_path / "all.db", better, ESSAYS) == few
    assert len(few) == 3


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("CREATE TABLE uploads (a INTEGER, b, c, PRIMARY KEY (a)) WITHOUT ROWID")
        yield database


def rows(count: int, first: int = 0) -> list[tuple[int, str, str]]:
    return [(number, f"b{number}", f"c{number}") for number in range(first, first + count)]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 511, 512, 513, 576, 577, 1100])
def test_every_row_is_written_once(connection: sqlite3.Connection, count: int) -> None:
    with transaction(connection, "IMMEDIATE"):
        insert(connection, "uploads", rows(count))
    assert connection.execute("SELECT * FROM uploads ORDER BY a").fetchall() == rows(count)


@pytest.mark.parametrize("place", [3, 600, 649])
def test_a_row_that_is_there_ends_the_transaction(
    connection: sqlite3.Connection, place: int
) -> None:
    connection.execute("INSERT INTO uploads VALUES (?, 'x', 'y')", (place,))
    with pytest.raises(sqlite3.IntegrityError), transaction(connection, "IMMEDIATE"):
        insert(connection, "uploads", rows(650))
    assert connection.execute("SELECT * FROM uploads").fetchall() == [(place, "x", "y")]
    assert not connection.in_transaction

"""Database files of older schemas are brought up to date, and nothing in them is lost."""

from __future__ import annotations

import os
import sqlite3
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.backends import sqlite_file
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.backends.sqlite_file import id_number
from engine.clock import to_microseconds
from engine.errors import SettingsError
from engine.models import COMPLETED, FAILED, RICH, EssaysFact, StepFact

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
START_US = to_microseconds(START)
LATER = START + timedelta(minutes=1)
OLDER = range(1, len(sqlite_file.schemas()))


def put(path: Path, version: int) -> None:
    """Make a file as that version did: two batches, three essays, two results without a batch."""
    with closing(sqlite3.connect(path)) as connection:
        for script in sqlite_file.schemas()[:version]:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.executemany(
            "INSERT INTO batches VALUES (?, ?, 2, ?, 'owner', ?, ?, ?, 0, 0)",
            [
                (1, "b1", 2, START_US, START_US, START_US),
                (2, "b2", 1, START_US, START_US, START_US),
            ],
        )
        connection.executemany(
            "INSERT INTO essays VALUES (?, ?, ?, ?, ?, ?)",
            [
                (1, 1, "e1", START_US, "a.txt", START_US),
                (2, 1, "e2", START_US, "", 0),
                (3, 2, "e1", START_US, "", 0),
            ],
        )
        connection.executemany("INSERT INTO step_names VALUES (?, ?)", [(1, "nlp"), (2, "ai")])
        connection.execute(
            "INSERT INTO steps VALUES (1, 1, ?, ?, 'event', 2, '{}')", (COMPLETED, START_US)
        )
        connection.execute("INSERT INTO counters VALUES (1, 1, 1, 0)")
        connection.executemany(
            "INSERT INTO homeless_steps VALUES (?, ?, ?, ?, ?, 2, '{}', ?, ?, ?)",
            [
                ("e9", 1, FAILED, START_US, "kept", START_US, START_US, START_US),
                ("e8", 2, COMPLETED, START_US, "lone", START_US, None, None),
            ],
        )
        connection.commit()


def result(batch_id: str, essay_id: str, step: str, outcome: int, event_id: str) -> StepFact:
    return StepFact(batch_id, essay_id, step, outcome, START, event_id, RICH)


@pytest.mark.parametrize("version", OLDER)
async def test_what_was_in_an_older_file_is_still_known(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.db"
    put(path, version)
    async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
        records = await repository.summaries()
        essays = await repository.essays("b1")
    assert [(record.batch_id, record.expected, record.seen) for record in records] == [
        ("b1", 2, 2),
        ("b2", 2, 1),
    ]
    assert records[0].counts == {"nlp": [1, 0]}
    assert [(essay.essay_id, essay.file_name) for essay in essays] == [("e1", "a.txt"), ("e2", "")]
    assert [*essays[0].steps.values()] == [result("b1", "e1", "nlp", COMPLETED, "event")]


@pytest.mark.parametrize("version", OLDER)
async def test_essays_of_an_older_file_are_found_by_a_result_without_a_batch(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "x.db"
    put(path, version)
    async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
        recorded = await repository.record([result("", "e1", "ai", COMPLETED, "new")])
        found = [(await repository.essays(name))[0].steps["ai"] for name in ("b1", "b2")]
    assert [change.fact.batch_id for change in recorded.changes] == ["b1", "b2"]
    assert found == [result(name, "e1", "ai", COMPLETED, "new") for name in ("b1", "b2")]


@pytest.mark.parametrize("version", OLDER)
async def test_kept_results_of_an_older_file_find_their_batch(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.db"
    put(path, version)
    async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
        await repository.record([result("", "e9", "nlp", COMPLETED, "better")])  # replaces a row
        await repository.record([EssaysFact("b1", ("e8", "e9"), LATER)])
        essays = {essay.essay_id: essay for essay in await repository.essays("b1")}
        [record] = await repository.summaries(["b1"])
    assert [*essays["e9"].steps.values()] == [result("b1", "e9", "nlp", COMPLETED, "better")]
    assert [*essays["e8"].steps.values()] == [result("b1", "e8", "ai", COMPLETED, "lone")]
    assert essays["e8"].created_at == START
    assert record.counts == {"nlp": [2, 0], "ai": [1, 0]}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM homeless_steps").fetchone() == (2,)


@pytest.mark.parametrize("version", OLDER)
async def test_an_older_file_is_not_touched_by_who_only_reads(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.db"
    put(path, version)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=f"has schema version {version}, .* for writing once"):
        await SqliteBatchStateRepository.open(path, read_only=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.db"]


@pytest.mark.parametrize("version", OLDER)
async def test_an_upgraded_file_has_the_schema_of_a_new_one(tmp_path: Path, version: int) -> None:
    put(tmp_path / "old.db", version)
    found = []
    for name in ("old.db", "new.db"):
        async with aclosing(await SqliteBatchStateRepository.open(tmp_path / name)):
            pass
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            found.append(connection.execute("SELECT sql FROM sqlite_schema ORDER BY 1").fetchall())
    assert found[0] == found[1]


async def test_ids_that_share_a_number_are_not_taken_for_one_another(tmp_path: Path) -> None:
    one, other = "plumless", "buckeroo"
    assert id_number(one) == id_number(other)
    path = tmp_path / "x.db"
    async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
        await repository.record(
            [EssaysFact("b1", (one,), START), EssaysFact("b2", (other,), START)]
        )
        await repository.record([result("", one, "nlp", COMPLETED, "one")])
        await repository.record([result("", other, "nlp", FAILED, "other")])
        await repository.record([EssaysFact("b3", (other,), START)])
        found = {
            name: [(essay.essay_id, essay.steps["nlp"].event_id) for essay in essays]
            for name in ("b1", "b2", "b3")
            for essays in [await repository.essays(name)]
        }
    assert found == {"b1": [(one, "one")], "b2": [(other, "other")], "b3": [(other, "other")]}

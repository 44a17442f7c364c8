"""Bad files, full disks, locks and cancelled tasks: one clear line, nothing lost or overwritten."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from msgspec.structs import replace

import engine
from engine.backends import sqlite as sqlite_module
from engine.backends import sqlite_file, sqlite_known
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.backends.sqlite_rows import Rows
from engine.engine import Engine
from engine.errors import BCSError, CorruptDocument, RepositoryUnavailable, SettingsError
from engine.models import BatchFact, EssaysFact, Fact, PhaseFact, RegistrationFact, StepFact
from engine.repository import DeadLetter

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
VERSION = len(sqlite_file.schemas())
open_sqlite = SqliteBatchStateRepository.open


def results(number: int, *, batch_id: str = "b1", first: int = 0, size: int = 0) -> list[Fact]:
    return [
        StepFact(
            batch_id,
            f"e{number:05d}",
            "spellcheck",
            2,
            START + timedelta(seconds=number),
            f"event{number}",
            1,
            '{"text": "' + "x" * size + '"}',
        )
        for number in range(first, first + number)
    ]


EVERY_KIND: list[Fact] = [
    *results(3),
    *results(2, batch_id="", first=2),
    EssaysFact("b1", ("e00001", "e00009"), START, "a.txt"),
    RegistrationFact("b2", 2, ("e00003",), START, "owner"),
    PhaseFact("b1", "nlp", "started", "r1", START),
    BatchFact("b1", "provisioned", "f1", "r1", START),
]


async def seen(repository: SqliteBatchStateRepository) -> dict[str, int]:
    return {record.batch_id: record.seen for record in await repository.summaries()}


async def make(path: Path, facts: list[Fact] | None = None) -> None:
    async with aclosing(await open_sqlite(path)) as repository:
        await repository.record(results(3) if facts is None else facts)


@contextmanager
def untouched(directory: Path) -> Iterator[None]:
    """Nothing in a directory is created, changed or removed by the block."""
    before = contents(directory)
    yield
    assert contents(directory) == before


def contents(directory: Path) -> dict[str, bytes | None]:
    return {
        path.name: path.read_bytes() if path.is_file() else None for path in directory.iterdir()
    }


async def refused(
    path: Path, error: type[BCSError], text: str, *, read_only: bool | None = None
) -> None:
    """Opening fails with one line that names the file, for reading and for writing."""
    for mode in (True, False) if read_only is None else (read_only,):
        with pytest.raises(error, match=text) as caught:
            await open_sqlite(path, read_only=mode, busy_timeout_seconds=0.05)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert type(caught.value) is error


# What is at the path


async def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "x.db").mkdir()
    with untouched(tmp_path):
        await refused(tmp_path / "x.db", SettingsError, "is a directory")


@pytest.mark.parametrize("size", [1, 99, 100, 512, 5000])
async def test_garbage(tmp_path: Path, size: int) -> None:
    (tmp_path / "x.db").write_bytes(b"\x80garbage"[:size] * (size // 8 + 1))
    with untouched(tmp_path):
        await refused(tmp_path / "x.db", SettingsError, "not an SQLite database")


async def test_a_file_that_is_nothing_but_a_header(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\x00" + bytes(84))
    with untouched(tmp_path):
        await refused(tmp_path / "x.db", SettingsError, "not an SQLite database")


async def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    with untouched(tmp_path):
        await refused(tmp_path / "x.db", SettingsError, "empty file")


async def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.db")
    await refused(tmp_path / "x.db", SettingsError, "not a regular file")


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
async def test_another_programs_database(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {journal}")
        other.execute("PRAGMA application_id = 66")
        other.execute("CREATE TABLE cookies (value)")
        other.commit()
        with untouched(tmp_path):
            await refused(path, SettingsError, "another program")
    with untouched(tmp_path):
        await refused(path, SettingsError, r"another program \(application_id 0x42\)")


async def test_a_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path)
    set_version(path, 99)
    with untouched(tmp_path):
        await refused(path, SettingsError, f"schema version 99, this bcs-tui knows {VERSION};")


async def test_an_older_schema_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    await make(path)
    newer = (
        *sqlite_file.schemas(),
        "CREATE TABLE extra (\n  a, -- ;\n  b\n);\nCREATE TABLE more (c);\n",
    )
    monkeypatch.setattr(sqlite_file, "schemas", lambda: newer)
    with untouched(tmp_path):
        await refused(
            path,
            SettingsError,
            f"version {VERSION}, this bcs-tui reads {VERSION + 1};",
            read_only=True,
        )
    async with aclosing(await open_sqlite(path)) as repository:
        assert await seen(repository) == {"b1": 3}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
        connection.execute("SELECT a, b, c FROM extra, more")


async def test_a_failed_upgrade_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    await make(path)
    newer = (*sqlite_file.schemas(), "CREATE TABLE extra (a);\nCREATE TABLE batches (b);\n")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "schemas", lambda: newer)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            await open_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert not connection.execute("PRAGMA table_info(extra)").fetchall()


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


async def test_nothing_there(tmp_path: Path) -> None:
    with untouched(tmp_path):
        await refused(tmp_path / "x.db", SettingsError, "does not exist", read_only=True)
        await refused(tmp_path / "no" / "x.db", SettingsError, "needs a directory", read_only=False)


async def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    path, target = tmp_path / "x.db", tmp_path / "elsewhere.db"
    path.symlink_to(target)
    await refused(path, SettingsError, "does not exist")
    assert not target.exists()


async def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await refused(
        tmp_path / "file" / "x.db", RepositoryUnavailable, "Not a directory", read_only=True
    )


async def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with aclosing(await open_sqlite(tmp_path / "x?#%.db")) as repository:
            await repository.record(results(1))
            modes = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert modes == {"x?#%.db": 0o600, "x?#%.db-shm": 0o600, "x?#%.db-wal": 0o600}


def modes_in(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def test_openings_at_the_same_moment_make_one_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    repositories = await asyncio.gather(*(open_sqlite(path) for _ in range(8)))
    for number, repository in enumerate(repositories):
        await repository.record(results(1, first=number))
    assert [await seen(repository) for repository in repositories] == [{"b1": 8}] * 8
    for repository in repositories:
        await repository.aclose()
    assert list(contents(tmp_path)) == ["x.db"]


async def test_a_link_that_appears_while_the_database_is_made_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    monkeypatch.setattr(sqlite_file, "_upgrade", lambda connection: path.write_bytes(b"theirs"))
    await refused(path, SettingsError, "not an SQLite database", read_only=False)
    assert contents(tmp_path) == {"x.db": b"theirs"}


# Damage


async def test_a_truncated_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path, results(500, size=300))
    os.truncate(path, 3 * 4096)
    with untouched(tmp_path):
        await refused(path, CorruptDocument, "damaged.*move it aside")


async def test_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path, results(500, size=300))
    with path.open("r+b") as file:
        page_bytes = int.from_bytes(file.read(18)[16:], "big")
        file.seek(page_bytes)
        file.write(b"\xff" * (path.stat().st_size - page_bytes))
    with untouched(tmp_path):
        for read_only in (True, False):
            async with aclosing(await open_sqlite(path, read_only=read_only)) as repository:
                for work in (repository.summaries(), repository.load_batch("b1")):
                    with pytest.raises(CorruptDocument, match="damaged"):
                        await work
            if not read_only:
                break
    async with aclosing(await open_sqlite(path)) as repository:
        with pytest.raises(CorruptDocument, match="damaged"):
            await repository.record(results(1))


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_writer_killed_in_a_checkpoint(tmp_path: Path, read_only: bool) -> None:
    path, log = tmp_path / "x.db", tmp_path / "x.db-wal"
    await make(path, [])
    size_before = len(path.read_bytes())
    async with aclosing(await open_sqlite(path)) as repository:
        await repository.record(results(500, size=300))
        logged = log.read_bytes()
    # The first pages have been copied from the log, those that are new have not.
    os.truncate(path, size_before)
    log.write_bytes(logged)
    async with aclosing(await open_sqlite(path, read_only=read_only)) as repository:
        assert await seen(repository) == {"b1": 500}


# Locks and full disks


async def test_a_database_locked_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path)
    async with aclosing(await open_sqlite(path, busy_timeout_seconds=0.05)) as repository:
        await repository.record(results(1, first=3))
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            for work in (
                repository.record(results(5)),
                repository.record_dead_letters([letter()]),
            ):
                with pytest.raises(RepositoryUnavailable, match="locked by another process"):
                    await work
            assert await seen(repository) == {"b1": 4}
            await refused(path, RepositoryUnavailable, "locked", read_only=False)
        recorded = await repository.record(results(5))
        assert list(recorded.news) == [False] * 4 + [True]
        assert await seen(repository) == {"b1": 5}


def letter() -> DeadLetter:
    return DeadLetter(START, "feed", "1", "json", "no", "", b"{", "aa", 1)


async def test_a_full_database_takes_the_same_chunk_later(tmp_path: Path) -> None:
    async with aclosing(await open_sqlite(tmp_path / "x.db")) as repository:
        await repository.record(results(2))
        await limit_pages(repository, 60)
        with pytest.raises(RepositoryUnavailable, match="the disk is full"):
            await repository.record(results(1000, size=300))
        assert await seen(repository) == {"b1": 2}
        await limit_pages(repository, 100_000)
        recorded = await repository.record(results(1000, size=300))
        # The rich text is news for the first two as well.
        assert all(recorded.news)
        assert [change.new_essays for change in recorded.changes] == [0, 0] + [1] * 998
        assert await seen(repository) == {"b1": 1000}


async def limit_pages(repository: SqliteBatchStateRepository, pages: int) -> None:
    await repository._connection.run(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}")
    )


FILE_LIMIT = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sqlite_files import open_sqlite, results, seen
from engine.errors import RepositoryUnavailable

async def main(path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, unlimited[1]))
    try:
        await open_sqlite(path.with_name("new.db"))
    except RepositoryUnavailable as error:
        print("open:", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    repository = await open_sqlite(path)
    await repository.record(results(2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, unlimited[1]))
    try:
        await repository.record(results(1000, size=1000))
    except RepositoryUnavailable as error:
        print("record:", error)
    print(await seen(repository))
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    await repository.record(results(1000, size=1000))
    print(await seen(repository))
    await repository.aclose()

asyncio.run(main(Path(sys.argv[2])))
"""


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    lines = run_script(FILE_LIMIT, tmp_path / "x.db")
    assert re.fullmatch("open: .*new.db.* is the disk full.*", lines[0])
    assert re.fullmatch("record: .*x.db.* is the disk full.*", lines[1])
    assert lines[2:] == ["{'b1': 2}", "{'b1': 1000}"]
    assert list(contents(tmp_path)) == ["x.db"]


def run_script(script: str, *arguments: Path) -> list[str]:
    command = [sys.executable, "-c", script, str(Path(__file__).parent), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(engine.__file__).parents[1])}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Permissions (as an ordinary user, whoever runs the tests)

FORBIDDEN = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sqlite_files import make, open_sqlite, results, seen
from engine.errors import RepositoryError

async def attempt(path, read_only):
    try:
        repository = await open_sqlite(path, read_only=read_only)
        print(path.name, await seen(repository))
        await repository.aclose()
    except RepositoryError as error:
        # Not `RepositoryUnavailable`: nobody should try again; the cause makes it exit code 4.
        assert type(error) is RepositoryError, error
        assert isinstance(error.__cause__, PermissionError), error
        print(path.name, error)

async def main(directory):
    await make(directory / "readable.db")
    await make(directory / "secret.db")
    (directory / "readable.db").chmod(0o444)
    (directory / "secret.db").chmod(0)
    directory.chmod(0o555)
    await asyncio.to_thread(int)  # imports what the ordinary user may not be able to read
    if os.geteuid() == 0:
        os.seteuid(65534)
    for name in ("new.db", "readable.db", "secret.db"):
        await attempt(directory / name, read_only=False)
    await attempt(directory / "readable.db", read_only=True)
    await attempt(directory / "secret.db", read_only=True)

asyncio.run(main(Path(sys.argv[2])))
"""


def test_a_directory_that_cannot_be_written() -> None:
    with TemporaryDirectory() as outer:
        directory = Path(outer) / "state"
        directory.mkdir()
        os.chmod(outer, 0o755)
        try:
            lines = run_script(FORBIDDEN, directory)
            assert sorted(contents(directory)) == ["readable.db", "secret.db"]
        finally:
            directory.chmod(0o755)
    assert re.fullmatch("new.db database .*/new.db' cannot be used: Permission denied.*", lines[0])
    assert re.fullmatch("readable.db .* cannot be written; check the permissions.*", lines[1])
    assert re.fullmatch("secret.db .* cannot be opened; check the permissions.*", lines[2])
    assert lines[3] == "readable.db {'b1': 3}"
    assert re.fullmatch("secret.db .* cannot be opened; check the permissions.*", lines[4])


# Readers


async def test_a_reader_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path)
    with untouched(tmp_path):
        async with aclosing(await open_sqlite(path, read_only=True)) as reader:
            assert await seen(reader) == {"b1": 3}
            with pytest.raises(RepositoryUnavailable, match="for reading only"):
                await reader.record(results(1))


async def test_a_reader_sees_what_a_writer_commits(tmp_path: Path) -> None:
    path, link = tmp_path / "x.db", tmp_path / "link.db"
    link.symlink_to(path)
    await make(path)
    async with aclosing(await open_sqlite(link, read_only=True)) as reader:
        for count in (4, 5):
            async with aclosing(await open_sqlite(path)) as writer:
                await writer.record(results(count))
                assert await seen(reader) == {"b1": count}
            assert await seen(reader) == {"b1": count}


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_database_that_another_programs_overwrites(tmp_path: Path, read_only: bool) -> None:
    from stills import until  # the scripts of this file import it without its neighbours

    path, other = tmp_path / "x.db", tmp_path / "other.db"
    await make(path)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE cookies (value)")
    async with aclosing(await open_sqlite(path, read_only=read_only)) as repository:
        observer = Engine(repository, observing=True)
        watching = asyncio.create_task(observer.run())
        await until(lambda: "b1" in observer.view.batches)
        path.write_bytes(other.read_bytes())
        if read_only:
            await until(lambda: "x.db" in observer.view.health.trouble)
        with pytest.raises(CorruptDocument, match=re.escape(str(path))) as caught:
            await repository.summaries()
        assert "\n" not in str(caught.value)
        assert not watching.done()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("trouble", [None, sqlite3.DatabaseError("torn")])
async def test_a_reader_reads_again_when_a_writer_comes_in_between(
    tmp_path: Path, trouble: sqlite3.DatabaseError | None
) -> None:
    path = tmp_path / "x.db"
    await make(path)
    attempts: list[int] = []

    def read(connection: sqlite3.Connection) -> int:
        [count] = connection.execute("SELECT count(*) FROM essays").fetchone()
        attempts.append(count)
        if len(attempts) == 1:
            asyncio.run(make(path, results(9)))
            if trouble:
                raise trouble
        return int(count)

    found = await asyncio.to_thread(sqlite_file.read_database, path, 5.0, read)
    assert (found, attempts) == (9, [3, 9])


async def test_a_feed_whose_name_is_no_text(tmp_path: Path) -> None:
    source = os.fsdecode(b"caf\xe9.jsonl")
    async with aclosing(await open_sqlite(tmp_path / "x.db")) as repository:
        for _ in range(2):
            await repository.record_dead_letters([replace(letter(), source=source)])
        [kept] = await repository.dead_letters()
    assert kept == replace(letter(), source="caf\\udce9.jsonl")


# Transactions


async def test_a_failure_at_any_statement_leaves_nothing_behind(tmp_path: Path) -> None:
    async with aclosing(await open_sqlite(tmp_path / "x.db")) as repository:
        await repository.record(results(2))
        before = await dump(repository)
        for allowed in count():
            await repository._connection.run(partial(deny_after, allowed=allowed))
            try:
                recorded = await repository.record(EVERY_KIND)
                break
            except (RepositoryUnavailable, sqlite3.OperationalError):
                await repository._connection.run(lambda connection: connection.set_authorizer(None))
                assert await dump(repository) == before
        assert allowed > 50
        assert list(recorded.news) == [False, False] + [True] * 7


def deny_after(connection: sqlite3.Connection, allowed: int) -> None:
    """Make the connection fail once, after so many questions for permission."""
    asked = 0

    def permit(*_: object) -> int:
        nonlocal asked
        asked += 1
        return sqlite3.SQLITE_DENY if asked == allowed + 1 else sqlite3.SQLITE_OK

    connection.set_authorizer(permit)


async def dump(repository: SqliteBatchStateRepository) -> list[str]:
    def work(connection: sqlite3.Connection) -> list[str]:
        return list(connection.iterdump())

    return await repository._connection.run(work)


async def test_a_cancelled_task_leaves_no_half_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    original = Rows.write

    def write(self: Rows) -> None:
        original(self)
        entered.set()
        assert go_on.wait(30)

    monkeypatch.setattr(Rows, "write", write)
    async with aclosing(await open_sqlite(tmp_path / "x.db")) as repository:
        task = asyncio.create_task(repository.record(results(10)))
        await asyncio.to_thread(entered.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with closing(sqlite3.connect(tmp_path / "x.db")) as other:
            assert other.execute("SELECT count(*) FROM essays").fetchone() == (0,)
        go_on.set()
        await repository.record(results(1, batch_id="b2"))
        assert await seen(repository) == {"b1": 10, "b2": 1}


async def test_a_crash_in_a_chunk_is_not_published_by_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(await open_sqlite(tmp_path / "x.db")) as repository:
        original = Rows.write

        def write(self: Rows) -> None:
            original(self)
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(Rows, "write", write)
            with pytest.raises(ZeroDivisionError):
                await repository.record(results(10))
        await repository.record(results(1, batch_id="b2"))
        assert await seen(repository) == {"b2": 1}
        assert all((await repository.record(results(10))).news)


async def test_opening_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def open_slowly(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
        entered.set()
        assert go_on.wait(30)
        raise RepositoryUnavailable("too late")

    monkeypatch.setattr(sqlite_module, "open_database", open_slowly)
    task = asyncio.create_task(open_sqlite(tmp_path / "x.db"))
    await asyncio.to_thread(entered.wait, 30)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


# What the writing connection remembers


async def test_two_writers_see_each_others_results(tmp_path: Path) -> None:
    one = await open_sqlite(tmp_path / "x.db")
    other = await open_sqlite(tmp_path / "x.db")
    for number in range(6):
        writer = (one, other)[number % 2]
        assert all((await writer.record(results(1, first=number))).news)
        assert not any((await writer.record(results(number + 1))).news)
        await writer.record([StepFact("b1", "e00000", f"step{number}", 2, START)])
    assert await one.load_batch("b1") == await other.load_batch("b1")
    assert (await one.batch_record("b1")).seen == 6
    assert len((await other.batch_record("b1")).counts) == 7
    await one.aclose()
    await other.aclose()


@pytest.mark.parametrize("limit", ["_MOST_ESSAYS", "_MOST_BATCHES"])
async def test_forgetting_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(sqlite_known, limit, 1)
    async with aclosing(await open_sqlite(tmp_path / "x.db")) as repository:
        for _ in range(3):
            for fact in EVERY_KIND:
                await repository.record([fact])
        assert await seen(repository) == {"b1": 4, "b2": 1}
        assert not any((await repository.record(EVERY_KIND)).news)


def test_a_program_that_forgets_to_close_ends(tmp_path: Path) -> None:
    script = """
import asyncio, os, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sqlite_files import open_sqlite, results
kept = []

async def main(path):
    kept.append(await open_sqlite(path))
    await kept[0].record(results(3))

asyncio.run(main(Path(sys.argv[2])))
print("end")
"""
    assert run_script(script, tmp_path / "x.db") == ["end"]

"""The database file: made whole or not at all, opened only when it is ours, never replaced."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

from engine.backends.sqlite_errors import explained
from engine.errors import SettingsError

_T = TypeVar("_T")

APPLICATION_ID: Final = int.from_bytes(b"BCST", "big")
"""Marks the file as ours (`PRAGMA application_id`, bytes 68 to 71 of the file)."""

_HEADER_BYTES: Final = 100

_PAGE_BYTES: Final = 8192
"""Of new databases: a chunk touches so many pages that half as many cost less to log."""

_LOG_BYTES: Final = 56 * 1024 * 1024
"""How long the write-ahead log grows, but for one chunk: results in random order touch the same
pages again and again, and each is copied into the database once."""


def id_number(essay_id: str) -> int:
    """Return the number of four bytes by which the indexes know an essay id; few share one."""
    return crc32(essay_id.encode()) - 2**31


@cache
def schemas() -> tuple[str, ...]:
    """Return the schema files in order; a database of version n has had the first n."""
    folder = files("engine.backends") / "sql"
    found = [entry for entry in folder.iterdir() if entry.name.startswith("sqlite_")]
    return tuple(entry.read_text() for entry in sorted(found, key=lambda entry: entry.name))


def open_database(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    """Open the database at a path for writing; create it if there is nothing.

    Raises:
        SettingsError: The path is not, and cannot become, a database of this version.
        CorruptDocument: The database is damaged.
        RepositoryUnavailable: It is locked, not permitted, or the disk is full.
    """
    with explained(path):
        if not os.path.lexists(path):
            _create(path)
        _check_file(path)
        _check_owner(path)
        connection = _connect(path, "mode=rw", busy_timeout_seconds)
        try:
            _check_version(connection, path, oldest=1)
            _prepare_to_write(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def read_database(
    path: Path, busy_timeout_seconds: float, read: Callable[[sqlite3.Connection], _T]
) -> _T:
    """Call a function with a connection that reads and leaves no file behind.

    A reader of a write-ahead log makes files that it cannot remove. So where there is no log,
    the file is read as one that does not change; if it did, it is read again.

    Raises:
        SettingsError: The path is not a database of this version.
        CorruptDocument: The database is damaged.
        RepositoryUnavailable: It is locked or not permitted.
    """
    with explained(path):
        while True:
            _check_file(path)
            before = moment(path)
            mode = "mode=ro" if before.has_log else "mode=ro&immutable=1"
            with closing(_connect(path, mode, busy_timeout_seconds)) as connection:
                try:
                    found = read(connection)
                except sqlite3.DatabaseError:
                    if before.has_log or before == moment(path):
                        raise
                    continue
            if before.has_log or before == moment(path):
                return found


def check_reading(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse to read what is not a database of this version.

    Raises:
        SettingsError: It is another program's, or of another version.
    """
    _check_owner(path)
    _check_version(connection, path, oldest=len(schemas()))


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Do all of the block in one transaction, or nothing; `kind` is DEFERRED or IMMEDIATE."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _connect(path: Path, mode: str, busy_timeout_seconds: float = 5.0) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout_seconds)


def _create(path: Path) -> None:
    """Make an empty database appear at a path in one moment, never in place of another file.

    A process that dies half way leaves nothing at the path. If another process is quicker,
    its file is the one.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"database {str(path)!r} needs a directory to be in; create it")
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        with closing(_connect(Path(draft), "mode=rw")) as connection:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            _upgrade(connection)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


class Moment(NamedTuple):
    """What changes when anybody writes to the database: the file, or the log beside it."""

    inode: int
    modified_ns: int
    size: int
    log_modified_ns: int
    log_size: int

    @property
    def has_log(self) -> bool:
        """Whether there is a write-ahead log."""
        return self.log_modified_ns >= 0


def moment(path: Path) -> Moment:
    """Return the present moment of a database; raises `OSError` if there is none."""
    found = path.stat()
    try:
        log = os.stat(os.path.realpath(path) + "-wal")
    except FileNotFoundError:
        return Moment(found.st_ino, found.st_mtime_ns, found.st_size, -1, 0)
    return Moment(found.st_ino, found.st_mtime_ns, found.st_size, log.st_mtime_ns, log.st_size)


def _check_file(path: Path) -> None:
    """Refuse what cannot be a database without opening it."""
    where = f"database {str(path)!r}"
    try:
        found = path.stat()
    except FileNotFoundError:
        raise SettingsError(f"{where} does not exist; `bcs-tui ingest` creates it") from None
    if stat.S_ISDIR(found.st_mode):
        raise SettingsError(f"{where} is a directory; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise SettingsError(f"{where} is not a regular file; name another one")
    if found.st_size == 0:
        raise SettingsError(f"{where} is an empty file of unknown origin; remove or rename it")
    if found.st_size < _HEADER_BYTES:
        raise SettingsError(f"{where} is not an SQLite database; name another file")


def _check_owner(path: Path) -> None:
    """Refuse a file that another program made, without leaving a trace beside it."""
    where = f"database {str(path)!r}"
    try:
        found = _application_id(path)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
            raise
        raise SettingsError(f"{where} is not an SQLite database; name another file") from error
    if found != APPLICATION_ID:
        raise SettingsError(
            f"{where} belongs to another program (application_id {found:#x}); name another file"
        )


def _application_id(path: Path) -> int:
    # `immutable` takes no locks and makes no files. It also ignores the write-ahead log,
    # without which a database may look damaged when a writer was killed in a checkpoint.
    try:
        return _read_application_id(path, "mode=ro&immutable=1")
    except sqlite3.DatabaseError as error:
        damaged = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CORRUPT
        if not damaged or not moment(path).has_log:
            raise
        return _read_application_id(path, "mode=ro")


def _read_application_id(path: Path, mode: str) -> int:
    with closing(_connect(path, mode)) as connection:
        return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path, oldest: int) -> None:
    """Refuse a schema that this version does not know, or that is older than some version."""
    found, known = _version(connection), len(schemas())
    where = f"database {str(path)!r} has schema version {found}"
    if found > known:
        raise SettingsError(f"{where}, this bcs-tui knows {known}; upgrade bcs-tui")
    if found < oldest:
        raise SettingsError(f"{where}, this bcs-tui reads {known}; open it for writing once")


def _prepare_to_write(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")  # KiB
    page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_BYTES // page_bytes}")
    _upgrade(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Apply the schema files that a database has not had; find out whether it can be written."""
    connection.create_function("id_number", 1, id_number, deterministic=True)
    with transaction(connection, "IMMEDIATE"):
        version = _version(connection)
        for script in schemas()[version:]:
            for statement in _statements(script):
                connection.execute(statement)
            version += 1
            connection.execute(f"PRAGMA user_version = {version}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would commit on its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""

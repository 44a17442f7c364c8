"""What the driver and the system raise about a database file, in words of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import BCSError, CorruptDocument, RepositoryUnavailable

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: "is locked by another process; stop it or try again",
    sqlite3.SQLITE_LOCKED: "is locked by another process; stop it or try again",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "cannot be read or written; is the disk full or failing?",
    sqlite3.SQLITE_READONLY: "cannot be written; check the permissions of it and its directory",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of it and its directory",
    sqlite3.SQLITE_PERM: "cannot be opened; check the permissions of it and its directory",
    sqlite3.SQLITE_AUTH: "cannot be opened; check the permissions of it and its directory",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the driver and the system raise into errors of ours, of one line."""
    try:
        yield
    except sqlite3.Error as error:
        explanation = _explain(error, path)
        if explanation is None:
            raise
        raise explanation from error
    except OSError as error:
        raise RepositoryUnavailable(
            f"database {str(path)!r} cannot be used: {error.strerror}; check the path"
        ) from error


def _explain(error: sqlite3.Error, path: Path) -> BCSError | None:
    """Return what an error of the driver means; `None` for mistakes of the program."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    where = f"database {str(path)!r}"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        advice = "it is left as it is; move it aside and ingest the events again"
        return CorruptDocument(f"{where} is damaged ({error}); {advice}")
    if code in _UNAVAILABLE:
        return RepositoryUnavailable(f"{where} {_UNAVAILABLE[code]} ({error})")
    return None

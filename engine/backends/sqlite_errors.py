"""What the driver and the system raise about a database file, in words of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import BCSError, CorruptDocument, RepositoryError, RepositoryUnavailable

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: "is locked by another process; stop it or try again",
    sqlite3.SQLITE_LOCKED: "is locked by another process; stop it or try again",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space",
    sqlite3.SQLITE_AUTH: "may not be used now",
    sqlite3.SQLITE_IOERR: "cannot be read or written; is the disk full or failing?",
}
_NOT_PERMITTED: Final = {
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_PERM: "cannot be opened",
}
_OTHER_TABLES: Final = ("no such table", "no such column")
"""How the driver says that a file, which was ours when it was opened, is another one now."""

_ADVICE: Final = "check the permissions of it and its directory"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the driver and the system raise into errors of ours, of one line."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _NOT_PERMITTED:
            # Not unavailable: trying again will not help.
            why = f"database {str(path)!r} {_NOT_PERMITTED[code]}; {_ADVICE} ({error})"
            raise RepositoryError(why) from PermissionError(str(error))
        explanation = _explain(error, code, path)
        if explanation is None:
            raise
        raise explanation from error
    except PermissionError as error:
        raise RepositoryError(
            f"database {str(path)!r} cannot be used: {error.strerror}; {_ADVICE}"
        ) from error
    except OSError as error:
        raise RepositoryUnavailable(
            f"database {str(path)!r} cannot be used: {error.strerror}; check the path"
        ) from error


def _explain(error: sqlite3.Error, code: int, path: Path) -> BCSError | None:
    """Return what an error of the driver means; `None` for mistakes of the program."""
    where = f"database {str(path)!r}"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        advice = "it is left as it is; move it aside and ingest the events again"
        return CorruptDocument(f"{where} is damaged ({error}); {advice}")
    if code == sqlite3.SQLITE_ERROR and str(error).startswith(_OTHER_TABLES):
        advice = "has another program put its own there? move it aside"
        return CorruptDocument(f"{where} lacks what bcs-tui keeps ({error}); {advice}")
    if code in _UNAVAILABLE:
        return RepositoryUnavailable(f"{where} {_UNAVAILABLE[code]} ({error})")
    return None

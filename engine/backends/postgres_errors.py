"""What PostgreSQL, its driver and the network raise, in words of ours.

Messages of the server may quote rows, and those of the driver values: none is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from engine.errors import (
    BCSError,
    CorruptDocument,
    NotPermitted,
    RepositoryConflict,
    RepositoryError,
    RepositoryUnavailable,
    SettingsError,
)
from engine.transport import tls_trouble

CONFLICTS: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""What goes away when the whole transaction is tried again."""

_ACCOUNT: Final = "refuses the account; check BCS_DATABASE_URL"
_GRANT: Final = "does not permit this; grant it to the account"

# By SQLSTATE, or by its first two characters.
_NOT_PERMITTED: Final = "42501"
_REFUSALS: Final = {"28": _ACCOUNT, _NOT_PERMITTED: _GRANT}
_UNAVAILABLE: Final = {
    "08": "has lost the connection; it is tried again",
    "25006": "is read-only, perhaps after a failover; writing is tried again",
    "25P03": "has ended an idle transaction; it is tried again",
    "53": "lacks memory or other resources; look at its log",
    "53100": "has no space left on its disk; free some",
    "53300": "has too many clients; close some or raise max_connections",
    "55P03": "has rows that another session keeps locked; look at pg_stat_activity",
    "57": "has been stopped or is starting; it is tried again",
    "57014": "takes too long (statement_timeout); look at its load",
    "58": "cannot read or write its files; look at its log",
}
_SETTINGS: Final = {
    "3D000": "does not exist; create it or check BCS_DATABASE_URL",
    "3F000": "lacks tables of bcs-tui; run `bcs-tui migrate`",
    "42P01": "lacks tables of bcs-tui; run `bcs-tui migrate`",
}


def place_of(url: str) -> str:
    """Return what a database is called in messages: host, port and name, no account."""
    parts = urlsplit(url)
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what the server, the driver and the network raise into errors of ours, of one line."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _meaning(error, place) from _cause(error)
    except asyncpg.TargetServerAttributeNotMatched:
        raise RepositoryUnavailable(f"{place} {_UNAVAILABLE['25006']}") from None
    except asyncpg.ClientConfigurationError:
        raise SettingsError(f"{place} cannot be used: check the URL BCS_DATABASE_URL") from None
    except TimeoutError:
        raise RepositoryUnavailable(f"{place} does not answer in time") from None
    except OSError as error:
        if words := tls_trouble(error):
            raise RepositoryUnavailable(f"{place} {words}") from None
        why = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
        raise RepositoryUnavailable(
            f"{place} cannot be reached ({why}); check BCS_DATABASE_URL"
        ) from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The driver is surprised by a connection that breaks: "cannot switch to state 11".
        raise RepositoryUnavailable(
            f"{place} {_UNAVAILABLE['08']} ({type(error).__name__})"
        ) from None


def _meaning(error: asyncpg.PostgresError, place: str) -> BCSError:
    """Return what an error of the server means."""
    code = error.sqlstate or ""
    if code == _NOT_PERMITTED:
        return NotPermitted(f"{place} {_GRANT} (SQLSTATE {code})")
    for words, kind in (
        (_REFUSALS, RepositoryUnavailable),
        (_UNAVAILABLE, RepositoryUnavailable),
        (_SETTINGS, SettingsError),
    ):
        found = words.get(code) or words.get(code[:2])
        if found:
            return kind(f"{place} {found} (SQLSTATE {code})")
    if isinstance(error, CONFLICTS):
        return RepositoryConflict(
            f"{place}: other sessions kept winning the same rows (SQLSTATE {code}); try again"
        )
    if code.startswith("XX"):
        return CorruptDocument(f"{place} says that its data is damaged (SQLSTATE {code})")
    where = getattr(error, "constraint_name", None) or getattr(error, "table_name", None)
    what = f"{type(error).__name__}, SQLSTATE {code}" + (f", {where}" if where else "")
    return RepositoryError(f"{place} refuses this ({what}); look at its log")


def _cause(error: asyncpg.PostgresError) -> Exception | None:
    """Return the cause that the command line turns into its exit code."""
    code = error.sqlstate or ""
    refused = code in _REFUSALS or code[:2] in _REFUSALS
    return PermissionError(f"SQLSTATE {code}") if refused else None

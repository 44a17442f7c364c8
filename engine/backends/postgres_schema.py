"""The schema of the database: numbered files, applied in order by `migrate` and never at start."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from engine.backends.postgres_errors import explained, place_of
from engine.backends.postgres_session import CONNECT_SECONDS, Connection, connect
from engine.errors import SettingsError

_LOCK: Final = int.from_bytes(b"BCST", "big")
"""The advisory lock that two migrations at once wait for; `schema_version` decides."""

_MIGRATE_SECONDS: Final = 600.0


class Migration(NamedTuple):
    """What `migrate` did to a database: `before` 0 means that there was no schema."""

    place: str
    before: int
    after: int


@cache
def schemas() -> tuple[str, ...]:
    """Return the schema files in order; a database of version n has had the first n."""
    folder = files("engine.backends") / "sql"
    found = [entry for entry in folder.iterdir() if entry.name.startswith("postgres_")]
    return tuple(entry.read_text() for entry in sorted(found, key=lambda entry: entry.name))


async def check_schema(connection: Connection, place: str) -> None:
    """Refuse a database whose schema is not the one of this version.

    Raises:
        SettingsError: The schema is missing, older or newer.
    """
    found, known = await _version(connection), len(schemas())
    if found == 0:
        raise SettingsError(
            f"{place} has no schema of bcs-tui, version {known} is needed; run `bcs-tui migrate`"
        )
    if found < known:
        raise SettingsError(
            f"{place} has schema version {found}, this bcs-tui needs {known}; run `bcs-tui migrate`"
        )
    _refuse_newer(found, place)


async def migrate(url: str) -> Migration:
    """Create the schema or bring it up to date: all of it or nothing, once if two try.

    Raises:
        SettingsError: The schema is newer than this version.
        RepositoryError: The database cannot be reached, or refuses.
    """
    place = place_of(url)
    with explained(place):
        connection = await connect(url, CONNECT_SECONDS, _MIGRATE_SECONDS)
        try:
            async with connection.transaction():
                before = await _upgrade(connection, place)
            await connection.close(timeout=CONNECT_SECONDS)
        except BaseException:
            connection.terminate()
            raise
    return Migration(place, before, len(schemas()))


async def _upgrade(connection: Connection, place: str) -> int:
    """Apply the schema files that a database has not had; return the version that it had."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    before = await _version(connection)
    _refuse_newer(before, place)
    if before == 0:
        await _prepare(connection)
    for script in schemas()[before:]:
        await connection.execute(script)
    if before != len(schemas()):
        await connection.execute("UPDATE bcs.schema_version SET version = $1", len(schemas()))
    return before


async def _prepare(connection: Connection) -> None:
    """Make the schema, unless an administrator has made it for us, and the table of its version."""
    if not await connection.fetchval("SELECT to_regnamespace('bcs') IS NOT NULL"):
        await connection.execute("CREATE SCHEMA bcs")
    await connection.execute(
        "CREATE TABLE bcs.schema_version ("
        " one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL)"
    )
    await connection.execute("INSERT INTO bcs.schema_version (version) VALUES (0)")


async def _version(connection: Connection) -> int:
    """Return the version of the schema; 0 where there is none."""
    if not await connection.fetchval("SELECT to_regclass('bcs.schema_version') IS NOT NULL"):
        return 0
    return int(await connection.fetchval("SELECT version FROM bcs.schema_version"))


def _refuse_newer(found: int, place: str) -> None:
    known = len(schemas())
    if found > known:
        raise SettingsError(
            f"{place} has schema version {found}, this bcs-tui knows {known}; upgrade bcs-tui,"
            " `bcs-tui migrate` does not go back"
        )

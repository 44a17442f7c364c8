"""Private servers for the tests: each kind is started once, when a test first needs it."""

from __future__ import annotations

import atexit
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from engine.backends.postgres_schema import migrate
from engine.servers import PrivatePostgres

_numbers = count(1)
_databases: dict[Path, str] = {}
_template: list[str] = []

_EMPTY = """
TRUNCATE bcs.batches, bcs.essays, bcs.essay_steps, bcs.counters, bcs.milestones, bcs.uploads,
    bcs.homeless_steps, bcs.dead_letters, bcs.versions, public.phase_completions RESTART IDENTITY
"""


@cache
def postgres_server() -> PrivatePostgres:
    """The server of the whole session; what it keeps need not survive a crash of the machine."""
    server = PrivatePostgres({"fsync": "off", "full_page_writes": "off"})
    atexit.register(server.close)
    return server.start()


async def administer(*statements: str) -> None:
    """Run statements that are about databases, not in one."""
    connection = await asyncpg.connect(postgres_server().url_of("postgres"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def new_database(*, migrated: bool = True) -> str:
    """Return the URL of a new database, with the schema or without anything."""
    server = postgres_server()
    if migrated and not _template:
        await administer("CREATE DATABASE migrated")
        await migrate(server.url_of("migrated"))
        _template.append("migrated")
    name = f"test{next(_numbers)}"
    await administer(f"CREATE DATABASE {name} TEMPLATE {'migrated' if migrated else 'template0'}")
    return server.url_of(name)


async def database_of(directory: Path) -> str:
    """Return the URL of the database that goes with a directory: empty for a new directory.

    The databases of directories that are gone are used again, which is quicker than new ones.
    """
    if directory not in _databases:
        gone = next((known for known in _databases if not known.exists()), None)
        if gone is None:
            _databases[directory] = await new_database()
        else:
            url = _databases[directory] = _databases.pop(gone)
            await run_in(url, _EMPTY)
    return _databases[directory]


async def run_in(url: str, sql: str, *arguments: Any) -> list[asyncpg.Record]:
    """Run one statement in a database, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def run_script(url: str, sql: str) -> None:
    """Run several statements in a database, on a connection of their own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()

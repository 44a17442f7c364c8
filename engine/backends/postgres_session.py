"""A few connections to one database, each transaction of theirs bounded in time.

The driver's own pool and cancellation wait for the server, which may never answer again: here
a connection that is in doubt is dropped, and the server ends what it was doing.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from engine.backends.postgres_errors import CONFLICTS, explained, place_of
from engine.errors import RepositoryUnavailable
from engine.transport import SYSTEM_CAS

_T = TypeVar("_T")

Connection: TypeAlias = asyncpg.Connection

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
"""The bound of a transaction with all of its statements."""

_LOCK_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0
_MOST_CONNECTIONS: Final = 5
_ATTEMPTS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.01

READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""A transaction that sees one moment of the database."""

WRITING: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""A transaction whose statements see all that others have committed before each."""


ALONE: Final = ""
"""No transaction around it: for a single statement that reads."""


async def connect(
    url: str, connect_seconds: float, answer_seconds: float, *, read_only: bool = False
) -> Connection:
    """Connect on our terms: the server ends what takes too long, commits are on its disk."""
    settings = {
        "application_name": "bcs-tui",
        "statement_timeout": f"{answer_seconds * 1000:.0f}",
        "lock_timeout": f"{min(answer_seconds, _LOCK_SECONDS) * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{answer_seconds * 1000:.0f}",
    }
    if read_only:
        settings["default_transaction_read_only"] = "on"
    async with asyncio.timeout(connect_seconds):
        connection = await asyncpg.connect(
            url.replace("postgresql+asyncpg://", "postgresql://", 1),
            timeout=connect_seconds,
            ssl=_trust_of(url),
            server_settings=settings,
            target_session_attrs="any" if read_only else "read-write",
        )
        try:
            # Stronger settings of the server stay; "off" would lose what we call recorded.
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        except BaseException:
            connection.terminate()
            raise
        return connection


def _trust_of(url: str) -> ssl.SSLContext | None:
    """Return the authorities that this machine trusts if the URL asks for them.

    The driver knows only those of a file; anything else it reads in the URL itself.
    """
    query = dict(parse_qsl(urlsplit(url).query))
    if query.get("sslrootcert") != SYSTEM_CAS:
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if "sslcert" in query:
        context.load_cert_chain(query["sslcert"], query.get("sslkey"))
    return context


class Sessions:
    """Connections to one database, made when they are needed and dropped when in doubt.

    Args:
        url: The database.
        read_only: The server refuses every write of these sessions.
        answer_seconds: The bound of a transaction with all of its statements.
        check: Called with every new connection; refuses it by raising.
    """

    def __init__(
        self,
        url: str,
        *,
        read_only: bool,
        answer_seconds: float,
        check: Callable[[Connection, str], Awaitable[None]],
    ) -> None:
        self.place = place_of(url)
        self.read_only = read_only
        self._url = url
        self._answer_seconds = answer_seconds
        self._check = check
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._closed = False

    async def run(self, begin: str, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run a function in a transaction, again if other sessions kept it from committing.

        Raises:
            RepositoryUnavailable: The server cannot be reached, refuses, or takes too long.
            RepositoryConflict: Other sessions won every time.
        """
        with explained(self.place):
            async with self._slots:
                for attempt in range(_ATTEMPTS - 1):
                    try:
                        return await self._once(begin, work)
                    except CONFLICTS:
                        pause = _FIRST_PAUSE_SECONDS * 2**attempt
                        await asyncio.sleep(random.uniform(pause / 2, pause))
                return await self._once(begin, work)

    async def _once(self, begin: str, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        connection = await self._take()
        try:
            async with asyncio.timeout(self._answer_seconds):
                if begin:
                    await connection.execute(begin)
                result = await work(connection)
                ended = await connection.execute("COMMIT") if begin else "COMMIT"
        except BaseException as error:
            # Not rolled back: the answer to that may never come.
            connection.terminate()
            if isinstance(error, Exception) and not isinstance(error, CONFLICTS):
                self._drop_idle()
            raise
        if ended != "COMMIT":
            connection.terminate()
            raise RepositoryUnavailable(f"{self.place} has not committed; it is tried again")
        self._give_back(connection)
        return result

    async def _take(self) -> Connection:
        """Return a connection that nobody uses."""
        if self._closed:
            raise RepositoryUnavailable(f"{self.place} is closed already")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        connection = await connect(
            self._url,
            min(CONNECT_SECONDS, self._answer_seconds),
            self._answer_seconds,
            read_only=self.read_only,
        )
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._check(connection, self.place)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _give_back(self, connection: Connection) -> None:
        if self._closed:
            connection.terminate()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        """Forget the other connections, which an outage or a failover has broken as well."""
        while self._idle:
            self._idle.pop().terminate()

    async def aclose(self) -> None:
        """Close all connections, in order where the server answers."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(
            *(connection.close(timeout=_CLOSE_SECONDS) for connection in idle),
            return_exceptions=True,
        )

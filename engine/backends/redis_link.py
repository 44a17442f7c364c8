"""The way to the server: commands go together, are bounded in time, and fail in one line."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import redis.exceptions as failures
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from engine.errors import CorruptDocument, RepositoryUnavailable
from engine.redis_access import Client, explained, place_of

Command: TypeAlias = tuple[Any, ...]

_LONGEST_PIPELINE: Final = 5000


class Link:
    """Sends commands; every failure of the server is explained.

    Args:
        client: The connection.
        url: Where it leads.
        answer_seconds: The bound of one exchange.
    """

    def __init__(self, client: Client, url: str, answer_seconds: float) -> None:
        self.client = client
        self.clustered = isinstance(client, RedisCluster)
        self.place = place_of(url)
        self.url = url
        self._answer_seconds = answer_seconds

    async def send(self, commands: Sequence[Command], *, tolerate: bool = False) -> list[Any]:
        """Send commands together and return their replies.

        Args:
            commands: Names of commands with their arguments.
            tolerate: Return an error about a single key in place of its reply.

        Raises:
            RepositoryUnavailable: The server does not answer, or refuses.
            CorruptDocument: A key holds another type than it should.
        """
        replies: list[Any] = []
        for start in range(0, len(commands), _LONGEST_PIPELINE):
            replies += await self.exchange(commands[start : start + _LONGEST_PIPELINE])
        for reply in replies:
            if isinstance(reply, Exception) and not (tolerate and _is_about_type(reply)):
                with self.explained():
                    raise reply
        return replies

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together; an error about one of them stands in place of its reply."""
        if not commands:
            return []
        async with self.careful(), asyncio.timeout(self._answer_seconds):
            if isinstance(self.client, RedisCluster):
                replies = await _through_cluster(self.client, commands)
            else:
                replies = await _through(self.client, commands)
        if any(isinstance(reply, failures.ReadOnlyError) for reply in replies):
            await self._let_go()
        return replies

    def nodes(self) -> list[Any]:
        """Return the servers that hold different keys."""
        if isinstance(self.client, RedisCluster):
            return list(self.client.get_primaries())
        return [None]

    async def scan(
        self, node: Any, cursor: int, match: str, count_hint: int
    ) -> tuple[int, list[bytes]]:
        """Return one step of a look through the keys of a server."""
        words = ("SCAN", cursor, "MATCH", match, "COUNT", count_hint)
        async with self.careful(), asyncio.timeout(self._answer_seconds):
            if node is None:
                reply = await self.client.execute_command(*words)
            else:
                reply = await node.execute_command(*words)
        return int(reply[0]), list(reply[1])

    @asynccontextmanager
    async def careful(self) -> AsyncIterator[None]:
        """Explain failures; after one, connections that were open are not used again."""
        try:
            with self.explained():
                yield
        except RepositoryUnavailable:
            await self._let_go()
            raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say what a failure means; a key of a wrong type is a `CorruptDocument`."""
        try:
            with explained(self.url):
                yield
        except failures.ResponseError as error:
            if not _is_about_type(error):
                raise
            raise CorruptDocument(
                f"a key in Redis at {self.place} is of another type than ours; look at bcs:*"
            ) from error

    async def _let_go(self) -> None:
        """Close idle connections: their server may be gone, or no longer be the master."""
        if not isinstance(self.client, RedisCluster):
            await self.client.connection_pool.disconnect(inuse_connections=False)


async def _through(client: Redis, commands: Sequence[Command]) -> list[Any]:
    """Send commands over one connection; errors of single commands stand in their places.

    The client's own pipeline packs every argument in Python; that would be most of the work. A
    timer for every reply would be most of the rest: whoever calls bounds them all together.
    """
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command([pack_command(command) for command in commands])
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response(timeout=math.inf))
            except failures.ResponseError as error:
                replies.append(error)
    except BaseException:
        # Whatever answers come yet would be taken for those of the next commands.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    return replies


async def _through_cluster(client: RedisCluster, commands: Sequence[Command]) -> list[Any]:
    pipeline = client.pipeline()
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


def mapping(reply: Any) -> dict[bytes, bytes]:
    """Return the fields of a hash as the server has sent them; none where it sent an error."""
    if isinstance(reply, Exception):
        return {}
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _is_about_type(error: Exception) -> bool:
    return "WRONGTYPE" in str(error)

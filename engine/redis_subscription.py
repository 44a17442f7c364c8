"""One subscribed connection, and the proof that it still lives.

redis-py's own subscriber connects again in secret, so that a gap is seen by nobody, and waits
for ever on a connection whose other end is gone. Here a connection that fails is over, and one
that has been silent for too long is taken for failed: our own heartbeat must be heard on it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from typing import Final

import redis.exceptions as failures
from redis.asyncio.connection import AbstractConnection

from engine.redis_access import ANSWER_SECONDS, one_node

BEAT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 6.0
"""Nothing heard for so long, not even our heartbeat: the connection is dead."""

BEAT_CHANNEL: Final = "bcs:tui:hb:"


class Subscription:
    """Hears one channel over one connection at a time.

    The heartbeat is a message to a channel of our own, which proves the whole way; where the
    account may not do that it is a PING, which proves the connection.

    Methods raise what redis-py raises.

    Args:
        url: The server, or any node of the cluster.
        channel: What is heard.
        pattern: Channels that are heard as well, where the account may.
        beat_seconds: How often the heart beats.
        silence_seconds: See `SILENCE_SECONDS`.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        *,
        pattern: str | None = None,
        beat_seconds: float = BEAT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._channel = channel
        self._pattern = pattern
        self._beat_channel = f"{BEAT_CHANNEL}{socket.gethostname()}-{os.getpid()}-" + (
            secrets.token_hex(4)
        )
        self._beat_seconds = beat_seconds
        self._silence_seconds = silence_seconds
        self._node = one_node(url, answer_seconds=ANSWER_SECONDS)
        self._connection: AbstractConnection | None = None
        self._by_ping = False
        self._beats = 0

    async def start(self) -> None:
        """Connect anew and return when the server has confirmed that we are subscribed."""
        await self.stop()
        pool = self._node.connection_pool
        connection: AbstractConnection = pool.connection_class(**pool.connection_kwargs)
        self._connection = connection
        await connection.send_command("SUBSCRIBE", self._channel)  # connects first
        await connection.read_response(disable_decoding=True)
        if self._pattern is not None:
            await connection.send_command("PSUBSCRIBE", self._pattern)
            with suppress(failures.NoPermissionError):
                await connection.read_response(disable_decoding=True)
        if not self._by_ping:
            await connection.send_command("SUBSCRIBE", self._beat_channel)

    async def hear(self) -> bytes | None:
        """Wait for the next message; `None` is a sign of life that is no message.

        Raises:
            ConnectionError: The connection is closed, or silent for too long (redis-py's).
        """
        connection = self._connection
        if connection is None or not connection.is_connected:
            raise failures.ConnectionError("the connection was closed")
        try:
            reply = await connection.read_response(
                disable_decoding=True, timeout=self._silence_seconds
            )
        except failures.NoPermissionError:  # the answer to the second SUBSCRIBE
            self._by_ping = True
            return None
        if reply is None:
            raise failures.ConnectionError(f"silent for {self._silence_seconds:g} s")
        is_ours = reply[0] == b"pmessage" or (
            reply[0] == b"message" and reply[1] == self._channel.encode()
        )
        message: bytes | None = reply[-1] if is_ours else None
        return message

    async def keep_beating(self) -> None:
        """Ask for a sign of life every few seconds; whether it comes, `hear` will tell."""
        while True:
            await asyncio.sleep(self._beat_seconds)
            with suppress(failures.RedisError, OSError):
                await self._beat()

    async def _beat(self) -> None:
        self._beats += 1
        if not self._by_ping:
            try:
                await self._node.publish(self._beat_channel, self._beats)
                return
            except failures.NoPermissionError:
                self._by_ping = True
        if self._connection is not None and self._connection.is_connected:
            await self._connection.send_command("PING")

    async def stop(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close everything."""
        await self.stop()
        await self._node.aclose()

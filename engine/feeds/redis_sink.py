"""The other side of the live feeds: recorded events sent to a stream or a channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import redis.exceptions as failures
from redis.asyncio import Redis

from engine.clock import SystemClock
from engine.errors import FeedUnavailable, FeedUnreachable
from engine.feeds.port import Sink
from engine.feeds.redis_entries import FIELD
from engine.feeds.redis_outage import Outage
from engine.redis_access import (
    ANSWER_SECONDS,
    Client,
    drop_connections,
    explained,
    one_node,
    open_redis,
)

_SENT_AT_ONCE: Final = 500


class RedisSink(Sink):
    """Sends messages in order, many at a time; made by `to_stream` or `to_channel`.

    Where a connection breaks before the answer, nobody knows whether the messages have
    arrived. They are sent again, as readers can deal with duplicates and not with gaps, and
    counted in `repeated`.
    """

    def __init__(
        self, name: str, url: str, client: Client, command: Sequence[Any], outage: Outage
    ) -> None:
        self.name = name
        self.sent = self.repeated = 0
        self.receivers = None  # a stream does not know its readers
        self._url = url
        self._client = client
        self._command = command
        self._outage = outage

    @classmethod
    async def to_stream(
        cls,
        url: str,
        key: str,
        *,
        most_entries: int | None = None,
        patience_seconds: float | None = 10,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> RedisSink:
        """Return a sink that appends to a stream.

        Args:
            url: The server, or a node of the cluster.
            key: The stream.
            most_entries: About how many entries the stream keeps; `None`: all.
            patience_seconds: How long an outage may last before `send` raises; `None`: for ever.
            answer_seconds: The bound of every connection attempt and answer.

        Raises:
            FeedUnreachable: The server does not answer, or not to us.
        """
        client = await open_redis(url, answer_seconds=answer_seconds, kind=FeedUnreachable)
        bound = [] if most_entries is None else ["MAXLEN", "~", most_entries]
        command = ["XADD", key, *bound, "*", FIELD]
        return cls(
            f"redis-stream:{key}", url, client, command, Outage(SystemClock(), patience_seconds)
        )

    @classmethod
    async def to_channel(
        cls, url: str, channel: str, *, patience_seconds: float | None = 10
    ) -> RedisSink:
        """Return a sink that publishes on a channel.

        Args:
            url: The server, or any node of the cluster.
            channel: The channel.
            patience_seconds: How long an outage may last before `send` raises; `None`: for ever.

        Raises:
            FeedUnreachable: The server does not answer, or not to us.
        """
        client = one_node(url)
        try:
            with explained(url, FeedUnreachable):
                await client.ping()
        except BaseException:
            await client.aclose()
            raise
        sink = cls(
            f"redis-pubsub:{channel}",
            url,
            client,
            ["PUBLISH", channel],
            Outage(SystemClock(), patience_seconds),
        )
        sink.receivers = 0
        return sink

    @property
    def trouble(self) -> str:
        """What is wrong during an outage."""
        return self._outage.trouble

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages and wait for the confirmation of each; an outage is waited out.

        Raises:
            FeedUnreachable: The outage lasts longer than our patience.
            FeedUnavailable: The key holds something else, or the message is refused.
        """
        rest: Iterator[bytes] = iter(messages)
        while piece := list(islice(rest, _SENT_AT_ONCE)):
            while piece:
                piece = await self._try(piece)

    async def _try(self, piece: list[bytes]) -> list[bytes]:
        """Send some messages and return those that have to be sent again."""
        unanswered = 0
        try:
            with explained(self._url, FeedUnreachable):
                if self._outage.trouble:
                    await self._client.ping()  # nothing is sent into the void
                unanswered = len(piece)
                replies = await self._execute(piece)
                unanswered = 0
                refused = [
                    (raw, reply)
                    for raw, reply in zip(piece, replies, strict=True)
                    if isinstance(reply, Exception)
                ]
                self.sent += len(piece) - len(refused)
                piece = [raw for raw, _ in refused]
                if refused:
                    raise refused[0][1]
        except FeedUnreachable as error:
            self.repeated += unanswered
            await drop_connections(self._client)
            await self._outage.wait(error)
            return piece
        except failures.ResponseError as error:
            raise FeedUnavailable(f"{self.name}: {error}") from error
        self._outage.over()
        if self.receivers is not None:
            self.receivers = replies[-1]
        return piece

    async def _execute(self, piece: Sequence[bytes]) -> list[Any]:
        pipeline = (
            self._client.pipeline(transaction=False)
            if isinstance(self._client, Redis)
            else self._client.pipeline()
        )
        for raw in piece:
            pipeline.execute_command(*self._command, raw)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def aclose(self) -> None:
        """Disconnect."""
        await self._client.aclose()

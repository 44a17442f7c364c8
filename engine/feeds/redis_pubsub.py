"""A Redis channel as a feed: what is published while nobody hears it is gone, and said so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import redis.exceptions as failures

from engine.clock import Clock, SystemClock, rfc3339
from engine.errors import FeedUnreachable
from engine.feeds.messages import envelope
from engine.feeds.notices import Notices
from engine.feeds.port import CHUNK_SIZE, Envelope, Feed
from engine.feeds.redis_outage import Outage
from engine.redis_access import ANSWER_SECONDS, explained
from engine.redis_subscription import BEAT_SECONDS, SILENCE_SECONDS, Subscription

CHANNEL: Final = "bcs:events"

MOST_BUFFERED: Final = 200_000
MOST_BUFFERED_BYTES: Final = 128 * 1024 * 1024
"""Beyond either bound the oldest message is dropped and counted."""

_IN_A_ROW: Final = 100
"""Messages heard before others get their turn: a flood must not stop the recording."""


class RedisPubSubFeed(Feed):
    """The messages of one channel, from the moment of subscribing on; made by `open`.

    It has no end and no memory. Every gap is counted in `gaps`: whoever shows what comes of
    this feed then reads the state anew.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        subscription: Subscription,
        outage: Outage,
        clock: Clock,
        *,
        chunk_size: int,
        most_buffered: int,
        most_buffered_bytes: int,
        on_gap: Callable[[], None] | None,
    ) -> None:
        self.name = f"redis-pubsub:{channel}"
        self._gaps = 0
        self.dropped = 0
        """How many messages were dropped since they came faster than they were read."""
        self._url = url
        self._subscription = subscription
        self._outage = outage
        self._clock = clock
        self._notices = Notices(self.name, clock)
        self._chunk_size = chunk_size
        self._most_buffered = most_buffered
        self._most_buffered_bytes = most_buffered_bytes
        self._on_gap = on_gap
        self._buffer: deque[Envelope] = deque()
        self._buffered_bytes = 0
        self._is_overflowing = False
        self._heard = 0
        self._heard_at = clock.now()
        self._arrived = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        channel: str = CHANNEL,
        *,
        chunk_size: int = CHUNK_SIZE,
        most_buffered: int = MOST_BUFFERED,
        most_buffered_bytes: int = MOST_BUFFERED_BYTES,
        beat_seconds: float = BEAT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        patience_seconds: float | None = None,
        on_gap: Callable[[], None] | None = None,
        clock: Clock | None = None,
    ) -> RedisPubSubFeed:
        """Subscribe to a channel and begin to listen.

        Args:
            url: The server, or any node of the cluster.
            channel: The channel.
            chunk_size: How many envelopes are handed over at most.
            most_buffered: How many messages wait to be read before the oldest is dropped.
            most_buffered_bytes: How many bytes of messages wait.
            beat_seconds: How often the connection is asked for a sign of life.
            silence_seconds: How long it may be silent before it counts as dead.
            patience_seconds: How long an outage may last before `read` raises; `None`: for ever.
            on_gap: Called at every gap, when it is noticed.
            clock: Stamps notices and measures outages.

        Raises:
            FeedUnreachable: The server does not answer, or not to us.
        """
        clock = clock or SystemClock()
        subscription = Subscription(
            url, channel, beat_seconds=beat_seconds, silence_seconds=silence_seconds
        )
        feed = cls(
            url,
            channel,
            subscription,
            Outage(clock, patience_seconds),
            clock,
            chunk_size=chunk_size,
            most_buffered=most_buffered,
            most_buffered_bytes=most_buffered_bytes,
            on_gap=on_gap,
        )
        try:
            with explained(url, FeedUnreachable):
                await subscription.start()
        except BaseException:
            await subscription.aclose()
            raise
        feed._listener = asyncio.create_task(feed._listen())
        feed._listener.add_done_callback(lambda task: feed._arrived.set())
        return feed

    async def read(self) -> list[Envelope] | None:
        """Wait for messages and return those that are there; `None` only when it is closed.

        Raises:
            FeedUnreachable: An outage lasts longer than our patience.
        """
        await asyncio.sleep(0)
        while not self._closed:
            if self._buffer:
                return self._hand_over()
            if self._listener is not None and self._listener.done():
                self._listener.result()
            self._arrived.clear()
            await self._arrived.wait()
        return None

    async def aclose(self) -> None:
        """Stop listening; a waiting `read` ends."""
        self._closed = True
        self._arrived.set()
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError, FeedUnreachable):
                await self._listener
        with suppress(TimeoutError, failures.RedisError, OSError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._subscription.aclose()

    @property
    def notices(self) -> list[str]:
        """The last gaps, and how many messages were dropped in all."""
        if not self.dropped:
            return self._notices.lines
        return [*self._notices.lines, f"{self.name}: {self.dropped:,} messages dropped in all"]

    @property
    def gaps(self) -> int:
        """How often messages were, or may have been, missed."""
        return self._gaps

    @property
    def trouble(self) -> str:
        """What keeps us from listening, while it does."""
        return self._outage.trouble

    def _hand_over(self) -> list[Envelope]:
        buffer = self._buffer
        chunk = [buffer.popleft() for _ in range(min(len(buffer), self._chunk_size))]
        self._buffered_bytes -= sum(len(one.raw) for one in chunk)
        self._is_overflowing = False
        return chunk

    # --- listening -------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Listen for ever; whatever breaks that is a gap, and the end of a connection."""
        is_subscribed = True
        while True:
            try:
                with explained(self._url, FeedUnreachable):
                    if not is_subscribed:
                        await self._subscription.start()
                        is_subscribed = True
                        self._note_return()
                    await self._hear_all()
            except FeedUnreachable as error:
                if is_subscribed:
                    self._gap(
                        f"contact lost, last heard {rfc3339(self._heard_at)}: {error}; what is "
                        "published until we are back is missed"
                    )
                is_subscribed = False
                await self._outage.wait(error)

    async def _hear_all(self) -> None:
        beating = asyncio.create_task(self._subscription.keep_beating())
        try:
            while True:
                message = await self._subscription.hear()
                self._heard_at = self._clock.now()
                if message is not None:
                    self._keep(message)
                    if self._heard % _IN_A_ROW == 0:
                        await asyncio.sleep(0)
        finally:
            beating.cancel()

    def _keep(self, message: bytes) -> None:
        self._heard += 1
        kept = envelope(message, f"message {self._heard}")
        self._buffer.append(kept)
        self._buffered_bytes += len(kept.raw)
        self._arrived.set()
        while (
            len(self._buffer) > self._most_buffered
            or self._buffered_bytes > self._most_buffered_bytes
        ):
            self._buffered_bytes -= len(self._buffer.popleft().raw)
            self.dropped += 1
            if not self._is_overflowing:
                self._is_overflowing = True
                self._gap("messages come faster than they are recorded; the oldest are dropped")

    def _gap(self, what: str) -> None:
        self._gaps += 1
        self._notices.add(f"gap {self._gaps}: {what}")
        if self._on_gap is not None:
            self._on_gap()

    def _note_return(self) -> None:
        seconds = self._outage.over()
        self._notices.add(f"subscribed again after {seconds or 0:.1f} s")

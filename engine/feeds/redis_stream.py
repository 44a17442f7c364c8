"""A Redis stream read through a consumer group: nothing lost, several workers side by side.

An entry belongs to the consumer that it was given to until it is acknowledged. Whatever breaks
in between (a reply lost on the way, a process killed), it is found again: our own entries after
every doubt, those of others when they have been silent for long enough.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import redis.exceptions as failures

from engine.clock import Clock, SystemClock
from engine.errors import FeedUnavailable, FeedUnreachable, SettingsError
from engine.feeds.port import CHUNK_SIZE, Envelope, Feed
from engine.feeds.redis_entries import Entry, envelope_of
from engine.feeds.redis_group import BEGINNING, Group, is_gone, is_interrupted, unique_name
from engine.feeds.redis_lookout import Lookout
from engine.feeds.redis_outage import Outage
from engine.redis_access import explained, open_redis

KEY: Final = "bcs:events"
GROUP: Final = "bcs-tui"
BLOCK_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 1.5
"""A lost reply is noticed after this; then entries that it carried are read again."""

CLAIM_AFTER_SECONDS: Final = 60.0
"""How long a consumer may be silent with an entry before others take it over."""

_ALONE_AFTER: Final = 2
"""An entry delivered so often comes alone: it must not take others down with it."""

_CLAIM_EVERY_SECONDS: Final = 5.0
_GIVEN_BACK: Final = 10_000


class RedisStreamFeed(Feed):
    """The entries of one stream, each acknowledged when it is recorded; made by `open`."""

    def __init__(
        self,
        url: str,
        group: Group,
        outage: Outage,
        clock: Clock,
        *,
        is_named: bool,
        follow: bool,
        chunk_size: int,
        block_seconds: float,
        claim_after_seconds: float,
    ) -> None:
        self.name = f"redis-stream:{group.key}"
        self._url = url
        self._group = group
        self._outage = outage
        self._clock = clock
        self._lookout = Lookout(self.name, group, clock)
        self._is_named = is_named
        self._follow = follow
        self._chunk_size = self._count = chunk_size
        self._block_seconds = block_seconds
        self._claim_after_seconds = claim_after_seconds
        self._claim_at = clock.monotonic()
        self._chunks: deque[list[bytes]] = deque()  # handed over, but not recorded yet
        self._handed: set[bytes] = set()  # the same, all together
        self._done: list[bytes] = []  # recorded or lost, but not acknowledged yet
        self._settling = asyncio.Lock()
        self._own_after: bytes | None = BEGINNING  # `None`: nothing of ours is left behind
        self._guiltless = False
        self._until: asyncio.Timeout | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        key: str = KEY,
        *,
        group: str = GROUP,
        consumer: str = "",
        follow: bool = False,
        must_exist: bool = False,
        chunk_size: int = CHUNK_SIZE,
        block_seconds: float = BLOCK_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        claim_after_seconds: float = CLAIM_AFTER_SECONDS,
        patience_seconds: float | None = None,
        clock: Clock | None = None,
    ) -> RedisStreamFeed:
        """Join the consumer group of a stream; both are made where they are missing.

        Args:
            url: The server, or a node of the cluster.
            key: The stream.
            group: The consumer group, read from the beginning of the stream if it is new.
            consumer: Our name in it; the same name finds its own unfinished entries at once.
                Without one a name is made that nobody else has.
            follow: Wait for more at the end.
            must_exist: Refuse a stream that is not there, and leave it so.
            chunk_size: How many envelopes are handed over at most.
            block_seconds: How long one command waits for entries.
            answer_seconds: The bound of every connection attempt and answer.
            claim_after_seconds: The silence after which entries of others are taken over.
            patience_seconds: How long an outage may last before `read` raises; `None`: for ever.
            clock: Stamps notices and measures outages.

        Raises:
            SettingsError: A command would wait longer than an answer may take.
            FeedUnavailable: The key holds something else, or nothing where it must.
            FeedUnreachable: The server does not answer, or not to us.
        """
        if not 0 < block_seconds < answer_seconds:
            raise SettingsError(
                f"a stream cannot be waited on for {block_seconds} s where an answer may take "
                f"{answer_seconds} s; wait for less"
            )
        clock = clock or SystemClock()
        client = await open_redis(url, answer_seconds=answer_seconds, kind=FeedUnreachable)
        feed = cls(
            url,
            Group(client, key, group, consumer or unique_name()),
            Outage(clock, patience_seconds),
            clock,
            is_named=bool(consumer),
            follow=follow,
            chunk_size=chunk_size,
            block_seconds=block_seconds,
            claim_after_seconds=claim_after_seconds,
        )
        try:
            with feed._explained():
                if must_exist and not await feed._group.has_stream():
                    raise FeedUnavailable(
                        f"{feed.name}: there is no such stream; check the key, or wait for it "
                        "with --follow"
                    )
                if follow:
                    await feed._lookout.look_for_entries()
                await feed._group.create()
                await feed._lookout.look_at_consumers()
                await feed._group.join()
        except BaseException:
            await client.aclose()
            raise
        return feed

    async def read(self) -> list[Envelope] | None:
        """Wait for entries and return those that are there; an outage is waited out.

        Raises:
            FeedUnreachable: The outage lasts longer than our patience.
            FeedUnavailable: The key holds something else now.
        """
        try:
            async with asyncio.timeout(None) as self._until:
                return await self._read()
        except TimeoutError:  # only `aclose` lets it run out
            return None

    @property
    def may_run_ahead(self) -> bool:
        """Not while entries of ours are read again: one of them may be poison.

        What is recorded beside it would go down with it, and be suspected as well.
        """
        return self._own_after is None

    async def acknowledge(self, ahead: int = 0) -> None:
        """Acknowledge what was handed over; what fails is tried again when reading goes on."""
        while len(self._chunks) > ahead:
            chunk = self._chunks.popleft()
            self._done += chunk
            self._handed.difference_update(chunk)
        try:
            with self._explained():
                await self._acknowledge_done()
        except FeedUnreachable as error:
            self._outage.note(error)

    def give_back(self) -> None:
        """Have `aclose` give what is not recorded to others, as if it had never been delivered."""
        self._guiltless = True

    async def aclose(self) -> None:
        """Acknowledge what is still due, give back the rest and disconnect, all within bounds."""
        if self._closed:
            return
        self._closed = True
        if self._until is not None and self._until.when() is None:
            with suppress(RuntimeError):  # nobody reads at the moment
                self._until.reschedule(asyncio.get_running_loop().time())
        for parting in (self._leave, self._group.aclose):
            with suppress(TimeoutError, failures.RedisError, OSError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await parting()

    @property
    def consumer(self) -> str:
        """Our name in the group."""
        return self._group.consumer

    @property
    def notices(self) -> list[str]:
        """The last things that happened to the stream, its consumers and the connection."""
        return self._lookout.notices

    @property
    def lost(self) -> int:
        """How many entries were trimmed before they were recorded, as far as is known."""
        return self._lookout.lost

    @property
    def gaps(self) -> int:
        """How often entries were found trimmed before they were acknowledged."""
        return self._lookout.gaps

    @property
    def trouble(self) -> str:
        """What keeps us from reading, while it does."""
        return self._outage.trouble

    # --- reading ---------------------------------------------------------------------------

    async def _read(self) -> list[Envelope] | None:
        while not self._closed:
            try:
                with self._explained():
                    chunk = await self._next_or_anew()
            except FeedUnreachable as error:
                self._doubt()
                await self._group.drop_connections()
                await self._outage.wait(error)
            except asyncio.CancelledError:
                self._doubt()
                raise
            else:
                if chunk != []:
                    return chunk
        return None

    def _doubt(self) -> None:
        """Whatever was on its way to us may be ours by now: look, and ask for less at a time."""
        self._own_after = BEGINNING
        self._count = max(1, self._count // 4)

    async def _next_or_anew(self) -> list[Envelope] | None:
        try:
            return await self._next()
        except failures.ResponseError as error:
            self._own_after = BEGINNING
            if is_interrupted(error):
                return []
            if not is_gone(error):
                raise
            await self._group.create()
            self._lookout.reset()
            return []

    async def _acknowledge_done(self) -> None:
        async with self._settling:  # reading and recording both come here
            await self._group.acknowledge(self._done)

    async def _next(self) -> list[Envelope] | None:
        """Return what comes next: ours first; an empty list if it is to be asked again."""
        await self._acknowledge_done()
        if self._clock.monotonic() >= self._claim_at:
            await self._take_over()
        if self._own_after is not None:
            return await self._next_own(self._own_after)
        await self._lookout.look_for_unread()
        entries = await self._group.new(self._count, self._block_seconds if self._follow else None)
        self._note_answer()
        if entries:
            self._lookout.look_at_ids(entries)
            return self._hand_over(entries, {})
        if self._follow:
            return []
        await self._lookout.look_at_others(self._claim_after_seconds)
        return None

    async def _next_own(self, after: bytes) -> list[Envelope]:
        """Return entries that were given to us before: some alone, as each may be poison."""
        pending = await self._group.pending(after, self._count)
        if not pending:
            self._own_after = None
            return []
        count = next(
            (place for place, (_, times) in enumerate(pending) if times >= _ALONE_AFTER),
            len(pending),
        )
        entries = await self._group.own(after, max(1, count))
        self._note_answer()
        self._own_after = entries[-1][0] if entries else pending[-1][0]
        known = self._handed.union(self._done)
        left = [entry for entry in entries if entry[0] not in known]
        return self._hand_over(left, dict(pending))

    def _note_answer(self) -> None:
        """End an outage: a server that only answers questions may still refuse to be read."""
        seconds = self._outage.over()
        if seconds is not None:
            self._lookout.back(seconds)

    def _hand_over(
        self, entries: Sequence[Entry], deliveries: Mapping[bytes, int]
    ) -> list[Envelope]:
        """Make envelopes of entries, and note that they are to be acknowledged."""
        self._count = min(self._chunk_size, self._count * 2)
        self._lookout.came()
        chunk: list[Envelope] = []
        ids: list[bytes] = []
        lost: list[bytes] = []
        for entry_id, fields in entries:
            if fields:
                ids.append(entry_id)
                chunk.append(envelope_of(entry_id, fields, deliveries.get(entry_id, 0)))
            else:
                lost.append(entry_id)
        if chunk:
            self._chunks.append(ids)
            self._handed.update(ids)
        self._lookout.trimmed(lost)
        self._done += lost
        return chunk

    async def _take_over(self) -> None:
        """Claim what consumers that are gone have left behind."""
        taken, trimmed = await self._group.claim(self._claim_after_seconds)
        self._claim_at = self._clock.monotonic() + _CLAIM_EVERY_SECONDS
        self._lookout.trimmed([one for one in trimmed if one not in self._handed])
        rescued = len(set(taken) - self._handed)
        if rescued:
            self._own_after = BEGINNING
            self._lookout.rescued(rescued)

    async def _leave(self) -> None:
        """Settle what the group has in our name, so that others need not wait for it."""
        await self._acknowledge_done()
        pending = await self._group.pending(BEGINNING, _GIVEN_BACK)
        back: dict[int, list[bytes]] = {}
        for entry_id, times in pending:
            if entry_id not in self._handed or self._guiltless:
                back.setdefault(max(0, times - 1), []).append(entry_id)
        for times, ids in back.items():
            await self._group.give_back(ids, times, self._claim_after_seconds)
        # A command that was cut off may still be given something in our name.
        if not pending and self._own_after is None and not self._is_named:
            await self._group.forget(self.consumer)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(self._url, FeedUnreachable):
                yield
        except failures.ResponseError as error:
            raise FeedUnavailable(f"{self.name}: {error}; name another key") from error

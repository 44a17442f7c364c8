"""From a feed into the record: chunks are read ahead, recorded, and acknowledged in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from engine.ahead import ReadAhead
from engine.decoder import FileDecoder
from engine.decoding import Decoded
from engine.errors import RepositoryConflict, RepositoryUnavailable
from engine.feeds.port import Feed
from engine.recorder import Recorder
from engine.repository import BatchStateRepository
from engine.together import run_together


class Intake:
    """Has everything recorded that a feed brings.

    Args:
        feed: Where envelopes come from; the caller closes it.
        repository: Where facts are kept; it says when they are in the permanent record.
        recorder: Records chunks in that repository.
        at_once: How many chunks are being recorded at the same time.
        patience_seconds: How long, at the end, the permanent record is waited for.
        told: Called after each chunk.
    """

    def __init__(
        self,
        feed: Feed,
        repository: BatchStateRepository,
        recorder: Recorder,
        *,
        at_once: int,
        patience_seconds: float | None,
        told: Callable[[], object],
    ) -> None:
        self._feed = feed
        self._repository = repository
        self._recorder = recorder
        self._at_once = at_once
        self._patience_seconds = patience_seconds
        self._told = told
        elsewhere = FileDecoder.start(feed, recorder.begin_decoded)
        self._ahead = elsewhere or ReadAhead(feed, recorder.begin)
        self._under_way = 0
        self._owing = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.Future()

    async def run(self) -> None:
        """Go on until the feed ends and all of it is in the permanent record.

        Raises:
            FeedError: The feed cannot be read.
            RepositoryError: Facts cannot be kept, and patience has run out.
        """
        try:
            async with aclosing(self._ahead):
                await run_together(self._take(), self._settle_later(), self._fail())
        except (RepositoryUnavailable, RepositoryConflict, asyncio.CancelledError):
            self._give_back()
            raise
        await self._settle()

    def _give_back(self) -> None:
        if self._in_hand:
            self._feed.give_back()

    @property
    def _in_hand(self) -> int:
        """How many chunks were read and are not recorded."""
        return self._ahead.waiting + self._under_way

    async def _take(self) -> None:
        """Take chunk after chunk until the last one is recorded."""
        room = asyncio.Semaphore(self._at_once)
        under_way: set[asyncio.Task[None]] = set()
        last: asyncio.Task[None] | None = None
        try:
            while True:
                await room.acquire()
                if last is not None and not self._feed.may_run_ahead:
                    await asyncio.wait([last])
                if self._failure.done():  # what is read now would be suspected as well
                    await self._failure
                decoded = await self._ahead.next()
                if decoded is None:
                    break
                self._under_way += 1
                last = asyncio.create_task(self._keep(decoded, last))
                decoded = None  # the next one then takes its place in memory, which is warm
                under_way.add(last)
                for done in (self._note_failure, under_way.discard, lambda _: room.release()):
                    last.add_done_callback(done)
            if last is not None:
                await last
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error and not self._failure.done():
            self._failure.set_exception(error)

    async def _fail(self) -> None:
        """Fail as soon as a chunk could not be kept, also while the next is waited for."""
        await self._failure

    async def _keep(self, decoded: Decoded, before: asyncio.Task[None] | None) -> None:
        """Record a chunk, and acknowledge it behind the one before."""
        await self._recorder.keep(decoded)
        if before is not None:
            await before
        self._under_way -= 1
        await self._acknowledge()
        self._told()

    async def _acknowledge(self) -> None:
        """Acknowledge what was recorded, unless some of it is not in the permanent record yet."""
        if self._repository.is_provisional:
            self._owing.set()
        else:
            self._owing.clear()
            await self._feed.acknowledge(self._in_hand)

    async def _settle_later(self) -> None:
        """Acknowledge what waits for the permanent record once it is there."""
        while True:
            await self._owing.wait()
            await self._repository.settled()
            await self._acknowledge()

    async def _settle(self) -> None:
        """Wait, at the end, until everything is in the permanent record.

        Raises:
            RepositoryUnavailable: Patience has run out.
        """
        if not self._owing.is_set():
            return
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._repository.settled()
        except TimeoutError:
            raise RepositoryUnavailable(
                "not everything is in the permanent record yet: "
                + ("; ".join(self._repository.notices) or f"{self._repository.name} is provisional")
            ) from None
        await self._acknowledge()

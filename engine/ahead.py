"""Reading ahead: the next chunks are read and decoded while the one before is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from engine.feeds.port import Envelope, Feed

_T = TypeVar("_T")

CHUNKS_AHEAD: Final = 2
"""With one, there would be nothing to do while a commit waits for the disk."""


class ReadAhead(Generic[_T]):
    """Reads a feed a few chunks ahead of whoever takes the chunks from here.

    While the feed may not run ahead, it is read only when somebody waits for a chunk. A chunk
    that is there is handed over at once: waiting for the one behind it holds nothing up.

    Args:
        feed: Where chunks come from; the caller closes it.
        decode: What is done with a chunk as soon as it has been read.
    """

    def __init__(self, feed: Feed, decode: Callable[[Sequence[Envelope]], _T]) -> None:
        self._feed = feed
        self._decode = decode
        self._room = asyncio.Semaphore(CHUNKS_AHEAD)
        self._wanted = asyncio.Event()
        self._ready: asyncio.Queue[_T | None] = asyncio.Queue()
        self._reading: asyncio.Future[None] | None = None
        self.waiting = 0
        """How many chunks were read and not yet taken from here."""

    async def next(self) -> _T | None:
        """Return the next chunk, decoded, or `None` at the end.

        Raises:
            FeedError: The feed could not be read.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read_on())
        if self._ready.empty():
            self._wanted.set()
        decoded = await self._ready.get()
        if decoded is None:
            self._ready.put_nowait(None)
            await self._reading  # raises what went wrong there
            return None
        self._room.release()
        self.waiting -= 1
        return decoded

    async def _read_on(self) -> None:
        try:
            await self._turn()
            while (chunk := await self._feed.read()) is not None:
                if chunk:
                    self.waiting += 1
                    self._ready.put_nowait(self._decode(chunk))
                    self._wanted.clear()
                    await self._turn()
        finally:
            self._ready.put_nowait(None)

    async def _turn(self) -> None:
        """Wait until there is room for a chunk, and until the feed may be read."""
        await self._room.acquire()
        if not self._feed.may_run_ahead:
            await self._wanted.wait()

    async def aclose(self) -> None:
        """Stop reading. What went wrong there matters to nobody who has not asked for it."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

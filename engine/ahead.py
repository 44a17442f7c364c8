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

    Only for feeds with `may_run_ahead`. A chunk that is there is handed over at once: waiting
    for the one behind it holds nothing up.

    Args:
        feed: Where chunks come from; the caller closes it.
        decode: What is done with a chunk as soon as it has been read.
    """

    def __init__(self, feed: Feed, decode: Callable[[Sequence[Envelope]], _T]) -> None:
        self._feed = feed
        self._decode = decode
        self._room = asyncio.Semaphore(CHUNKS_AHEAD)
        self._ready: asyncio.Queue[_T | None] = asyncio.Queue()
        self._reading: asyncio.Future[None] | None = None

    async def next(self) -> _T | None:
        """Return the next chunk, decoded, or `None` at the end.

        Raises:
            FeedError: The feed could not be read.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read_on())
        decoded = await self._ready.get()
        if decoded is None:
            self._ready.put_nowait(None)
            await self._reading  # raises what went wrong there
        self._room.release()
        return decoded

    async def _read_on(self) -> None:
        try:
            await self._room.acquire()
            while (chunk := await self._feed.read()) is not None:
                if chunk:
                    self._ready.put_nowait(self._decode(chunk))
                    await self._room.acquire()
        finally:
            self._ready.put_nowait(None)

    async def aclose(self) -> None:
        """Stop reading. What went wrong there matters to nobody who has not asked for it."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

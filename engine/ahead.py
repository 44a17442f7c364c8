"""Reading ahead: the next chunk is read and decoded while the one before is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from engine.feeds.port import Envelope, Feed

_T = TypeVar("_T")


class ReadAhead(Generic[_T]):
    """Reads a feed one chunk ahead of whoever takes the chunks from here.

    Only for feeds with `may_run_ahead`. A chunk that is there is handed over at once: waiting
    for the one behind it holds nothing up.

    Args:
        feed: Where chunks come from; the caller closes it.
        decode: What is done with a chunk as soon as it has been read.
    """

    def __init__(self, feed: Feed, decode: Callable[[Sequence[Envelope]], _T]) -> None:
        self._feed = feed
        self._decode = decode
        self._reading: asyncio.Future[_T | None] | None = None

    async def next(self) -> _T | None:
        """Return the next chunk, decoded, or `None` at the end, and begin to read on.

        Raises:
            FeedError: The feed could not be read.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        decoded = await self._reading
        if decoded is not None:
            self._reading = asyncio.ensure_future(self._read())
        return decoded

    async def _read(self) -> _T | None:
        chunk: list[Envelope] | None = []
        while chunk is not None:
            if chunk := await self._feed.read():
                return self._decode(chunk)
        return None

    async def aclose(self) -> None:
        """Stop reading. What went wrong there matters to nobody who has not asked for it."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

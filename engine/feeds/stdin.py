"""Standard input as a feed: a pipe, a redirected file or a socket."""

from __future__ import annotations

import asyncio
import os
import select
import sys

from engine.errors import FeedUnavailable
from engine.feeds.files import BLOCK_BYTES, refuse_binary, unavailable
from engine.feeds.lines import LineSplitter, envelopes
from engine.feeds.port import CHUNK_SIZE, Envelope, Feed


class StdinFeed(Feed):
    """The lines of standard input, until it ends.

    The descriptor is only read when it has something to give, so it need not be set to
    non-blocking, which would change it for every other process that has it.

    Args:
        descriptor: What is read; standard input unless told otherwise. It stays open.
        chunk_size: How many envelopes are handed over at most.

    Raises:
        FeedUnavailable: Standard input is closed or a terminal.
    """

    name = "standard input"

    def __init__(self, descriptor: int | None = None, *, chunk_size: int = CHUNK_SIZE) -> None:
        try:
            self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
            os.fstat(self._descriptor)
        except (OSError, AttributeError, ValueError) as error:
            raise FeedUnavailable(f"{self.name}: is closed; pipe events into it") from error
        if os.isatty(self._descriptor):
            raise FeedUnavailable(f"{self.name}: is a terminal; pipe events into it or name a file")
        self._chunk_size = chunk_size
        self._splitter = LineSplitter()
        self._ready: list[Envelope] = []
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._wake = asyncio.Event()
        self._begun = self._ended = self._closed = False

    @property
    def may_run_ahead(self) -> bool:
        """Always: nobody has to be told what was recorded."""
        return True

    async def read(self) -> list[Envelope] | None:
        """Wait for lines and return those that are there, or `None` at the end.

        Raises:
            FeedUnavailable: What comes is not text, or the system refuses to read on.
        """
        while not self._closed:
            waiting = not self._ended and not self._poll.poll(0)
            if len(self._ready) >= self._chunk_size or (self._ready and (waiting or self._ended)):
                chunk = self._ready[: self._chunk_size]
                del self._ready[: self._chunk_size]
                return chunk
            if self._ended:
                return None
            if waiting:
                await self._readable()
            else:
                self._take_block()
                await asyncio.sleep(0)
        return None

    async def aclose(self) -> None:
        """End a waiting `read`; standard input itself is left as it is."""
        self._closed = True
        self._wake.set()

    def _take_block(self) -> None:
        try:
            block = os.read(self._descriptor, BLOCK_BYTES)
        except OSError as error:
            raise unavailable(self.name, error) from error
        if not self._begun:
            refuse_binary(self.name, block)
            self._begun = True
        self._ended = not block
        lines = self._splitter.split(block) if block else self._splitter.finish()
        self._ready += envelopes(lines)

    async def _readable(self) -> None:
        """Wait until there is something to read; a regular file never comes here."""
        self._wake.clear()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            loop.remove_reader(self._descriptor)

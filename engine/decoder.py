"""Decoding a long file in a process of its own, beside the one that records.

Recording alone keeps an interpreter busy: what is decoded there as well comes on top.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Self

import msgspec

from engine.decode_file import LENGTH_BYTES, Message, Read
from engine.decoding import Decoded
from engine.errors import FeedUnavailable
from engine.feeds.files import unavailable
from engine.feeds.port import Feed

_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Read | int | None)


class FileDecoder:
    """A process that reads the file of a feed from its beginning and decodes it.

    While one chunk is recorded the next is received, and the one behind it decoded. What was
    received becomes objects only when it is asked for: chunks that are there at the same time
    drive each other out of the processor's caches, which costs more than waiting does.

    Args:
        feed: Told how much was read.
        path: The file, for messages.
        process: What decodes it.
        begin: Told of a chunk as soon as it is there.
    """

    waiting: Final = 0
    """How many chunks are in hand and not yet taken from here: none before it is asked for."""

    def __init__(
        self,
        feed: Feed,
        path: str,
        process: subprocess.Popen[bytes],
        begin: Callable[[Decoded], object],
    ) -> None:
        self._feed = feed
        self._path = path
        self._process = process
        self._begin = begin
        self._receiving = self._receive_next()

    @classmethod
    def start(cls, feed: Feed, begin: Callable[[Decoded], object]) -> Self | None:
        """Start the process if that is worth it and there is room for one more."""
        file = feed.whole_file()
        if file is None:
            return None
        # It finds the modules where this process does, and never in the working directory.
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.decode_file", str(file.chunk_size)],
                stdin=file.descriptor,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": places},
                process_group=0,  # what is typed at the terminal is meant for this process
            )
        except OSError:  # too many processes, too little memory: the feed can be read here too
            return None
        return cls(feed, file.path, process, begin)

    async def next(self) -> Decoded | None:
        """Return the next chunk, or `None` at the end.

        Raises:
            FeedUnavailable: The file cannot be read on, or the process has ended early.
        """
        packed = await self._receiving
        if packed is None:
            raise FeedUnavailable(
                f"{self._path}: the process that decodes it has ended early"
                f" (exit code {self._process.wait()}); run the same again"
            )
        message = _decoder.decode(packed)
        if message is None:
            return None
        if isinstance(message, int):
            error = OSError(message, os.strerror(message))
            raise unavailable(self._path, error) from error
        self._receiving = self._receive_next()
        self._feed.progressed(message.size)
        self._begin(message.decoded)
        return message.decoded

    def _receive_next(self) -> asyncio.Future[bytes | None]:
        return asyncio.ensure_future(asyncio.to_thread(self._receive))

    def _receive(self) -> bytes | None:
        """Return the next message; `None` if there is no whole one any more."""
        assert self._process.stdout is not None
        pipe = self._process.stdout
        length = int.from_bytes(pipe.read(LENGTH_BYTES), "big")
        packed = pipe.read(length)
        return packed if length and len(packed) == length else None

    async def aclose(self) -> None:
        """End the process, if it has not done so by itself."""
        self._process.kill()
        await asyncio.gather(self._receiving, return_exceptions=True)
        await asyncio.to_thread(self._process.__exit__, None, None, None)

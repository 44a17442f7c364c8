"""A TCP proxy that fails on command: late, silent, deaf to one answer, or gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class _Pair:
    """One connection of a client, and the one that the proxy has made for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._writers = (client, server)
        self.deaf = False
        """Nothing that the server says reaches the client any more."""

    def reset(self) -> None:
        """End both connections without a word."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Stands in front of a server on the loopback; its attributes may be set at any time."""

    def __init__(self, server_port: int) -> None:
        self.latency_seconds = 0.0
        """Every piece of data is late by so much, in both directions."""
        self.silent = False
        """Data is taken and goes nowhere; connections stay open, and new ones are accepted."""
        self.lose_answer_to = b""
        """When a client sends this, the server gets it, and what it answers is lost once."""
        self.reset_when_lost = True
        """The connection ends with the lost answer; otherwise it only stays silent."""
        self.lost = 0
        """How many answers have been lost."""
        self.port = 0
        self.server_port = server_port
        """Where new connections lead to."""
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    def url_of(self, url: str) -> str:
        """Return the address of the server by way of the proxy."""
        return url.replace(f":{urlsplit(url).port}", f":{self.port}")

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    def reset(self) -> None:
        """End all connections without a word; new ones are accepted."""
        for pair in self._pairs:
            pair.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError):
                far = await asyncio.open_connection("127.0.0.1", self.server_port)
                pair = _Pair(writer, far[1])
                self._pairs.add(pair)
                try:
                    await asyncio.gather(
                        self._pump(reader, far[1], pair, to_server=True),
                        self._pump(far[0], writer, pair, to_server=False),
                    )
                finally:
                    self._pairs.discard(pair)
                    pair.reset()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: _Pair,
        *,
        to_server: bool,
    ) -> None:
        while data := await reader.read(65_536):
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            if to_server and self.lose_answer_to and self.lose_answer_to in data:
                self.lose_answer_to, pair.deaf = b"", True
            elif not to_server and pair.deaf:
                self.lost += 1
                if self.reset_when_lost:
                    break
                continue
            if not self.silent:
                writer.write(data)
                await writer.drain()
        pair.reset()

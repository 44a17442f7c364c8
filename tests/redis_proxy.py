"""A TCP proxy in front of a server of the tests: half-open connections, swallowed replies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes bytes on, unless told otherwise.

    `blackhole` accepts and passes nothing. `swallow` names bytes: the request that holds them
    goes through, its reply does not, and the connection is closed; this happens once.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.blackhole = False
        self.swallow = b""
        self.swallowed = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
            muted = asyncio.Event()
            pumps = [
                asyncio.create_task(self._requests(reader, outer, muted)),
                asyncio.create_task(self._replies(inner, writer, muted)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                writer.close()
                outer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, outer: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if self.blackhole:
                continue
            if self.swallow and self.swallow in data:
                self.swallow = b""
                self.swallowed += 1
                muted.set()
            outer.write(data)
            await outer.drain()

    async def _replies(
        self, inner: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        while data := await inner.read(65536):
            if self.blackhole:
                continue
            if muted.is_set():
                return
            writer.write(data)
            await writer.drain()

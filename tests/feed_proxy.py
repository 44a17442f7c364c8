"""A TCP proxy that stands between a feed and its server and misbehaves when it is told to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class FeedProxy:
    """Passes everything on, unless told otherwise; a context.

    `swallow_reply_to` names a command of which the next reply, and everything after it on the
    same connection, gets lost. `silent` lets nothing through any more, in either direction.
    `server_port` is where new connections lead to.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.swallow_reply_to: bytes | None = None
        self.silent = False
        self.server_port = self._parts.port
        self._serving: set[asyncio.Task[None]] = set()
        self._ways: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        account = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{account}@127.0.0.1:{self._port}"))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._serving)

    async def _serve(self, down: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        up, to_server = await asyncio.open_connection(self._parts.hostname, self.server_port)
        connection = _Connection(self)
        ways = [
            asyncio.create_task(connection.requests(down, to_server)),
            asyncio.create_task(connection.replies(up, to_client)),
        ]
        self._ways.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for writer in (to_client, to_server):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class _Connection:
    def __init__(self, proxy: FeedProxy) -> None:
        self._proxy = proxy
        self._mute = False

    async def requests(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                wanted = self._proxy.swallow_reply_to
                if wanted and wanted in data:
                    self._proxy.swallow_reply_to = None
                    self._mute = True
                if not self._proxy.silent:
                    sink.write(data)
                    await sink.drain()

    async def replies(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not (self._mute or self._proxy.silent):
                    sink.write(data)
                    await sink.drain()

"""Servers that speak TLS: the wheels' own do not, so a listener in front of them does it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import trustme

_SSL_REQUEST: Final = bytes.fromhex("00000008 04d2162f")


class Authority:
    """An authority of the test's own, and what it certifies; as files where drivers want files."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def context_for(self, *names: str) -> ssl.SSLContext:
        """What a server of these names shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context

    def certify(self, directory: Path) -> tuple[Path, Path]:
        """A client's certificate and its key."""
        issued = self._ca.issue_cert("client.example")
        certificate, key = directory / "client.pem", directory / "client.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def demand_of(self, context: ssl.SSLContext) -> None:
        """Have a server take only clients whom this authority has certified."""
        self._ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED


class TlsFront:
    """Takes TLS off and passes the rest on to a server on the loopback.

    Args:
        server_port: Where the server listens.
        context: What is shown to clients.
        asks_first: PostgreSQL's clients ask whether there is TLS before they begin with it.
    """

    def __init__(
        self, server_port: int, context: ssl.SSLContext, *, asks_first: bool = False
    ) -> None:
        self._server_port = server_port
        self._context = context
        self._asks_first = asks_first
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.served = 0
        """How many clients have agreed to the certificate."""

    def url_of(self, url: str, scheme: str, host: str) -> str:
        """Return the address of the server by way of this one, under a name of it."""
        parts = urlsplit(url)
        account = parts.netloc.rpartition("@")[0]
        return parts._replace(scheme=scheme, netloc=f"{account}@{host}:{self.port}").geturl()

    async def __aenter__(self) -> Self:
        context = None if self._asks_first else self._context
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                if self._asks_first:
                    assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
                    writer.write(b"S")
                    await writer.start_tls(self._context)
                self.served += 1
                far = await asyncio.open_connection("127.0.0.1", self._server_port)
                pumps = [
                    asyncio.ensure_future(_pump(reader, far[1])),
                    asyncio.ensure_future(_pump(far[0], writer)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
                    far[1].transport.abort()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()

"""A file of events as writers, rotators and operators treat it, and a reader to its end."""

from __future__ import annotations

import os
from pathlib import Path

from engine.feeds.port import Envelope, Feed


class EventFile:
    """What happens to a file while somebody reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, content: bytes = b"") -> None:
        self.path.write_bytes(content)

    def append(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)

    def rewrite(self, content: bytes) -> None:
        """Cut the file and write it anew, all in one moment; it stays the same file."""
        with self.path.open("r+b") as file:
            file.truncate(0)
            file.write(content)

    def truncate(self, size: int = 0) -> None:
        os.truncate(self.path, size)

    def rename(self) -> EventFile:
        return EventFile(self.path.rename(self.path.with_suffix(".1")))

    def remove(self) -> None:
        self.path.unlink()


async def drain(feed: Feed) -> list[Envelope]:
    """Read a feed that ends, to its end, and close it."""
    taken: list[Envelope] = []
    while (chunk := await feed.read()) is not None:
        taken += chunk
    await feed.aclose()
    return taken

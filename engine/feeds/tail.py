"""One open file that is read forward, and that may be cut or rewritten while it is."""

from __future__ import annotations

import os

from engine.feeds.files import BLOCK_BYTES
from engine.feeds.lines import Line, LineSplitter

FINGERPRINT_BYTES = 1024


class Tail:
    """Reads a file block by block to its present end, as often as it is asked to.

    Owns the descriptor. `size` is that at the beginning, `offset` what was read so far, in bytes.
    Methods raise `OSError` where the system does.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self._begin()

    def _begin(self) -> None:
        self.offset = 0
        self._beginning = b""
        self._splitter = LineSplitter()

    def read(self) -> list[Line] | None:
        """Return the lines that end in the next block, or `None` at the present end."""
        block = os.pread(self.descriptor, BLOCK_BYTES, self.offset)
        if not block:
            return None
        if self.offset < FINGERPRINT_BYTES:
            self._beginning = (self._beginning + block)[:FINGERPRINT_BYTES]
        self.offset += len(block)
        return self._splitter.split(block)

    def restarted(self) -> tuple[str, list[Line]]:
        """Start again if the file is no longer the one that was read so far.

        Returns what happened, empty if nothing, and the half line that was left behind.
        The first 1 KiB tell a file that was cut and has already outgrown its old length.
        """
        size = os.fstat(self.descriptor).st_size
        beginning = os.pread(self.descriptor, len(self._beginning), 0)
        if size >= self.offset and beginning == self._beginning:
            return "", []
        what = "truncated" if size < self.offset else "rewritten"
        half = self._splitter.finish()
        self._begin()
        return what, half

    def close(self) -> list[Line]:
        """Close the file; return the line that ended without a newline, if one did."""
        os.close(self.descriptor)
        return self._splitter.finish()

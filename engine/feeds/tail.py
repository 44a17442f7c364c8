"""One open file that is read forward, and that may be cut or rewritten while it is."""

from __future__ import annotations

import os

from engine.feeds.files import BLOCK_BYTES
from engine.feeds.lines import Line, LineSplitter

FINGERPRINT_BYTES = 1024


class Tail:
    """Reads a file block by block to its present end, as often as it is asked to.

    Owns the descriptor. Methods raise `OSError` where the system does.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self._begin()

    def _begin(self) -> None:
        self._offset = 0
        self._beginning = b""
        self._splitter = LineSplitter()

    def read(self) -> list[Line] | None:
        """Return the lines that end in the next block, or `None` at the present end."""
        block = os.pread(self._descriptor, BLOCK_BYTES, self._offset)
        if not block:
            return None
        if self._offset < FINGERPRINT_BYTES:
            self._beginning = (self._beginning + block)[:FINGERPRINT_BYTES]
        self._offset += len(block)
        return self._splitter.split(block)

    def restarted(self) -> tuple[str, list[Line]]:
        """Start again if the file is no longer the one that was read so far.

        Returns what happened, empty if nothing, and the half line that was left behind.
        The first 1 KiB tell a file that was cut and has already outgrown its old length.
        """
        size = os.fstat(self._descriptor).st_size
        beginning = os.pread(self._descriptor, len(self._beginning), 0)
        if size >= self._offset and beginning == self._beginning:
            return "", []
        what = "truncated" if size < self._offset else "rewritten"
        half = self._splitter.finish()
        self._begin()
        return what, half

    def close(self) -> list[Line]:
        """Close the file; return the line that ended without a newline, if one did."""
        os.close(self._descriptor)
        return self._splitter.finish()

"""Bytes into lines: split at the newline byte only, in bounded memory however long a line is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from engine.feeds.port import MAX_EVENT_BYTES, Envelope

if TYPE_CHECKING:
    from hashlib import _Hash

BOM = b"\xef\xbb\xbf"
KEPT_BYTES = 64 * 1024
"""How much is kept of a line that is too long to be an envelope."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line that is not blank: where its text starts, and what is odd about it.

    `number` counts from 1 and includes blank lines; `offset` is in bytes. `oversize`,
    `sha256` and `truncated` are those of an `Envelope`.
    """

    raw: bytes
    number: int
    offset: int
    oversize: int = 0
    sha256: str = ""
    truncated: bool = False


def envelopes(lines: Iterable[Line], source: str = "") -> list[Envelope]:
    """Return lines as envelopes; `source` goes in front of each position."""
    return [
        Envelope(
            line.raw,
            f"{source}line {line.number}, byte {line.offset}",
            line.oversize,
            line.sha256,
            line.truncated,
        )
        for line in lines
    ]


class LineSplitter:
    """Cuts a stream of blocks into lines; where the blocks were cut makes no difference.

    A line may contain any byte but the newline. One carriage return before the newline and
    a byte order mark at offset 0 are not part of the text; blank lines are counted, not
    returned. Of a line longer than `limit` bytes only the first 64 KiB are ever held.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._number = 1
        self._offset = 0
        self._parts: list[bytes] = []
        self._held = 0
        self._digest: _Hash | None = None

    def split(self, block: bytes) -> list[Line]:
        """Take the next block and return the lines that end in it."""
        first, *middle = block.split(b"\n")
        self._hold(first)
        if not middle:
            return []
        last = middle.pop()
        lines = self._end()
        for raw in middle:
            if len(raw) > self._limit:
                self._hold(raw)
                lines += self._end()
                continue
            if raw and not raw.isspace():
                lines.append(Line(raw.removesuffix(b"\r"), self._number, self._offset))
            self._number += 1
            self._offset += len(raw) + 1
        self._hold(last)
        return lines

    def finish(self) -> list[Line]:
        """Return the last line, if the stream ended without a newline behind it."""
        return self._end(truncated=True) if self._held else []

    def _hold(self, part: bytes) -> None:
        """Keep a part of a line whose end is not there yet."""
        self._held += len(part)
        if self._held <= self._limit:
            self._parts.append(part)
            return
        if self._digest is None:
            self._digest = hashlib.sha256(b"".join(self._parts))
        self._digest.update(part)
        if len(self._parts) != 1 or len(self._parts[0]) < KEPT_BYTES:
            self._parts = [b"".join((*self._parts, part))[:KEPT_BYTES]]

    def _end(self, truncated: bool = False) -> list[Line]:
        """Return the held line, unless it is blank, and begin the next one."""
        raw, number, offset = b"".join(self._parts), self._number, self._offset
        size, digest = self._held, self._digest
        self._parts, self._held, self._digest = [], 0, None
        self._number += 1
        self._offset += size + 1
        if offset == 0 and raw.startswith(BOM):
            raw, offset = raw[len(BOM) :], len(BOM)
        if digest is not None:
            return [Line(raw, number, offset, size, digest.hexdigest(), truncated)]
        if not raw or raw.isspace():
            return []
        return [Line(raw.removesuffix(b"\r"), number, offset, truncated=truncated)]

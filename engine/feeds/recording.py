"""Recorded files of events and the index of their lines: where each starts and when it was."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from engine.clock import from_microseconds, to_microseconds
from engine.errors import FeedUnavailable
from engine.feeds.files import BLOCK_BYTES, open_text, unavailable
from engine.feeds.lines import Line, LineSplitter, envelopes
from engine.feeds.port import Envelope

_KEY = b'"event_timestamp": "'
_COMPACT_KEY = b'"event_timestamp":"'
_PLAUSIBLE = range(2000, 2100)
_READ_BYTES = 1024 * 1024


class _Stamp(msgspec.Struct):
    event_timestamp: datetime


_decode_stamp = msgspec.json.Decoder(_Stamp, strict=False).decode


def event_time(raw: bytes) -> int | None:
    """Return the time of an envelope in microseconds since 1970, or `None` without one.

    A year outside this century is no time: one such line would stop a replay for good.
    """
    for key in (_KEY, _COMPACT_KEY):
        start = raw.find(key)
        if start >= 0:
            start += len(key)
            try:
                return _microseconds(
                    datetime.fromisoformat(raw[start : raw.index(b'"', start)].decode("ascii"))
                )
            except ValueError:
                break
    try:
        return _microseconds(_decode_stamp(raw).event_timestamp)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def _microseconds(moment: datetime) -> int | None:
    if moment.year not in _PLAUSIBLE:
        return None
    return to_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


class Recording:
    """The lines of several files in order, indexed block by block.

    `times` holds the running maximum of the event times, in microseconds: a line from
    before its predecessor, or without a time, happens together with it. The arrays cost
    28 bytes a line.

    Raises:
        FeedUnavailable: A file is missing, unreadable, special, or not text.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.times = array("q")
        self.complete = not paths
        self._starts = array("q")
        self._sizes = array("i")
        self._numbers = array("q")
        self._odd: dict[int, Line] = {}
        self._paths = [Path(path) for path in paths]
        self._first = [0]
        self._newest: int | None = None
        self._descriptors: list[int] = []
        self._offset = 0
        self._splitter = LineSplitter()
        try:
            for path in self._paths:
                self._descriptors.append(open_text(path))
        except FeedUnavailable:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The first and the last time known so far."""
        if self._newest is None:
            return None
        return from_microseconds(self.times[0]), from_microseconds(self.times[-1])

    def advance(self) -> None:
        """Index one more block, if there is one.

        Raises:
            FeedUnavailable: The system refuses to read on.
        """
        if self.complete:
            return
        file = len(self._first) - 1
        try:
            block = os.pread(self._descriptors[file], BLOCK_BYTES, self._offset)
        except OSError as error:
            raise unavailable(str(self._paths[file]), error) from error
        self._offset += len(block)
        self._add(self._splitter.split(block) if block else self._splitter.finish())
        if not block:
            self._offset, self._splitter = 0, LineSplitter()
            self.complete = len(self._first) == len(self._paths)
            if not self.complete:
                self._first.append(len(self))

    def _add(self, lines: list[Line]) -> None:
        for line in lines:
            moment = event_time(line.raw)
            if moment is not None and (self._newest is None or moment > self._newest):
                if self._newest is None:
                    self.times = array("q", [moment]) * len(self)
                self._newest = moment
            if line.oversize or line.truncated:
                self._odd[len(self)] = line
            self._starts.append(line.offset)
            self._sizes.append(len(line.raw))
            self._numbers.append(line.number)
            self.times.append(self._newest or 0)

    def index_at(self, moment: int) -> int:
        """Return how many lines happen up to and including a moment in microseconds."""
        return bisect_right(self.times, moment)

    def read(self, index: int, count: int) -> list[Envelope]:
        """Return up to `count` envelopes from an index on: at least one, about 1 MiB.

        Raises:
            FeedUnavailable: The file is shorter than it was, or the system refuses.
        """
        file = bisect_right(self._first, index) - 1
        path = self._paths[file]
        source = f"{path.name}: " if len(self._paths) > 1 else ""
        if index in self._odd:
            return envelopes([self._odd[index]], source)
        stop = self._stop(file, index, count)
        start = self._starts[index]
        end = self._starts[stop - 1] + self._sizes[stop - 1]
        try:
            block = os.pread(self._descriptors[file], end - start, start)
        except OSError as error:
            raise unavailable(str(path), error) from error
        if len(block) < end - start:
            raise FeedUnavailable(f"{path}: became shorter while it was replayed; replay it anew")
        return envelopes(
            (
                Line(block[at - start : at - start + size], number, at)
                for at, size, number in zip(
                    self._starts[index:stop],
                    self._sizes[index:stop],
                    self._numbers[index:stop],
                    strict=True,
                )
            ),
            source,
        )

    def _stop(self, file: int, index: int, count: int) -> int:
        """Return the index up to which a chunk can be read in one go."""
        limit = self._first[file + 1] if file + 1 < len(self._first) else len(self)
        limit = min(limit, index + count, *(odd for odd in self._odd if odd > index), 1 << 62)
        near = bisect_left(self._starts, self._starts[index] + _READ_BYTES, index + 1, limit)
        return max(near, index + 1)

    def close(self) -> None:
        """Close the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

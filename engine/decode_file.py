"""A process that reads the file on its standard input and writes what the lines say.

Each message on standard output is its length in 4 bytes, then MessagePack: a `Read` for every
chunk, at last `None`, or the `errno` for which the system refused to read on. It ends with
whoever started it: then there is nobody left to write to.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from engine.decoding import Decoded, decode
from engine.feeds.lines import envelopes
from engine.feeds.port import Envelope
from engine.feeds.tail import Tail

LENGTH_BYTES: Final = 4
_STDIN, _STDOUT = 0, 1
_COLLECT_AFTER: Final = 500_000  # There are no cycles to find, only chunks that come and go.


class Read(msgspec.Struct, gc=False):
    """A chunk, and how many bytes more of the file have been read for it."""

    decoded: Decoded
    size: int


Message: TypeAlias = Read | int | None


def main() -> None:
    """Decode standard input in chunks of so many lines as the first argument says."""
    gc.set_threshold(_COLLECT_AFTER)
    try:
        for message in _messages(int(sys.argv[1])):
            _write(message)
    except BrokenPipeError:
        sys.exit(1)


def _messages(chunk_size: int) -> Iterator[Message]:
    before = 0
    try:
        tail = Tail(_STDIN)
        for chunk in _chunks(tail, chunk_size):
            yield Read(decode(chunk), tail.offset - before)
            before = tail.offset
    except OSError as error:
        yield error.errno or 0
    else:
        yield None


def _chunks(tail: Tail, chunk_size: int) -> Iterator[list[Envelope]]:
    ready: list[Envelope] = []
    while (lines := tail.read()) is not None:
        ready += envelopes(lines)
        while len(ready) >= chunk_size:
            yield ready[:chunk_size]
            del ready[:chunk_size]
    ready += envelopes(tail.close())
    while ready:
        yield ready[:chunk_size]
        del ready[:chunk_size]


def _write(message: Message) -> None:
    packed = msgspec.msgpack.encode(message)
    rest = memoryview(len(packed).to_bytes(LENGTH_BYTES, "big") + packed)
    while rest:
        rest = rest[os.write(_STDOUT, rest) :]


if __name__ == "__main__":
    main()

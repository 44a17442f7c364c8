"""Opening files of events, and saying plainly why something is not one."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from engine.errors import FeedUnavailable

BLOCK_BYTES = 256 * 1024
"""How much is read in one go: small enough that the event loop never waits long."""

_FIRST_BYTES = 4096
_ENOUGH_BYTES: Final = 512
_NOISE: Final = 0.05
"""The share of control characters from which on bytes are no text; a ninth of random bytes are."""

_CONTROLS: Final = bytes([*range(9), 11, 12, *range(14, 32), 127])
_EVENT: Final = re.compile(rb"^[ \t]*\{[ \t]*\"", re.MULTILINE)
_DECOMPRESS = "decompress it first"
_EXPECTED = "a feed is text with one JSON event on each line"
_MAGIC = (
    (b"\x1f\x8b", "gzip data", _DECOMPRESS),
    (b"PK\x03\x04", "zip archive", _DECOMPRESS),
    (b"BZh", "bzip2 data", _DECOMPRESS),
    (b"\xfd7zXZ\x00", "xz data", _DECOMPRESS),
    (b"\x28\xb5\x2f\xfd", "zstd data", _DECOMPRESS),
    (b"\x89PNG", "PNG image", _EXPECTED),
    (b"%PDF-", "PDF document", _EXPECTED),
    (b"SQLite format 3\x00", "SQLite database", _EXPECTED),
    (b"\xff\xfe", "UTF-16 text", "convert it to UTF-8 first"),
    (b"\xfe\xff", "UTF-16 text", "convert it to UTF-8 first"),
)
_KINDS = (
    (stat.S_ISDIR, "a directory", "name a file in it"),
    (stat.S_ISFIFO, "a FIFO", "redirect it to standard input and name '-'"),
    (stat.S_ISCHR, "a device", _EXPECTED),
    (stat.S_ISBLK, "a device", _EXPECTED),
    (stat.S_ISSOCK, "a socket", _EXPECTED),
)


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises:
        FeedUnavailable: It is missing, not readable, or not a regular file.
    """
    descriptor = -1
    try:
        _refuse_special(path, os.stat(path).st_mode)
        # Without O_NONBLOCK, a FIFO put there in the meantime would hang the program.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        _refuse_special(path, os.fstat(descriptor).st_mode)
    except (OSError, ValueError, FeedUnavailable) as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, FeedUnavailable):
            raise
        raise unavailable(str(path), error) from error
    return descriptor


def open_text(path: Path) -> int:
    """Open a regular file that looks like lines of text.

    Raises:
        FeedUnavailable: As `open_regular`, or the file holds something else than text.
    """
    descriptor = open_regular(path)
    try:
        refuse_binary(str(path), os.pread(descriptor, _FIRST_BYTES, 0))
    except (OSError, FeedUnavailable) as error:
        os.close(descriptor)
        if isinstance(error, FeedUnavailable):
            raise
        raise unavailable(str(path), error) from error
    return descriptor


def refuse_binary(name: str, beginning: bytes) -> None:
    """Check the first bytes of a feed; a NUL in the first line tells that it is no text.

    Raises:
        FeedUnavailable: The bytes are of a known other format, or binary.
    """
    for magic, kind, advice in _MAGIC:
        if beginning.startswith(magic):
            raise FeedUnavailable(f"{name}: not JSONL ({kind}); {advice}")
    if b"\0" in beginning.lstrip().split(b"\n", 1)[0]:
        raise FeedUnavailable(f"{name}: not JSONL (binary data); {_EXPECTED}")
    if _is_noise(beginning):
        raise FeedUnavailable(f"{name}: not JSONL (binary data); {_EXPECTED}")


def _is_noise(beginning: bytes) -> bool:
    """Tell whether bytes are no text in any encoding; bad lines among others are none."""
    controls = len(beginning) - len(beginning.translate(None, _CONTROLS))
    if len(beginning) < _ENOUGH_BYTES or controls < _NOISE * len(beginning):
        return False
    return not _EVENT.search(beginning)


def unavailable(name: str, error: Exception) -> FeedUnavailable:
    """Return the error of the system, said of a feed, in one line."""
    if isinstance(error, FileNotFoundError):
        return FeedUnavailable(f"{name}: no such file; check the path")
    if isinstance(error, PermissionError):
        return FeedUnavailable(f"{name}: permission denied; it must be readable")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return FeedUnavailable(f"{name}: cannot be read: {reason}")


def _refuse_special(path: Path, mode: int) -> None:
    for matches, kind, advice in _KINDS:
        if matches(mode):
            raise FeedUnavailable(f"{path}: not a regular file but {kind}; {advice}")

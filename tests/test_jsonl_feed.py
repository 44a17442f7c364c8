"""A file as a feed: what its lines are, and what is refused."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import random
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from event_files import EventFile, drain

from engine.errors import FeedUnavailable
from engine.feeds.jsonl import JsonlFeed
from engine.feeds.port import MAX_EVENT_BYTES, Feed
from engine.feeds.replay import ReplayFeed


@pytest.fixture
def file(tmp_path: Path) -> EventFile:
    return EventFile(tmp_path / "events.jsonl")


async def raws(file: EventFile) -> list[bytes]:
    return [envelope.raw for envelope in await drain(JsonlFeed(file.path))]


async def test_only_the_newline_byte_ends_a_line(file: EventFile) -> None:
    texts = [b'"a\rb"', '"a\u2028b\u2029c\u0085d"'.encode(), b'"a\x0bb\x0cc"', b'"\x1c\x1d\x1e"']
    file.put(b"\n".join(texts) + b"\n")
    assert await raws(file) == texts


async def test_byte_order_mark_carriage_returns_and_blank_lines(file: EventFile) -> None:
    file.put(b"\xef\xbb\xbf{}\r\n\r\n  \t\n\n[1]\r\r\n\xef\xbb\xbf{}\n")
    assert await raws(file) == [b"{}", b"[1]\r", b"\xef\xbb\xbf{}"]


async def test_positions_count_every_line_and_byte(file: EventFile) -> None:
    file.put(b"{}\n\n{}\n")
    positions = [envelope.position for envelope in await drain(JsonlFeed(file.path))]
    assert positions == ["line 1, byte 0", "line 3, byte 4"]


async def test_a_last_line_without_newline_is_handed_over_and_marked(file: EventFile) -> None:
    file.put(b'{}\n{"a":')
    assert [(one.raw, one.truncated) for one in await drain(JsonlFeed(file.path))] == [
        (b"{}", False),
        (b'{"a":', True),
    ]


async def test_an_empty_file_ends_at_once(file: EventFile) -> None:
    file.put()
    assert await raws(file) == []


async def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_whole(file: EventFile) -> None:
    long = b'{"a": "' + b"x" * MAX_EVENT_BYTES + b'"}'
    file.put(b"{}\n" + long + b"\n[]\n" + b"y" * MAX_EVENT_BYTES + b"\n")
    first, cut, second, longest = await drain(JsonlFeed(file.path))
    assert (first.raw, second.raw, longest.raw) == (b"{}", b"[]", b"y" * MAX_EVENT_BYTES)
    assert cut.raw == long[: 64 * 1024]
    assert cut.oversize == len(long)
    assert cut.sha256 == hashlib.sha256(long).hexdigest()
    assert (first.oversize, longest.oversize, longest.sha256) == (0, 0, "")


async def test_a_line_without_end_takes_no_memory(file: EventFile) -> None:
    endless = 64 * 1024 * 1024
    file.put(b'{"event_id": "1"}\n')  # or it would be refused as no feed at all
    file.truncate(18 + endless)  # sparse: zeros without a newline
    feed = JsonlFeed(file.path)
    tail = feed._current
    assert tail is not None
    held = 0
    reading = asyncio.create_task(drain(feed))
    while not reading.done():
        await asyncio.sleep(0)
        held = max(held, sum(map(len, tail._splitter._parts)))
    assert [envelope.oversize for envelope in reading.result()] == [0, endless]
    assert MAX_EVENT_BYTES / 2 < held <= MAX_EVENT_BYTES


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def circle(path: Path) -> None:
    path.symlink_to(path)


def zipped(path: Path) -> None:
    path.write_bytes(gzip.compress(b"{}\n" * 100))


def picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()


def wide(path: Path) -> None:
    path.write_text('{"a": 1}\n', encoding="utf-16-le")


def wide_with_mark(path: Path) -> None:
    path.write_text('{"a": 1}\n', encoding="utf-16")


def noise(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(5000).replace(b"\0", b""))


REFUSED = [
    (noise, "not JSONL (binary data)"),
    (lambda path: None, "no such file"),
    (directory, "not a regular file but a directory"),
    (fifo, "not a regular file but a FIFO"),
    (listening_socket, "not a regular file but a socket"),
    (circle, "cannot be read: Too many levels"),
    (zipped, "not JSONL (gzip data); decompress it first"),
    (picture, "not JSONL (PNG image)"),
    (database, "not JSONL (SQLite database)"),
    (wide, "not JSONL (binary data)"),
    (wide_with_mark, "not JSONL (UTF-16 text); convert it to UTF-8 first"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
@pytest.mark.parametrize("open_feed", [JsonlFeed, lambda path: ReplayFeed([path])])
def test_what_is_no_feed_is_refused_in_one_line(
    file: EventFile,
    make: Callable[[Path], None],
    message: str,
    open_feed: Callable[[Path], Feed],
) -> None:
    make(file.path)
    with pytest.raises(FeedUnavailable) as raised:
        open_feed(file.path)
    text = str(raised.value)
    assert text.startswith(f"{file.path}: ")
    assert message in text
    assert "\n" not in text


def test_noise_beside_an_event_is_a_bad_line(file: EventFile) -> None:
    noise(file.path)
    file.path.write_bytes(b'{"a": 1}\n' + file.path.read_bytes())
    assert JsonlFeed(file.path).name


def test_a_fifo_that_replaces_a_file_at_the_last_moment_does_not_hang(
    file: EventFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo(file.path)
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(FeedUnavailable, match="FIFO"):
        JsonlFeed(file.path)


def test_a_device_is_refused() -> None:
    with pytest.raises(FeedUnavailable, match="not a regular file but a device"):
        JsonlFeed("/dev/zero")


def test_an_unreadable_file_is_refused(file: EventFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.put(b"{}\n")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the mode does not stop root
    with pytest.raises(FeedUnavailable, match="permission denied"):
        JsonlFeed(file.path)


def test_nothing_stays_open_when_a_file_is_refused(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(b"{}\n")
    zipped(bad)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FeedUnavailable):
        ReplayFeed([good, bad])
    with pytest.raises(FeedUnavailable):
        JsonlFeed(bad)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_zeros_behind_the_first_line_are_lines_not_a_reason_to_refuse(
    file: EventFile,
) -> None:
    file.put(b"{}\n\0\0\0\n[]\n")
    assert await raws(file) == [b"{}", b"\0\0\0", b"[]"]


async def test_an_error_of_the_disk_is_unavailable(
    file: EventFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.put(b"{}\n")
    feed = JsonlFeed(file.path)

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(FeedUnavailable, match="cannot be read: Input/output error"):
        await feed.read()
    await feed.aclose()

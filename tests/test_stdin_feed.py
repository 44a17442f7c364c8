"""Standard input as a feed: pipes, redirected files, and what is refused."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest
from event_files import drain

from engine.errors import FeedUnavailable
from engine.feeds.stdin import StdinFeed


async def test_a_terminal_is_refused() -> None:
    master, terminal = os.openpty()
    with pytest.raises(FeedUnavailable, match="is a terminal"):
        StdinFeed(terminal)
    os.close(master)
    os.close(terminal)


async def test_a_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(FeedUnavailable, match="is closed"):
        StdinFeed(reading)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(FeedUnavailable, match="is closed"):
        StdinFeed()


async def test_a_directory_as_standard_input_is_refused(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FeedUnavailable, match="standard input: cannot be read: Is a directory"):
        await StdinFeed(descriptor).read()
    os.close(descriptor)


async def test_compressed_standard_input_is_refused() -> None:
    descriptor, writing = os.pipe()
    os.write(writing, gzip.compress(b"{}\n"))
    os.close(writing)
    with pytest.raises(FeedUnavailable, match=r"standard input: not JSONL \(gzip data\)"):
        await StdinFeed(descriptor).read()
    os.close(descriptor)


async def test_a_pipe_ends_with_its_writer_and_keeps_half_a_line() -> None:
    reading, writing = os.pipe()
    feed = StdinFeed(reading)
    task = asyncio.create_task(drain(feed))
    for piece in (b'{"a":', b" 1}\n", b'{"b"'):
        os.write(writing, piece)
        await asyncio.sleep(0)
    os.close(writing)
    assert [(one.raw, one.truncated) for one in await task] == [
        (b'{"a": 1}', False),
        (b'{"b"', True),
    ]
    os.close(reading)


async def test_standard_input_stays_blocking_for_others() -> None:
    reading, writing = os.pipe()
    feed = StdinFeed(reading)
    task = asyncio.create_task(feed.read())
    await asyncio.sleep(0)
    assert os.get_blocking(reading)
    os.close(writing)
    assert await task is None
    os.close(reading)

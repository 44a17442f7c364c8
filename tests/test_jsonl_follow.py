"""A file that is followed while others write, rotate, cut and remove it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from event_files import EventFile

from engine.clock import ManualClock
from engine.errors import FeedUnavailable
from engine.feeds import jsonl
from engine.feeds.jsonl import JsonlFeed
from engine.feeds.port import Envelope
from engine.feeds.simulation.fleet import FIRST_DAY


@pytest.fixture
def file(tmp_path: Path) -> EventFile:
    return EventFile(tmp_path / "events.jsonl")


class WatchedFeed(JsonlFeed):
    """Counts how often it looked whether another file stands under the name."""

    looks = 0

    def _look(self) -> bool:
        self.looks += 1
        return super()._look()


class Follower:
    """A followed file, read in the background; tests poll what came."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock(FIRST_DAY)
        self.feed = WatchedFeed(path, follow=True, clock=self.clock, poll_seconds=0.001)
        self.taken: list[Envelope] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while (chunk := await self.feed.read()) is not None:
            self.taken += chunk

    async def has(self, *expected: bytes) -> None:
        """Wait until exactly these lines have come."""
        await self.until(lambda: len(self.taken) >= len(expected))
        await self.settle()
        assert [envelope.raw for envelope in self.taken] == list(expected)

    async def noticed(self, what: str) -> None:
        await self.until(lambda: any(what in notice for notice in self.feed.notices))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                assert not self._reading.done(), self._reading
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let the feed look at the file a few times more."""
        enough = self.feed.looks + 3
        await self.until(lambda: self.feed.looks >= enough)

    async def stop(self) -> None:
        await self.feed.aclose()
        await self._reading


async def test_half_lines_wait_for_their_end(file: EventFile) -> None:
    file.put(b'{"a": "\xc3')
    follower = Follower(file.path)
    await follower.settle()
    assert follower.taken == []
    file.append(b'\xa5"}\n[')
    await follower.has('{"a": "å"}'.encode())
    file.append(b"]\n")
    await follower.has('{"a": "å"}'.encode(), b"[]")
    await follower.stop()


async def test_rotation_by_renaming_loses_nothing(file: EventFile) -> None:
    file.put(b"1\n")
    follower = Follower(file.path)
    await follower.has(b"1")
    file.append(b"2\n3")
    old = file.rename()
    file.put(b"4\n")
    await follower.has(b"1", b"2", b"4")
    old.append(b"3\n")  # the writer still has the old file open
    file.append(b"5\n")
    await follower.until(lambda: len(follower.taken) == 5)
    assert sorted(one.raw for one in follower.taken) == [b"1", b"2", b"33", b"4", b"5"]
    assert "another file" in follower.feed.notices[0]
    await follower.stop()


async def test_a_renamed_file_is_let_go_when_it_has_been_quiet(file: EventFile) -> None:
    file.put(b"1\n2")
    follower = Follower(file.path)
    await follower.has(b"1")
    file.rename()
    file.put()
    await follower.noticed("another file")
    before = len(os.listdir("/proc/self/fd"))
    follower.clock.advance(jsonl.DRAIN_SECONDS + 1)
    await follower.has(b"1", b"2")
    assert follower.taken[-1].truncated
    assert len(os.listdir("/proc/self/fd")) == before - 1
    await follower.stop()


async def test_truncation_starts_again_and_says_so(file: EventFile) -> None:
    file.put(b"1111\n2222\n33")
    follower = Follower(file.path)
    await follower.has(b"1111", b"2222")
    file.truncate()
    await follower.noticed("truncated; reading it from the start")
    file.append(b"4\n")
    await follower.has(b"1111", b"2222", b"33", b"4")
    assert [one.truncated for one in follower.taken] == [False, False, True, False]
    assert "2026-02-03T08:00:00Z" in follower.feed.notices[-1]
    await follower.stop()


async def test_a_file_that_was_cut_in_the_middle_is_read_again(file: EventFile) -> None:
    lines = [b"%04d%s" % (number, b"x" * 95) for number in range(30)]
    file.put(b"\n".join(lines) + b"\n")
    follower = Follower(file.path)
    await follower.has(*lines)
    file.truncate(2000)
    await follower.has(*lines, *lines[:20])
    assert "truncated" in follower.feed.notices[-1]
    await follower.stop()


async def test_a_file_that_has_outgrown_its_old_length_is_noticed(file: EventFile) -> None:
    file.put(b"1\n2\n")
    follower = Follower(file.path)
    await follower.has(b"1", b"2")
    file.rewrite(b"3333\n4444\n")  # grown beyond its old length within one look
    await follower.has(b"1", b"2", b"3333", b"4444")
    assert "rewritten" in follower.feed.notices[-1]
    await follower.stop()


async def test_a_file_that_is_gone_is_waited_for(file: EventFile) -> None:
    file.put(b"1\n")
    follower = Follower(file.path)
    await follower.has(b"1")
    file.remove()
    await follower.noticed("waiting for the file: it is gone")
    await follower.settle()
    assert len(follower.feed.notices) == 1
    file.put(b"2\n")
    await follower.has(b"1", b"2")
    await follower.stop()


async def test_a_file_that_does_not_exist_yet_is_waited_for(file: EventFile) -> None:
    follower = Follower(file.path)
    assert "does not exist yet" in follower.feed.notices[0]
    await follower.settle()
    file.put(b"1\n")
    await follower.has(b"1")
    assert len(follower.feed.notices) == 2
    assert "the file is there now" in follower.feed.notices[1]
    await follower.stop()


async def test_something_else_under_the_name_is_told_and_waited_out(file: EventFile) -> None:
    file.put(b"1\n")
    follower = Follower(file.path)
    await follower.has(b"1")
    file.remove()
    file.path.mkdir()
    await follower.noticed("a directory")
    file.path.rmdir()
    file.path.symlink_to(file.path)
    await follower.noticed("Too many levels")
    file.remove()
    file.put(b"2\n")
    await follower.has(b"1", b"2")
    await follower.stop()


async def test_a_special_file_is_refused_although_it_is_followed(file: EventFile) -> None:
    os.mkfifo(file.path)
    with pytest.raises(FeedUnavailable, match="FIFO"):
        JsonlFeed(file.path, follow=True)

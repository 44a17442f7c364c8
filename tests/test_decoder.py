"""A long file is decoded in a process of its own, and what comes of it is the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from envelopes import START, ListFeed, spellchecked, vector
from event_files import EventFile

from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.decoder import FileDecoder
from engine.decoding import Decoded, decode
from engine.engine import Engine
from engine.errors import FeedUnavailable
from engine.feeds import jsonl
from engine.feeds.jsonl import JsonlFeed
from engine.feeds.lines import BOM
from engine.feeds.port import MAX_EVENT_BYTES, WholeFile
from engine.repository import DeadLetter
from engine.view import Health

ROOT = Path(__file__).parent.parent
ALL = [*vector("comprehensive_batch"), *vector("rare_events"), *vector("essay_status_updates")]
GOOD = b"\n".join(ALL) + b"\n"
HOSTILE = b"\n".join(vector("hostile_public")) + b"\n"
CONTENTS = {
    "good": GOOD,
    "hostile": HOSTILE,
    "a mark, blank lines, carriage returns": BOM + b"\r\n \n\n".join(ALL[:20]),
    "cut off": GOOD[:-30],
    "not UTF-8": GOOD + b"\xff\xfe\n" + ALL[0],
    "too long": ALL[0] + b"\n" + b"x" * (MAX_EVENT_BYTES + 1) + b"\n" + ALL[1],
    "blank": b"\n\n",
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is long enough, whatever is in it."""
    monkeypatch.setattr(jsonl, "ELSEWHERE_BYTES", 1)
    path = tmp_path / "events.jsonl"
    path.write_bytes(GOOD)
    return path


async def here(path: Path) -> list[Decoded]:
    feed = JsonlFeed(path, chunk_size=7)
    chunks = []
    while (chunk := await feed.read()) is not None:
        chunks.append(decode(chunk))
    return chunks


async def elsewhere(path: Path) -> list[Decoded]:
    begun: list[Decoded] = []
    feed = JsonlFeed(path, chunk_size=7)
    decoder = FileDecoder.start(feed, begun.append)
    assert decoder is not None
    chunks: list[Decoded] = []
    while (chunk := await decoder.next()) is not None:
        chunks.append(chunk)
        assert begun == chunks
    await decoder.aclose()
    await feed.aclose()
    return chunks


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_what_the_lines_say_does_not_depend_on_the_process(
    path: Path, content: bytes
) -> None:
    EventFile(path).put(content)
    assert await elsewhere(path) == await here(path)


async def ended(path: Path) -> tuple[Health, list[DeadLetter]]:
    clock = ManualClock(START)
    repository = MockBatchStateRepository(clock)
    feed = JsonlFeed(path, chunk_size=7)
    engine = Engine(repository, feed, clock)
    await engine.run()
    await feed.aclose()
    return engine.health, await repository.dead_letters()


async def test_account_and_dead_letters_are_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = GOOD + HOSTILE + GOOD
    EventFile(path).put(content)
    health, letters = await ended(path)
    assert min(health.applied, health.ignored, health.duplicates, health.dead_letters) > 0
    monkeypatch.setattr(jsonl, "ELSEWHERE_BYTES", len(content) + 1)
    assert (health, letters) == await ended(path)


async def test_no_process_for_a_short_file_or_one_that_is_followed_or_begun(path: Path) -> None:
    short, followed, begun = JsonlFeed(path), JsonlFeed(path, follow=True), JsonlFeed(path)
    await begun.read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "ELSEWHERE_BYTES", len(GOOD) + 1)
        assert short.whole_file() is None
    assert short.whole_file() is not None
    assert (followed.whole_file(), begun.whole_file()) == (None, None)
    for feed in (short, followed, begun):
        await feed.aclose()
        assert feed.whole_file() is None
    assert ListFeed([]).whole_file() is None


async def test_without_room_for_a_process_the_file_is_decoded_here(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await ended(path)

    def refuse(*arguments: Any, **names: Any) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert await ended(path) == expected


async def test_a_file_that_cannot_be_read_on_is_named(path: Path) -> None:
    class Unreadable(ListFeed):
        def whole_file(self) -> WholeFile:
            return WholeFile(str(path), descriptor, 7)

    descriptor = os.open(path, os.O_WRONLY)
    decoder = FileDecoder.start(Unreadable([]), lambda chunk: None)
    assert decoder is not None
    with pytest.raises(FeedUnavailable, match=r"events.jsonl: cannot be read: Bad file descriptor"):
        await decoder.next()
    await decoder.aclose()
    os.close(descriptor)


async def until_some_are_applied(engine: Engine) -> None:
    for _ in range(60_000):
        if engine.health.applied:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("nothing was applied")


async def test_a_process_that_is_killed_is_missed(path: Path) -> None:
    EventFile(path).put(GOOD * 30)  # much more than what is on the way at a time
    before = {child.pid for child in psutil.Process().children()}
    repository = MockBatchStateRepository(ManualClock(START))
    feed = JsonlFeed(path, chunk_size=7)
    engine = Engine(repository, feed)
    running = asyncio.ensure_future(engine.run())
    await until_some_are_applied(engine)
    (child,) = (one for one in psutil.Process().children() if one.pid not in before)
    child.kill()
    with pytest.raises(FeedUnavailable, match=r"ended early \(exit code -9\); run the same again"):
        await running
    await feed.aclose()
    health = engine.health
    assert health.read == health.applied + health.ignored + health.duplicates
    feeds = [JsonlFeed(path, chunk_size=7) for _ in range(2)]
    again = Engine(repository, feeds[0])
    whole = Engine(MockBatchStateRepository(ManualClock(START)), feeds[1])
    for one in (again, whole):
        await one.run()
    for one in feeds:
        await one.aclose()
    assert await repository.summaries() == await whole.repository.summaries()
    assert health.applied + again.health.applied == whole.health.applied


async def test_the_process_ends_with_an_engine_that_is_stopped(path: Path) -> None:
    EventFile(path).put(GOOD * 30)
    before = {child.pid for child in psutil.Process().children()}
    feed = JsonlFeed(path, chunk_size=7)
    engine = Engine(MockBatchStateRepository(ManualClock(START)), feed)
    running = asyncio.ensure_future(engine.run())
    await until_some_are_applied(engine)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert {child.pid for child in psutil.Process().children()} <= before
    assert len(asyncio.all_tasks()) == 1
    await feed.aclose()


# --- as a command, with a file that is as long as it takes -----------------------------------


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of many batches in a directory that no module should be taken from."""
    folder = tmp_path_factory.mktemp("long")
    for name in ("msgspec.py", "engine.py", "signal.py"):
        (folder / name).write_text("raise SystemExit('imported from the working directory')")
    path = folder / "events.jsonl"
    lines, size = [], 0
    while size <= jsonl.ELSEWHERE_BYTES:
        lines.append(spellchecked(f"b{len(lines) // 5000}", f"e{len(lines)}"))
        size += len(lines[-1])
    path.write_bytes(b"\n".join(lines) + b"\n{\n")
    return path


def ingest(path: Path, database: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bcs_tui", "ingest", path.name, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=path.parent,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "BCS_SQLITE_PATH": str(database)},
    )


def child_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The child, once it runs its own program: between fork and exec it is a copy of ours."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):
                if "engine.decode_file" in child.cmdline():
                    found: psutil.Process = child
                    return found
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_a_long_file_is_ingested(long_file: Path, tmp_path: Path) -> None:
    events = long_file.read_bytes().count(b"\n")
    with ingest(long_file, tmp_path / "x.db") as process:
        child_of(process)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    account = json.loads(out)
    assert (account["read"], account["applied"]) == (events, events - 1)
    assert b"1 unusable" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_nobody_outlives_an_ingest_that_is_stopped(
    long_file: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    with ingest(long_file, tmp_path / "x.db") as process:
        child = child_of(process)
        assert os.getpgid(child.pid) != process.pid  # or ctrl+c would have it complain as well
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does
        else:
            process.send_signal(sent)
        _, err = process.communicate(timeout=100)
    assert process.returncode == code
    assert b"Traceback" not in err
    child.wait(timeout=100)


@pytest.mark.slow
def test_the_loss_of_the_process_is_said_in_one_line(long_file: Path, tmp_path: Path) -> None:
    with ingest(long_file, tmp_path / "x.db") as process:
        child_of(process).kill()
        out, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert json.loads(out)["dead_letters"] == 0
    assert err.count(b"\n") == 1
    assert b"events.jsonl: the process that decodes it has ended early (exit code -9)" in err

"""The dashboard in a real pseudo-terminal: hostile text, signals, a slow reader."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pyte
import pytest

ROOT = Path(__file__).parents[2]
ESCAPE = "\x1b"
VECTORS = ROOT / "tests" / "vectors"

HOSTILE = (
    "[/", "[/]", "[/nope]", "[bold", "[@click=app.quit]press[/]", "[link=javascript:x]y[/link]",
    "\x1b]52;c;aGVsbG8=\x07", "\x1b]0;owned\x07", "\x1b]2;owned\x1b\\", "\x1b]8;;http://evil\x1b\\x",
    "\x1bP+q544e\x1b\\", "\x1b[2J\x1b[H", "\x1b[?1049l", "\x1bc", "\x9b2J", "\x9d52;c;eA==\x9c",
    "\x07\x08\x0b\x0c\r\n\t\x7f", "a\u202eb\u2066c\u2069", "z\u200bw\ufeffn\u200d",
    "\U000e0041\U000e0042", "❤\ufe0f", "e" + "\u0301" * 300, "👩\u200d👩\u200d👧",
    "漢" * 200, "x" * 4096, "✓ all done 100%",
)  # fmt: skip

ALLOWED = re.compile(
    rb"\x1b\[[0-9;]*m"  # colours
    rb"|\x1b\[\d+(?:;\d+)?H|\x1b\[\d*[ABCDGJK]"  # places on the screen
    rb"|\x1b\[\?\d+(?:;\d+)*[hl]|\x1b\[\?\d+\$p|\x1b\[>\d*u|\x1b\[<u|\x1b\[[?>=]?\d*u"  # modes
    rb"|\x1b\[\d* q|\x1b\[c|\x1b\[>q|\x1b\[\d+(?:;\d+)*t"  # cursor shape, questions
    rb"|\x1b\]22;[a-z]+\x07"  # the shape of the mouse pointer
)


def event(number: int, event_type: str, data: dict[str, Any]) -> bytes:
    """Return an envelope as services send it."""
    envelope = {
        "event_id": str(UUID(int=number + 1)),
        "event_type": event_type,
        "event_timestamp": "2026-02-03T12:00:00Z",
        "source_service": "spell-checker-service",
        "correlation_id": str(UUID(int=7)),
        "data": data,
    }
    return json.dumps(envelope).encode()


def hostile_feed(path: Path) -> None:
    """Write a feed in which everything that is shown is hostile."""
    lines: list[bytes] = []
    for text in HOSTILE:
        data = {
            "entity_id": "essay-1", "batch_id": "batch-1", "status": "failed",
            "correlation_id": str(UUID(int=9)), "error_code": text,
            "timestamp": "2026-02-03T12:00:00Z", "corrected_text_storage_id": None,
            "processing_duration_ms": 1,
        }  # fmt: skip
        kind = "huleedu.batch.spellcheck.phase.completed.v1"
        lines.append(event(len(lines), kind, {**data, "entity_id": f"essay-{len(lines)}"}))
        lines.append(event(len(lines), kind, {**data, "batch_id": text}))
        lines.append(event(len(lines), kind, {**data, "entity_id": text}))
        lines.append(event(len(lines), text, data))
        lines.append(text.encode("utf-8", "surrogatepass").replace(b"\n", b" "))
    corpus = (VECTORS / "hostile_public.jsonl").read_text("utf-8").splitlines()
    lines += [
        json.loads(line)["raw"].encode("utf-8", "replace").replace(b"\n", b" ") for line in corpus
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")


class Terminal:
    """A pseudo-terminal with a program in it, and what a user sees of it."""

    def __init__(
        self, argv: list[str], width: int = 100, height: int = 30, **environment: str
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("BCS_", "TEXTUAL", "NO_COL"))
        }
        clean |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=clean | environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.raw = b""
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def read(self, seconds: float = 0.05) -> None:
        """Take in what the program writes within some time."""
        if not select.select([self.master], [], [], seconds)[0]:
            return
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return
        self.raw += data
        # pyte does not know these questions and would print them.
        self._stream.feed(re.sub(rb"\x1b\[[>=<?][\d;]*[uq]|\x1b\[\?\d+\$p", b"", data))

    def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Read until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.text
            self.read()

    def press(self, *keys: str) -> None:
        for key in keys:
            os.write(self.master, key.encode())
            self.read(0.1)
            if key in (ESCAPE, "\r"):  # escape and a key right behind it would be alt and that key
                self.until_quiet()

    def until_quiet(self, seconds: float = 0.15) -> None:
        """Read until nothing came for some time."""
        seen = -1
        while seen != len(self.raw):
            seen = len(self.raw)
            self.read(seconds)

    def ended(self, seconds: float = 30.0) -> int:
        """Return the exit code, reading to the end."""
        self.until(lambda: self.process.poll() is not None, seconds)
        self.read()
        return int(self.process.returncode)


@contextmanager
def dashboard(*arguments: str, **more: Any) -> Iterator[Terminal]:
    terminal = Terminal([sys.executable, "-m", "bcs_tui", *arguments], **more)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()
        os.close(terminal.master)


def assert_restored(raw: bytes) -> None:
    """The alternate screen, the mouse and the cursor are as they were."""
    for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")):
        assert raw.rindex(off) > raw.rindex(on)
    assert raw.rindex(b"\x1b[?1000l") > raw.rindex(b"\x1b[?1000h")


@pytest.mark.slow
def test_hostile_text_reaches_the_terminal_on_no_page(tmp_path: Path) -> None:
    feed = tmp_path / "hostile.jsonl"
    hostile_feed(feed)
    with dashboard("replay", str(feed), "--speed", "max") as terminal:
        terminal.until(lambda: "at the end" in terminal.text and "dead" in terminal.text)
        terminal.press("s", "S", "G", "g", "y", "/", *"state:[/", "\r", ESCAPE)
        terminal.press(":", *"batch batch-1", "\r")
        for _ in HOSTILE:
            terminal.press("\r", "G", "g", ESCAPE, "l")
        terminal.press("j", ESCAPE)
        terminal.press("2", "g", "G", "k", "k", "y", "/", *"[/nope]", "\r", ESCAPE)
        terminal.press("3", *"j" * 120, "y", "1", "?", ESCAPE, "\x10")
        terminal.until(lambda: "Search for commands" in terminal.text)
        terminal.press(*"[/")
        terminal.until(lambda: "No matches" in terminal.text)
        terminal.press(ESCAPE, "T", ":", *"batch [", "\r")
        # It is said for a few seconds only: whoever reads late finds it gone from the screen.
        terminal.until(lambda: b"no batch matches" in terminal.raw)
        terminal.press("q", "q")
        assert terminal.ended() == 0
    assert_restored(terminal.raw)
    rest = ALLOWED.sub(b"", terminal.raw)
    copied = re.compile(rb"\x1b\]52;c;[A-Za-z0-9+/=]*\x07")  # what `y` is for
    rest = copied.sub(b"", rest)
    assert b"aGVsbG8=\x07" not in terminal.raw
    assert b"\x1b" not in rest, rest[max(0, rest.index(b"\x1b") - 40) :][:80]
    assert not set(rest) & (set(range(32)) - set(b"\r\n"))
    shown = rest.decode("utf-8")
    assert "␛" in shown
    assert "[@click" in shown
    assert not re.search(
        "[\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]", shown
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_restore_the_terminal(number: signal.Signals, code: int) -> None:
    with dashboard("demo") as terminal:
        terminal.until(lambda: "Fleet" in terminal.text)
        terminal.process.send_signal(number)
        assert terminal.ended() == code
        assert_restored(terminal.raw)


def test_a_terminal_that_goes_away_ends_the_program() -> None:
    terminal = Terminal([sys.executable, "-m", "bcs_tui", "demo"])
    terminal.until(lambda: "Fleet" in terminal.text)
    os.close(terminal.master)
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.process.wait(10) == 129


@pytest.mark.slow
@pytest.mark.parametrize("leader", ["itself", "a shell"])
def test_a_hang_up_leaves_nothing_behind(leader: str, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "bcs_tui", "demo", "--rate", "200"]
    through = ["sh", "-c", '"$@"; :', "sh"] if leader == "a shell" else []
    for wait in (0.0, 0.1):
        # The pipe ends when the last process of the terminal has ended.
        alive, held = os.pipe()
        os.set_inheritable(held, True)
        pid, master = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT))
            os.execvp((through + program)[0], through + program)
        os.close(held)
        seen, until = b"", float("inf")
        while time.monotonic() < until:
            if select.select([master], [], [], 0.02)[0]:
                seen += os.read(master, 65536)
            if until == float("inf") and b"\x1b[?1049h" in seen:
                until = time.monotonic() + wait
        os.close(master)
        has_ended = bool(select.select([alive], [], [], 5.0)[0])
        os.close(alive)
        if not has_ended:
            os.killpg(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert has_ended
        assert status == (129 if leader == "itself" else -signal.SIGHUP)


def test_a_hang_up_while_a_full_terminal_is_waited_for_ends_the_program() -> None:
    with dashboard("demo", "--rate", "200") as terminal:
        terminal.until(lambda: "Fleet" in terminal.text)
        terminal.process.send_signal(signal.SIGCONT)  # a second writer, as after a hang-up
        terminal.process.send_signal(signal.SIGHUP)
        terminal.process.send_signal(signal.SIGCONT)
        assert terminal.process.wait(8) == 129  # nobody reads


def test_control_c_twice_quits_at_once() -> None:
    with dashboard("demo") as terminal:
        terminal.until(lambda: "Fleet" in terminal.text)
        terminal.press("\x03")
        terminal.until(lambda: "q quits" in terminal.text)
        terminal.press("\x03")
        assert terminal.ended() == 130
        assert_restored(terminal.raw)


def test_a_crash_is_one_line_without_values_and_exit_code_1(tmp_path: Path) -> None:
    script = tmp_path / "crash.py"
    script.write_text(
        "import asyncio, sys\n"
        f"sys.path[:0] = [{str(ROOT / 'tests')!r}]\n"
        "from stills import StillEngine, empty_view\n"
        "from bcs_tui.app import run_dashboard\n"
        "class Broken(StillEngine):\n"
        "    async def run(self):\n"
        "        password = 'hunter2'\n"
        "        raise KeyError('boom')\n"
        "sys.exit(asyncio.run(run_dashboard(Broken(empty_view()), 'test')))\n"
    )
    terminal = Terminal([sys.executable, str(script)])
    assert terminal.ended(15) == 1
    terminal.read()
    os.close(terminal.master)
    assert_restored(terminal.raw)
    assert b"the dashboard crashed" in terminal.raw
    assert b"hunter2" not in terminal.raw


def test_a_reader_that_stops_reading_does_not_stop_the_program(tmp_path: Path) -> None:
    with dashboard("demo", "--rate", "50") as terminal:
        terminal.until(lambda: "Fleet" in terminal.text)
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            assert terminal.process.poll() is None
            select.select([], [], [], 0.1)
        terminal.press("q")
        assert terminal.ended(10) == 0


def test_no_colour_means_none(tmp_path: Path) -> None:
    with dashboard("demo", NO_COLOR="1") as terminal:
        terminal.until(lambda: "Fleet" in terminal.text and "▸" in terminal.text)
        terminal.press("q")
        assert terminal.ended() == 0
    codes = {
        code for run in re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw) for code in run.split(b";")
    }
    assert not codes & {b"38", b"48", *(b"%d" % n for n in (*range(30, 38), *range(40, 48)))}


def test_the_demo_on_servers_of_its_own_leaves_nothing_behind() -> None:
    # A database server that runs as another user must be able to come here.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        with dashboard("demo", "--backend", "redis", TMPDIR=directory) as terminal:
            terminal.until(lambda: "redis+postgresql" in terminal.text and "LIVE" in terminal.text)
            assert len(os.listdir(directory)) == 2
            terminal.press("q")
            assert terminal.ended() == 0
        assert os.listdir(directory) == []
    assert_restored(terminal.raw)

"""Runs a command under a pseudo-terminal: waits for a screen, presses q, expects exit code 0.

Usage: on_a_terminal.py PATTERN COMMAND; PATTERN is what the first screen must show.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

ROWS, COLUMNS = 40, 120
SCREEN_SECONDS = 420
QUIT_SECONDS = 20
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def start(command: str) -> tuple[int, int]:
    """Start a command on a terminal of its own; return its process id and our end."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp("bash", ["bash", "-c", command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    return process, terminal


def read(terminal: int) -> bytes | None:
    """Return what is there after at most a tenth of a second, `None` when it was closed."""
    if not select.select([terminal], [], [], 0.1)[0]:
        return b""
    try:
        return os.read(terminal, 65536) or None
    except OSError:
        return None


def main(pattern: str, command: str) -> int:
    """Return 0 if the screen was seen and the command ended well after `q`."""
    process, terminal = start(command)
    raw = b""
    seen = False
    deadline = time.monotonic() + SCREEN_SECONDS
    while (chunk := read(terminal)) is not None and time.monotonic() < deadline:
        raw += chunk
        if not seen and re.search(pattern, ESCAPES.sub("", raw.decode("utf-8", "replace"))):
            seen = True
            deadline = time.monotonic() + QUIT_SECONDS
            os.write(terminal, b"q")
    if time.monotonic() >= deadline:
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(f"screen {'seen' if seen else 'NOT seen'}, exit code {code} after q")
    if not seen or code:
        print(ESCAPES.sub("", raw.decode("utf-8", "replace"))[-4000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

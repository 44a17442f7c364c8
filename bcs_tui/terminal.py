"""What the terminal can take, and giving it back whatever ends the program."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty
from typing import Final

from textual.app import App

LOCAL_FPS: Final = 30.0
REMOTE_FPS: Final = 10.0
UNFOCUSED_FPS: Final = 2.0
RETRY_SECONDS: Final = 0.02
"""How long to wait before looking again whether the terminal has caught up."""

BEHIND_SECONDS: Final = 1.0
"""After so long without a frame the dashboard says that it renders behind."""

HUNG_UP: Final = 128 + signal.SIGHUP
"""The exit code when the terminal went away."""

LEAVING_SECONDS: Final = 4.0
"""How long the app may take to leave a terminal that hung up before the process ends anyway."""


def frames_per_second(app: App[None]) -> float:
    """Return the pace for where the terminal is and whether anybody looks at it."""
    if not app.app_focus:
        return UNFOCUSED_FPS
    return REMOTE_FPS if os.environ.get("SSH_CONNECTION") else LOCAL_FPS


def backlog(app: App[None]) -> int:
    """Return how many frames wait to be written to the terminal.

    Textual queues 30 of them and then stops the event loop until the terminal has read some.
    The queue is not public; where it cannot be found, nothing is held back.
    """
    thread = getattr(app._driver, "_writer_thread", None)
    queue = getattr(thread, "_queue", None)
    return queue.qsize() if queue is not None else 0


async def caught_up(app: App[None]) -> float:
    """Wait until the terminal has taken every frame; return how many seconds that took."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    while backlog(app):  # noqa: ASYNC110 # a thread empties the queue; it tells nobody
        await asyncio.sleep(RETRY_SECONDS)
    return loop.time() - since


def has_few_glyphs() -> bool:
    """Tell whether the terminal is one that only ASCII can be counted on with."""
    return os.environ.get("TERM") in ("linux", "vt100", "vt220")


def honour_no_color() -> None:
    """Take an empty `NO_COLOR` as unset, which is the convention but not what Textual does."""
    if os.environ.get("NO_COLOR") == "":
        del os.environ["NO_COLOR"]


class Departure:
    """Whether the terminal hung up, and how the app leaves then."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._left = threading.Event()
        self._descriptors = [number for number in (0, 1, 2) if os.isatty(number)]
        self.hung_up = False

    def hang_up(self, *_: object) -> None:
        """Begin to leave.

        This runs as a plain signal handler: the event loop may wait for the terminal for ever.
        With the hang-up comes SIGCONT, at which Textual would take hold of the terminal anew.
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)
        self.hung_up = True
        threading.Thread(target=self._see_out, name="hang-up", daemon=True).start()
        self._loop.call_soon_threadsafe(partial(self._app.exit, return_code=HUNG_UP))

    def over(self) -> None:
        """Note that the app has left the terminal."""
        self.hung_up = self.hung_up or self._is_gone()
        self._left.set()

    def _see_out(self) -> None:
        """Keep a terminal that is gone from holding up the app, and end it at the deadline."""
        deadline = time.monotonic() + LEAVING_SECONDS
        while time.monotonic() < deadline:
            if self._is_gone():
                self._write_nowhere()
            self._drain()
            if self._left.wait(RETRY_SECONDS):
                return
        os._exit(HUNG_UP)

    def _is_gone(self) -> bool:
        for number in self._descriptors:
            try:
                termios.tcgetattr(number)
            except termios.error as error:
                if error.args[0] == errno.EIO:
                    return True
        return False

    def _write_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in self._descriptors:
            os.dup2(nowhere, number)
        os.close(nowhere)

    def _drain(self) -> None:
        """Empty the queue of a writer that died of the hang-up: whoever fills it would wait."""
        thread = getattr(self._app._driver, "_writer_thread", None)
        queue = getattr(thread, "_queue", None)
        if thread is None or queue is None or thread.is_alive():
            return
        with suppress(Empty):
            while True:
                queue.get_nowait()


@contextmanager
def leaving_on_signals(app: App[None]) -> Iterator[Departure]:
    """Leave the app in order on SIGTERM (143) and on SIGHUP (129), so the terminal is restored."""
    loop = asyncio.get_running_loop()
    departure = Departure(app)
    loop.add_signal_handler(signal.SIGTERM, partial(app.exit, return_code=128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, departure.hang_up)
    try:
        yield departure
    finally:
        departure.over()
        loop.remove_signal_handler(signal.SIGTERM)
        if not departure.hung_up:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

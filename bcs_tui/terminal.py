"""What the terminal can take, and giving it back whatever ends the program."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from textual.app import App

LOCAL_FPS: Final = 30.0
REMOTE_FPS: Final = 10.0
UNFOCUSED_FPS: Final = 2.0
RETRY_SECONDS: Final = 0.02
"""How long to wait before looking again whether the terminal has caught up."""

BEHIND_SECONDS: Final = 1.0
"""After so long without a frame the dashboard says that it renders behind."""


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


@contextmanager
def leaving_on_signals(app: App[None]) -> Iterator[None]:
    """Leave the app in order on SIGTERM (143) and on SIGHUP (129), so the terminal is restored."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, partial(app.exit, return_code=128 + number))
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

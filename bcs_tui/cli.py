"""The command line: argv to a command, its result or trouble to an exit code.

0 ok · 1 unexpected · 2 usage or settings · 4 not permitted · 5 not found · 7 data not
trustworthy · 69 backend or feed unreachable · 130, 143 interrupted, terminated
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, TextIO

from bcs_tui import __version__
from bcs_tui.commands.plain import Parser, note, note_warnings
from engine import (
    BCSError,
    CorruptDocument,
    FeedUnavailable,
    FeedUnreachable,
    NotFound,
    RepositoryUnavailable,
    SettingsError,
)

VERBS: Final = (
    "demo", "replay", "watch", "ingest", "ls", "show", "essays", "dead-letters", "plan", "publish",
    "migrate", "info", "completion",
)  # fmt: skip
"""Each has a module of its name in `commands`."""

_EXIT_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (SettingsError, 2),
    (FeedUnreachable, 69),
    (FeedUnavailable, 2),
    (NotFound, 5),
    (CorruptDocument, 7),
    (RepositoryUnavailable, 69),
    (PermissionError, 4),
)
_INTERRUPTED: Final = 130
_TERMINATED: Final = 143

_DESCRIPTION: Final = """\
examples:
  bcs-tui demo                                  a simulated fleet, nothing to set up
  bcs-tui replay events.jsonl                   recorded events, with replay controls
  bcs-tui ingest events.jsonl --sqlite-path b.db   keep them in a file
  bcs-tui ls --sqlite-path b.db --json          what is known, for scripts

Watches batches of essays on their way through the Batch Conductor Service.
"""


def parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """Return the parser of the whole command line, or of some verbs only."""
    top = Parser(
        prog="bcs-tui",
        description=_DESCRIPTION,
        epilog="Settings: BCS_* variables, .env, config.toml; `bcs-tui info` shows them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"bcs-tui {__version__}")
    added = top.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    for verb in verbs:
        import_module(f"bcs_tui.commands.{verb.replace('-', '_')}").add(added)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _never_fail_to_encode(sys.stdout)
    _never_fail_to_encode(sys.stderr)
    words = sys.argv[1:] if argv is None else argv
    # Importing what the other verbs need takes longer than most verbs do.
    top = parser([words[0]] if words and words[0] in VERBS else VERBS)
    arguments, unknown = top.parse_known_args(words)
    if unknown:
        # argparse would send the reader to the help of all verbs, where the verb's flags are not.
        getattr(arguments, "refuse", top.error)(f"unknown arguments: {' '.join(unknown)}")
    if arguments.verb is None:
        top.print_help(sys.stderr)
        return 2
    note_warnings()
    try:
        loop = arguments.loop_of(arguments) if "loop_of" in arguments else None
        with asyncio.Runner(loop_factory=loop) as runner:
            code = runner.run(_until_terminated(arguments.run(arguments)))
        if sys.stdout:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _hush()
        return 0
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        note(_message(error))
        return _exit_code(error)


async def _until_terminated(command: Coroutine[Any, Any, int]) -> int:
    """Run a command; SIGTERM cancels it, so that everything it opened is closed in order."""
    task = asyncio.ensure_future(command)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    with suppress(NotImplementedError):  # no such signal on this platform
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated:
            return _TERMINATED
        raise


def _exit_code(error: Exception) -> int:
    if isinstance(error.__cause__, PermissionError):
        return 4
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def _message(error: Exception) -> str:
    if isinstance(error, BCSError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the system'}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error}; --debug shows where"


def _never_fail_to_encode(stream: TextIO | None) -> None:
    """Escape what the stream's encoding lacks: ids may hold any character."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")


def _hush() -> None:
    """Send what is still buffered nowhere: the reader has gone, and that is no failure."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

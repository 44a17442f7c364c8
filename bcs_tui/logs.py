"""The log: a file while the dashboard owns the terminal, and nothing that could betray a secret."""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Final

from platformdirs import user_state_path

from bcs_tui.masking import Masking

MOST_BYTES: Final = 1_000_000
KEPT_FILES: Final = 2


def log_path() -> Path:
    """Return where the log is written: the user's state directory."""
    return user_state_path("bcs-tui") / "bcs-tui.log"


def log_to_file(path: Path) -> None:
    """Send everything that is logged to a file of which only the user can read anything.

    Nothing is written, and no folder made, before there is something to write. Where that
    fails the log is lost: there is no other place while the dashboard is on screen.
    """
    handler = _PrivateFile(path)
    handler.setFormatter(
        Masking("{asctime} {levelname} {name}: {message}", style="{", datefmt="%Y-%m-%dT%H:%M:%S%z")
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk must not write over the dashboard


class _PrivateFile(RotatingFileHandler):
    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MOST_BYTES, backupCount=KEPT_FILES, delay=True)

    def _open(self) -> IO[str]:  # type: ignore[override] # a text file of another kind
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8")

"""The log goes to a private file, rotates, and shows no credential."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bcs_tui import logs


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = root.handlers, root.level, logging.raiseExceptions
    path = tmp_path / "state" / "bcs-tui.log"
    logs.log_to_file(path)
    yield path
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level, logging.raiseExceptions = before
    root.setLevel(before[1])


def test_nothing_is_made_before_there_is_something_to_say(log: Path) -> None:
    assert not log.parent.exists()


def test_only_the_user_reads_it(log: Path) -> None:
    logging.getLogger("engine").warning("a word")
    assert "WARNING engine: a word" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_credentials_are_masked_also_in_tracebacks(log: Path) -> None:
    try:
        raise OSError("redis://user:CANARY-7f3a@host/0 refused")
    except OSError:
        logging.getLogger("x").exception("postgresql://me:CANARY-7f3a@db/bcs")
    text = log.read_text()
    assert "CANARY" not in text
    assert "redis://***@host/0 refused" in text
    assert "postgresql://***@db/bcs" in text


def test_it_never_grows_without_end(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = next(one for one in logging.getLogger().handlers if hasattr(one, "maxBytes"))
    monkeypatch.setattr(handler, "maxBytes", 1000)
    for _ in range(100):
        logging.getLogger("x").warning("x" * 100)
    files = sorted(log.parent.iterdir())
    assert len(files) == 1 + logs.KEPT_FILES
    assert all(file.stat().st_size <= 1000 for file in files)


def test_a_log_that_cannot_be_written_disturbs_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    (tmp_path / "state").write_text("in the way")
    logging.getLogger("x").warning("lost")
    assert capsys.readouterr() == ("", "")

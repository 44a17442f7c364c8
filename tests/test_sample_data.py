"""The sample feeds that ship: what the command writes, and what they are for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from engine.events import Event, Ignored, Rejected, parse
from engine.feeds import sample_data

SHIPPED = Path(__file__).parent.parent / "sample_data"
FILES = sample_data.files()


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_the_command_writes(name: str) -> None:
    assert (SHIPPED / name).read_bytes() == FILES[name]


def test_the_command_writes_them_where_it_is_told(tmp_path: Path) -> None:
    sample_data.main([str(tmp_path / "new" / "place")])
    written = {path.name: path.read_bytes() for path in (tmp_path / "new" / "place").iterdir()}
    assert written == FILES


def test_the_command_says_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="usage: python -m"):
        sample_data.main([])
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit, match="taken: cannot be written: File exists"):
        sample_data.main([str(tmp_path / "taken")])


@pytest.mark.parametrize("name", ["one_batch.jsonl", "busy_day.jsonl"])
def test_good_samples_have_no_bad_line(name: str) -> None:
    kinds = Counter(type(parse(raw)) for raw in FILES[name].splitlines())
    assert set(kinds) == {Event, Ignored}


def test_a_readable_batch_is_small_and_a_busy_day_not_too_large() -> None:
    assert FILES["one_batch.jsonl"].count(b"\n") < 80
    assert FILES["one_batch.jsonl"].count(b'"status": "failed"') == 1
    assert len(FILES["busy_day.jsonl"]) < 6_000_000
    assert FILES["busy_day.jsonl"].count(b"essays.registered.v1") == 50


def test_bad_lines_are_of_many_kinds_and_end_in_the_middle() -> None:
    content = FILES["bad_lines.jsonl"]
    parsed = [parse(raw) for raw in content.split(b"\n")]
    reasons = {event.reason for event in parsed if isinstance(event, Rejected)}
    assert reasons >= {
        "json",
        "not_object",
        "not_utf8",
        "missing:event_id",
        "missing:batch_id",
        "status",
        "type",
        "id_has_separator",
        "identifier",
        "nul",
        "timestamp",
        "version",
    }
    good = sum(isinstance(event, Event) for event in parsed)
    assert good > 40
    assert not content.endswith(b"\n")
    assert b"\x1b" not in content  # only as escapes: the file itself may be looked at

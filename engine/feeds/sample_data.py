"""The sample feeds: `python -m engine.feeds.sample_data DIRECTORY` writes them anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from engine.feeds.simulation.batch import JsonObject, SimulatedBatch
from engine.feeds.simulation.fleet import FIRST_DAY, generate
from engine.feeds.simulation.life import Life
from engine.feeds.simulation.plot import Plot, World

_ESCAPES = "\x1b[2J\x1b]52;c;aGVsbG8=\x07 [bold red][@click=app.quit]click[/] \u202egnol"


def one_batch() -> list[bytes]:
    """Return the life of a small batch in which one essay fails its spellcheck."""
    batch = SimulatedBatch(Random("one batch"), 6)
    life = Life(batch, Plot(failing={"spellcheck": (2,)}), World(FIRST_DAY, outage_every=1e9), 0)
    return [raw for _, raw in life.events()]


def bad_lines() -> bytes:
    """Return a good batch with bad lines spread over it; the last line is cut off."""
    good = one_batch()
    bad = [spoil(good) for spoil in _SPOILERS]
    every = len(good) // (len(bad) + 1)
    lines: list[bytes] = []
    for number, raw in enumerate(good):
        lines.append(raw)
        if number % every == every - 1 and bad:
            lines.append(bad.pop(0))
    return b"\n".join([*lines, *bad, good[-1][:200]])


def files() -> dict[str, bytes]:
    """Return the sample feeds by file name."""
    return {
        "one_batch.jsonl": b"".join(raw + b"\n" for raw in one_batch()),
        "busy_day.jsonl": b"".join(raw + b"\n" for raw in generate()),
        "bad_lines.jsonl": bad_lines(),
    }


def _changed(kind: str, change: Callable[[JsonObject], object]) -> Callable[[list[bytes]], bytes]:
    """Return what makes a bad line of the first event of a kind."""

    def spoil(good: list[bytes]) -> bytes:
        envelope = json.loads(next(raw for raw in good if kind.encode() in raw))
        change(envelope)
        return json.dumps(envelope).encode()

    return spoil


def _replaced(kind: str, old: bytes, new: bytes) -> Callable[[list[bytes]], bytes]:
    """Return what makes a bad line by other bytes in the first event of a kind."""

    def spoil(good: list[bytes]) -> bytes:
        return next(raw for raw in good if kind.encode() in raw).replace(old, new, 1)

    return spoil


_THIN, _FAILED = "spellcheck.phase.completed", "spellcheck_failed"
_SLOT, _OUTCOME = "slot.assigned", "phase.outcome"
_SPOILERS: tuple[Callable[[list[bytes]], bytes], ...] = (
    lambda good: b'{"event_id": "3f2a", "event_type": ',
    lambda good: b"-- restarted by hand, the lines above are from yesterday --",
    lambda good: b'["a", "list"]',
    lambda good: b"   ",
    lambda good: good[0] + good[1],
    _changed(_THIN, lambda envelope: envelope.pop("event_id")),
    _changed(_THIN, lambda envelope: envelope["data"].pop("batch_id")),
    _changed(_THIN, lambda envelope: envelope["data"].update(status="done")),
    _changed(_THIN, lambda envelope: envelope["data"].update(processing_duration_ms="7")),
    _changed(_SLOT, lambda envelope: envelope["data"].update(batch_id="2026:spring")),
    _changed(_SLOT, lambda envelope: envelope["data"].update(essay_id=_ESCAPES)),
    _changed(_SLOT, lambda envelope: envelope["data"].update(original_file_name=_ESCAPES)),
    _changed(
        _FAILED,
        lambda envelope: envelope["data"].update(
            timestamp="2026-02-03T08:59:00Z",
            system_metadata={
                **envelope["data"]["system_metadata"],
                "error_info": {"error_code": "ODD_TEXT", "error_message": _ESCAPES},
            },
        ),
    ),
    _changed(_SLOT, lambda envelope: envelope["data"].update(original_file_name="a\x00b.docx")),
    _changed(_OUTCOME, lambda envelope: envelope.update(event_timestamp="yesterday")),
    _changed(_OUTCOME, lambda envelope: envelope.update(schema_version=2)),
    _changed(_OUTCOME, lambda envelope: envelope.update(event_type="huleedu.new.kind.v9")),
    _changed(_OUTCOME, lambda envelope: envelope.update(metadata={"share": float("nan")})),
    _replaced(_SLOT, b".docx", b"\\ud800.docx"),
    _replaced(_SLOT, b".docx", b"\xc3\x28.docx"),
)


def main(arguments: list[str]) -> None:
    """Write the sample feeds into the directory that is named."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m engine.feeds.sample_data DIRECTORY")
    directory = Path(arguments[0])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files().items():
            (directory / name).write_bytes(content)
    except OSError as error:
        raise SystemExit(f"{directory}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1:])

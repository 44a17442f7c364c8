"""Lines are a function of the bytes alone, however they arrive."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.clock import from_microseconds, to_microseconds
from engine.feeds.lines import BOM, KEPT_BYTES, Line, LineSplitter
from engine.feeds.recording import Recording, event_time

LIMIT = 40
FIRST = to_microseconds(datetime(2000, 1, 1, tzinfo=UTC))
LAST = to_microseconds(datetime(2099, 12, 31, tzinfo=UTC))

texts = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b" \t", b"\r", b"{}\r", b"a\rb", "å\u2028\u0085".encode(), b"\0\0", BOM]),
    st.integers(LIMIT - 2, LIMIT + 2).map(lambda size: b"x" * size),
)
contents = st.tuples(st.lists(texts, max_size=12), st.booleans(), st.booleans()).map(
    lambda parts: (BOM if parts[1] else b"") + b"\n".join(parts[0]) + (b"\n" if parts[2] else b"")
)


def expected(content: bytes) -> list[Line]:
    """What the lines are, said in the plainest way."""
    lines: list[Line] = []
    offset = 0
    pieces = content.split(b"\n")
    for number, piece in enumerate(pieces, 1):
        text, start = piece, offset
        truncated = number == len(pieces)
        if offset == 0 and piece.startswith(BOM):
            text, start = piece[3:], 3
        if len(piece) > LIMIT:
            digest = hashlib.sha256(piece).hexdigest()
            kept = text[:KEPT_BYTES]
            lines.append(Line(kept, number, start, len(piece), digest, truncated))
        elif text.strip(b" \t\n\r\x0b\x0c"):
            text = text[:-1] if text.endswith(b"\r") else text
            lines.append(Line(text, number, start, truncated=truncated))
        offset += len(piece) + 1
    return lines


@given(contents, st.lists(st.integers(1, 30), min_size=1))
def test_where_blocks_are_cut_makes_no_difference(content: bytes, sizes: list[int]) -> None:
    splitter = LineSplitter(LIMIT)
    lines: list[Line] = []
    position = turn = 0
    while position < len(content):
        size = sizes[turn % len(sizes)]
        lines += splitter.split(content[position : position + size])
        position += size
        turn += 1
    assert lines + splitter.finish() == expected(content)


@given(contents)
def test_one_block_is_as_good_as_many(content: bytes) -> None:
    splitter = LineSplitter(LIMIT)
    assert splitter.split(content) + splitter.finish() == expected(content)


@given(st.sampled_from([b"", b'{"event_timestamp": "', b'{"event_timestamp":"']), st.binary())
def test_any_bytes_have_a_plausible_time_or_none(prefix: bytes, rest: bytes) -> None:
    moment = event_time(prefix + rest)
    assert moment is None or 2000 <= from_microseconds(moment).year < 2100


@given(st.integers(FIRST, LAST), st.sampled_from(["Z", "+00:00", ""]), st.booleans())
def test_the_time_of_an_envelope_is_found(moment: int, zone: str, compact: bool) -> None:
    separators = (",", ":") if compact else None
    text = from_microseconds(moment).replace(tzinfo=None).isoformat() + zone
    raw = json.dumps({"event_id": "1", "event_timestamp": text}, separators=separators).encode()
    assert event_time(raw) == moment


@given(contents=st.lists(contents, min_size=1, max_size=3), start=st.integers(0, 40))
def test_a_recording_gives_back_the_lines_of_its_files(
    contents: list[bytes], start: int, tmp_path_factory
) -> None:
    directory: Path = tmp_path_factory.mktemp("recording")
    paths = [directory / f"{number}.jsonl" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(b"{}\n" + content)
    recording = Recording(paths)
    try:
        while not recording.complete:
            recording.advance()
        raws = [raw for content in contents for raw in plain_lines(b"{}\n" + content)]
        assert len(recording) == len(raws)
        index = min(start, len(raws))
        found: list[bytes] = []
        while index + len(found) < len(raws):
            found += [line.raw for line in recording.read(index + len(found), 3)]
        assert found == raws[index:]
    finally:
        recording.close()


def plain_lines(content: bytes) -> list[bytes]:
    splitter = LineSplitter()
    return [line.raw for line in splitter.split(content) + splitter.finish()]

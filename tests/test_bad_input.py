"""The catalogue of bad input: each entry is refused with a reason, kept, and harms nothing else.

The numbers are those of the catalogue, sections 4.1 to 4.4 (encoding, JSON, envelope, numbers).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from envelopes import (
    document,
    encode,
    phase_ended,
    registered,
    spellchecked,
    spellchecked_document,
    vector,
)

from engine.backends.mock import MockBatchStateRepository
from engine.engine import Engine
from engine.errors import FeedUnavailable
from engine.events import Event, Ignored, Rejected, parse
from engine.feeds.jsonl import JsonlFeed
from engine.feeds.port import MAX_EVENT_BYTES
from engine.models import Fact, PhaseFact, StepFact

APPLIED, IGNORED, SKIPPED = "applied", "ignored", "skipped"
GOOD = spellchecked_document("b1", "bad-essay", "failed")
TEXT = json.dumps(GOOD)


class Bad(NamedTuple):
    """One line of input, what becomes of it (a reason, or a fate), and the field that is named."""

    number: int
    raw: bytes
    result: str
    field: str = ""


def changed(**members: Any) -> bytes:
    return encode(GOOD | {"data": GOOD["data"] | members})


def without(member: str) -> bytes:
    data = {name: value for name, value in GOOD["data"].items() if name != member}
    return encode(GOOD | {"data": data})


def written(old: str, new: str) -> bytes:
    """The good envelope with a piece of its text replaced by what `json.dumps` would not write."""
    assert old in TEXT
    return TEXT.replace(old, new, 1).encode()


def count(text: str) -> bytes:
    return written('"processing_duration_ms": 900', f'"processing_duration_ms": {text}')


def noted(text: str) -> bytes:
    return written('"metadata": {}', f'"metadata": {text}')


def named(essay_id: str) -> bytes:
    return changed(entity_id=essay_id)


def timed(text: str) -> bytes:
    stamped = f'"event_timestamp": {json.dumps(GOOD["event_timestamp"])}'
    return written(stamped, f'"event_timestamp": {text}')


def expecting(essays: Any) -> bytes:
    return registered("b2", ["e1"], essays)


STATUS = phase_ended("b1", "nlp", "completed_successfully")
ID = "data.entity_id"
WHEN = "event_timestamp"
DURATION = "data.processing_duration_ms"
EXPECTED = "data.expected_essay_count"

CATALOGUE = [
    Bad(1, b"", SKIPPED),
    Bad(1, b"   \t ", SKIPPED),
    Bad(2, TEXT.encode() + b"\r", APPLIED),
    Bad(3, written("bad-essay", "bad\ressay"), "json"),
    Bad(4, changed(error_code="\u2028\u0085\v\f"), APPLIED),
    Bad(4, written("null", '"\u2028\u0085"'), APPLIED),
    Bad(5, b"\xef\xbb\xbf" + TEXT.encode(), "json"),
    Bad(6, TEXT.encode("utf-16-le").replace(b"\n", b""), "json"),
    Bad(6, TEXT.encode("utf-16"), "not_utf8"),
    Bad(6, b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), "not_utf8"),
    Bad(7, written("bad-essay", "bad?").replace(b"?", b"\xc3("), "not_utf8"),
    Bad(8, written("bad-essay", "bad?").replace(b"?", b"\xc0\x80"), "not_utf8"),
    Bad(9, written("bad-essay", "bad?").replace(b"?", b"\xed\xa0\x80"), "not_utf8"),
    Bad(10, bytes(100), "json"),
    Bad(10, written("bad-essay", "bad\0essay"), "json"),
    Bad(11, changed(error_code="x" * MAX_EVENT_BYTES), "too_large"),
    Bad(12, b"x" * (5 * MAX_EVENT_BYTES), "too_large"),
    Bad(15, b"\r \0 \r", "json"),
    Bad(15, b"\x1b[31m2026-03-02 ERROR\x1b[0m something failed", "json"),
    Bad(16, b'{"a":', "json"),
    Bad(16, TEXT.encode()[:300], "json"),
    Bad(17, TEXT.encode() + b" x", "json"),
    Bad(17, TEXT.encode() * 2, "json"),
    Bad(18, TEXT.encode()[:-1] + b",}", "json"),
    Bad(18, TEXT.replace('"', "'").encode(), "json"),
    Bad(18, TEXT.encode() + b" // a comment", "json"),
    Bad(19, b"[]", "not_object"),
    Bad(19, b"[" + TEXT.encode() + b"]", "not_object"),
    Bad(19, b'"text"', "not_object"),
    Bad(19, b"17", "not_object"),
    Bad(19, b"null", "not_object"),
    Bad(20, b"[" * 100_000, "depth"),
    Bad(20, b'{"a":' * 100_000, "depth"),
    Bad(20, noted('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "depth"),
    Bad(21, count("9" * 4301), "number", DURATION),
    Bad(21, noted('{"a": ' + "9" * 4301 + "}"), "number", "metadata[...]"),
    Bad(22, noted('{"a": [9223372036854775808]}'), "number", "metadata"),
    Bad(22, count("9223372036854775808"), "number", DURATION),
    Bad(23, noted('{"a": 1e999}'), "number", "metadata[...]"),
    Bad(23, count("1e999"), "number", DURATION),
    Bad(24, noted('{"a": NaN}'), "number"),
    Bad(24, count("NaN"), "number"),
    Bad(24, count("Infinity"), "number"),
    Bad(24, count("-Infinity"), "number"),
    Bad(25, noted('{"a": -0, "b": 1E5, "c": 0.' + "1" * 400 + "}"), APPLIED),
    Bad(26, written("bad-essay", "bad\\ud800"), "json"),
    Bad(26, noted('{"a": "\\ud800"}'), "json"),
    Bad(26, written('"data_schema_uri": null', '"data_schema_uri": "\\ud800"'), "json"),
    Bad(27, noted('{"a": "\\u0000"}'), "nul"),
    Bad(27, noted('{"\\u0000": [{}]}'), "nul"),
    Bad(27, written('"data_schema_uri": null', '"data_schema_uri": ["\\u0000"]'), "nul"),
    Bad(28, written("bad-essay", "bad\x07essay"), "json"),
    Bad(
        28,
        written('"data_schema_uri": null', '"data_schema_uri": "\n"').replace(b"\n", b"\v"),
        "json",
    ),
    Bad(29, written('"status": "failed"', '"status": "x", "status": "failed"'), APPLIED),
    Bad(
        29, written('"status": "failed"', '"status": "failed", "status": 1'), "type", "data.status"
    ),
    Bad(30, noted(json.dumps(dict.fromkeys(map(str, range(100_000)), 0))), "metadata", "metadata"),
    Bad(31, noted('{"__proto__": 1, "__class__": 2, "constructor": 3}'), APPLIED),
    Bad(32, TEXT.replace("event_id", "evnt_id").encode(), "missing:event_id", "event_id"),
    Bad(33, without("batch_id"), "missing:batch_id", "data.batch_id"),
    Bad(33, without("entity_id"), "missing:entity_id", ID),
    Bad(33, without("status"), "missing:status", "data.status"),
    Bad(33, STATUS.replace(b"phase_name", b"phase_nam"), "missing:phase_name", "data.phase_name"),
    Bad(33, encode(GOOD, data={}), "missing:entity_id", ID),
    Bad(34, changed(batch_id=None), "type", "data.batch_id"),
    Bad(34, encode(GOOD, data=None), "type", "data"),
    Bad(34, encode(GOOD, event_type=None), "type", "event_type"),
    Bad(35, changed(entity_id=17), "type", ID),
    Bad(36, count('"7"'), "type", DURATION),
    Bad(36, count("7.0"), "type", DURATION),
    Bad(36, count("true"), "type", DURATION),
    Bad(37, changed(status="done"), "status", "data.status"),
    Bad(37, changed(status="Completed"), "status", "data.status"),
    Bad(37, STATUS.replace(b"completed_successfully", b"perfect"), "status", "data.phase_status"),
    Bad(38, STATUS.replace(b'"nlp"', b'"quantum_check"'), APPLIED),
    Bad(39, changed(unheard_of={"a": [1]}), APPLIED),
    Bad(40, encode(GOOD, event_type="huleedu.new.thing.v9"), IGNORED),
    Bad(40, encode(GOOD, schema_version=2), "version", "schema_version"),
    Bad(40, encode(GOOD, schema_version=2, data={"new": "shape"}), "version", "schema_version"),
    Bad(40, encode(GOOD, schema_version="2"), "type", "schema_version"),
    Bad(41, named(""), "length", ID),
    Bad(41, changed(batch_id=""), "length", "data.batch_id"),
    Bad(42, named("e" * 129), "length", ID),
    Bad(42, encode(GOOD, correlation_id="r" * 129), "length", "correlation_id"),
    *(Bad(43, named(text), "identifier", ID) for text in (" e", "e ", "A\u030a", "e\u200b1")),
    *(Bad(43, named(text), "identifier", ID) for text in ("e\u202e1", "e\U000e0041")),
    *(Bad(44, named(text), "identifier", ID) for text in ("e\x1b[2J", "e\x7f", "e\x9b1")),
    Bad(45, named("batch:essay"), "id_has_separator", ID),
    *(Bad(46, named(f"e{text}"), "identifier", ID) for text in "*?[]\\"),
    Bad(47, named("{e}"), "identifier", ID),
    *(Bad(48, named(text), APPLIED) for text in ("../../etc/passwd", "con")),
    *(Bad(49, named(text), APPLIED) for text in ("'; DROP TABLE steps; --", "$1", "%s")),
    Bad(52, noted("[1]"), "type", "metadata"),
    Bad(52, noted('"text"'), "type", "metadata"),
    Bad(53, noted(json.dumps({"a": [0] * 2001})), "metadata", "metadata"),
    Bad(53, noted('{"a": ' * 17 + "1" + "}" * 17), "metadata", "metadata"),
    *(Bad(54, timed(text), "timestamp", WHEN) for text in ("0", '"0"', "1772442000000")),
    Bad(54, changed(timestamp=0), "timestamp", "data.timestamp"),
    Bad(55, timed('"2026-03-02T09:00:00"'), APPLIED),
    Bad(56, timed('"2026-03-02"'), "timestamp", WHEN),
    Bad(57, timed('"2026-03-02T09:00:60Z"'), "timestamp", WHEN),
    Bad(58, timed('"9999-12-31T23:59:59-14:00"'), "range", WHEN),
    Bad(58, changed(timestamp="9999-12-31T23:59:59-14:00"), "range", "data.timestamp"),
    Bad(59, timed('"0001-01-01T00:00:00+14:00"'), "range", WHEN),
    *(Bad(59, timed(f'"{year}-01-01T00:00:00Z"'), "range", WHEN) for year in ("1969", "2200")),
    Bad(60, changed(timestamp="2098-01-01T00:00:00Z"), APPLIED),
    Bad(62, expecting(0), APPLIED),
    *(Bad(62, expecting(essays), "range", EXPECTED) for essays in (-1, 10**12)),
    Bad(64, spellchecked("never-registered", "e1"), APPLIED),
]


def label(entry: Bad) -> str:
    return f"{entry.number}-{entry.result}"


def limited(raw: bytes) -> bytes:
    return raw[: 64 * 1024]


@pytest.mark.parametrize("entry", CATALOGUE, ids=label)
async def test_the_catalogue(entry: Bad, tmp_path: Path) -> None:
    before = [spellchecked("b1", f"e{n}") for n in range(5)]
    after = [spellchecked("b1", f"e{n}") for n in range(5, 10)]
    feed = recorded(tmp_path / "events.jsonl", [*before, entry.raw, *after], b"\n")
    repository = MockBatchStateRepository()
    engine = Engine(repository, feed)
    await engine.run()
    await feed.aclose()

    health = engine.health
    refused = entry.result not in (APPLIED, IGNORED, SKIPPED)
    assert health.read == (10 if entry.result == SKIPPED else 11)
    assert health.applied == (11 if entry.result == APPLIED else 10)
    assert health.ignored == (1 if entry.result == IGNORED else 0)
    assert health.dead_letters == (1 if refused else 0)
    assert (health.duplicates, health.in_flight) == (0, 0)
    essays = {essay.essay_id for essay in await repository.essays("b1")}
    assert {f"e{n}" for n in range(10)} <= essays

    letters = await repository.dead_letters()
    assert len(letters) == health.dead_letters
    for letter in letters:
        assert (letter.reason, letter.field) == (entry.result, entry.field)
        assert letter.source == "events.jsonl"
        assert letter.position.startswith("line 6, byte ")
        assert 0 < len(letter.message) < 200
        assert letter.message.isprintable()
        assert letter.payload == limited(entry.raw.removesuffix(b"\r"))
        assert letter.sha256 == sha256(entry.raw.removesuffix(b"\r")).hexdigest()
        assert letter.size == len(entry.raw.removesuffix(b"\r"))


def test_the_catalogue_is_whole() -> None:
    """Conflicts (51) are decided by content; storage (61) and Redis (85 to 88) are not here."""
    elsewhere = {13, 14, 50, 51, 61, 63, 65}
    assert {entry.number for entry in CATALOGUE} == set(range(1, 66)) - elsewhere


def recorded(path: Path, raws: Iterable[bytes], end: bytes) -> JsonlFeed:
    path.write_bytes(b"\n".join(raws) + end)
    return JsonlFeed(path)


async def ingest(path: Path, *raws: bytes, end: bytes = b"\n") -> MockBatchStateRepository:
    repository = MockBatchStateRepository()
    feed = recorded(path, raws, end)
    await Engine(repository, feed).run()
    await feed.aclose()
    return repository


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (TEXT.encode(), None),
        (TEXT.encode()[:200], "truncated_line"),
        ("\u2028".encode()[:2], "truncated_line"),
        (b"17", "not_object"),
    ],
)
async def test_13_a_last_line_without_its_end(
    end: bytes, reason: str | None, tmp_path: Path
) -> None:
    repository = await ingest(tmp_path / "x", spellchecked("b1", "e1"), end, end=b"")
    assert [letter.reason for letter in await repository.dead_letters()] == [reason] * bool(reason)
    assert (await repository.batch_record("b1")).seen == (1 if reason else 2)


async def test_14_compressed_input_gets_one_message_for_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(gzip.compress(TEXT.encode()))
    with pytest.raises(FeedUnavailable, match="gzip"):
        JsonlFeed(path)


async def test_5_a_mark_at_the_very_beginning_is_no_part_of_the_text(tmp_path: Path) -> None:
    repository = await ingest(tmp_path / "x", b"\xef\xbb\xbf" + TEXT.encode())
    assert (await repository.batch_record("b1")).seen == 1


def facts_of(raw: bytes) -> tuple[Fact, ...]:
    event = parse(raw)
    assert isinstance(event, Event), event
    return event.facts


def test_29_of_a_member_that_occurs_twice_the_last_counts() -> None:
    twice = '"batch_id": "first", "batch_id": "second"'
    (fact,) = facts_of(written('"batch_id": "b1"', twice))
    assert fact.batch_id == "second"
    first, again = encode(GOOD | {"data": None}), json.dumps(GOOD["data"])
    (fact,) = facts_of(first.replace(b'"data": null', b'"data": null, "data": ' + again.encode()))
    assert fact.batch_id == "b1"


def test_31_names_of_other_languages_are_names() -> None:
    error = {"__proto__": {"constructor": 1}}
    data = {"entity_id": "e1", "status": "nlp_failed", "system_metadata": {"error_info": error}}
    (fact,) = facts_of(encode(document("essay.status.updated.v1", data)))
    assert isinstance(fact, StepFact)
    assert json.loads(fact.metadata)["error"] == error


def test_36_the_largest_integers_are_kept_exactly() -> None:
    (fact,) = facts_of(count(str(2**63 - 1)))
    assert isinstance(fact, StepFact)
    assert json.loads(fact.metadata)["processing_duration_ms"] == 2**63 - 1


def test_38_an_unknown_phase_is_listed() -> None:
    (fact,) = facts_of(STATUS.replace(b'"nlp"', b'"quantum_check"'))
    assert isinstance(fact, PhaseFact)
    assert fact.phase == "quantum_check"


@pytest.mark.parametrize(
    "member", ["error_code", "corrected_text_storage_id", "correlation_id", "unheard_of"]
)
def test_what_is_kept_of_an_event_is_bounded(member: str) -> None:
    event = parse(changed(**{member: "x" * 100_000}))
    if member == "error_code":
        assert isinstance(event, Rejected)
        assert (event.reason, event.field) == ("metadata", "data")
    else:
        assert isinstance(event, Event)
        assert len(repr(event.facts)) < 1000


async def test_50_ids_that_differ_in_case_are_different(tmp_path: Path) -> None:
    repository = await ingest(tmp_path / "x", named("Essay"), named("essay"))
    assert (await repository.batch_record("b1")).seen == 2


async def test_51_the_same_event_id_with_other_content_is_another_event(tmp_path: Path) -> None:
    repository = await ingest(tmp_path / "x", named("e1"), named("e2"))
    assert (await repository.batch_record("b1")).seen == 2


async def test_62_a_registration_that_shrinks_keeps_the_larger_number(tmp_path: Path) -> None:
    repository = await ingest(tmp_path / "x", expecting(24), expecting(3))
    assert (await repository.batch_record("b2")).expected == 24


async def test_63_more_essays_than_expected(tmp_path: Path) -> None:
    raws = [spellchecked("b2", f"e{n}") for n in range(1, 4)]
    repository = await ingest(tmp_path / "x", registered("b2", ["e1"], 2), *raws)
    summary = await repository.get_batch_completion_summary("b2")
    assert summary == {"spellcheck": {"completed": 3, "total": 3}}


@pytest.mark.parametrize("turn", [list, reversed])
async def test_65_completed_before_pending(turn: Callable[..., Any], tmp_path: Path) -> None:
    raws = turn([spellchecked("b1", "e1", "completed"), spellchecked("b1", "e1", "pending", 9)])
    repository = await ingest(tmp_path / "x", *raws)
    assert await repository.get_essay_completed_steps("b1", "e1") == {"spellcheck"}


HOSTILE = {
    2: "json",
    4: "not_object",
    6: "json",
    8: "json",
    10: "type",
    12: "missing:entity_id",
    14: "length",
    16: "length",
    18: "length",
    20: "identifier",
    22: "id_has_separator",
    24: "json",
    26: "status",
    28: "type",
    30: APPLIED,
    32: "range",
    34: APPLIED,
    36: APPLIED,
    40: "range",
}


def test_what_the_existing_consumer_was_given() -> None:
    results = {}
    for line in vector("hostile_public"):
        bad = json.loads(line)
        raw = bad["raw"]
        if fill := bad.get("fill"):
            raw = raw[: fill["at"]] + fill["character"] * fill["times"] + raw[fill["at"] :]
        event = parse(raw.encode("utf-8", "surrogatepass"))
        assert not isinstance(event, Ignored)
        results[bad["n"]] = event.reason if isinstance(event, Rejected) else APPLIED
    assert results == HOSTILE

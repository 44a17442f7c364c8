"""`parse` has an answer for everything, and the answer is one that can be kept and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from envelopes import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bounds import MAX_METADATA_BYTES
from engine.events import Event, Ignored, Rejected, parse
from engine.models import StepFact

REASONS = {
    "json", "not_utf8", "not_object", "too_large", "depth", "number", "nul", "type", "status",
    "length", "identifier", "id_has_separator", "timestamp", "range", "metadata", "version",
}  # fmt: skip
VECTORS = ("comprehensive_batch", "rare_events", "essay_status_updates")
KINDS = {
    envelope["event_type"]: envelope
    for name in VECTORS
    for envelope in map(json.loads, vector(name))
}
TEXTS = ["", "x", "a:b", "\0", "\x1b[2J", "\ud800", "é", "e\u0301", "\u202e", "x" * 200, "2026"]
NUMBERS = [0, -1, 7.5, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, float("nan"), float("inf")]
ODD: list[Any] = [*TEXTS, *NUMBERS, None, True, [], {}, [[]], {"": {}}, [None] * 5, ["e1", "e1"]]


def check(raw: bytes) -> Event | Ignored | Rejected:
    answer = parse(raw)
    if isinstance(answer, Rejected):
        assert answer.reason in REASONS or answer.reason.startswith("missing:")
        assert len(answer.message) < 500
        assert answer.field.isprintable()
    elif isinstance(answer, Event):
        assert answer.facts
        assert 1970 <= answer.time.year < 2200
        for fact in answer.facts:
            assert fact.batch_id.isprintable()
            if isinstance(fact, StepFact):
                assert isinstance(json.loads(fact.metadata), dict)
                assert len(fact.metadata.encode()) <= MAX_METADATA_BYTES
    repr(answer).encode()
    return answer


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    check(raw)


@settings(max_examples=300)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_real_envelopes_with_bytes_changed(kind: str, data: Any) -> None:
    raw = bytearray(json.dumps(KINDS[kind]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        cut = data.draw(st.integers(0, 3))
        raw[place : place + cut] = data.draw(st.binary(max_size=3))
    check(bytes(raw))


def paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The way to every member of a document, at most two of each list."""
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value[:2])
    for key, inner in members:
        yield (key,)
        yield from ((key, *rest) for rest in paths(inner))


def changed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy with one member replaced, or left out if `new` is `LEFT_OUT`."""
    key, *rest = path
    copy = value.copy()
    if rest:
        copy[key] = changed(value[key], tuple(rest), new)
    elif new is LEFT_OUT:
        del copy[key]
    else:
        copy[key] = new
    return copy


LEFT_OUT = object()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_member_of_every_kind_may_be_odd(kind: str) -> None:
    for path in paths(KINDS[kind]):
        for new in [LEFT_OUT, *ODD]:
            check(json.dumps(changed(KINDS[kind], path, new)).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(KINDS)), json_values, st.data())
def test_real_envelopes_with_anything_inside(kind: str, value: Any, data: Any) -> None:
    path = data.draw(st.sampled_from(sorted(paths(KINDS[kind]), key=str)))
    check(json.dumps(changed(KINDS[kind], path, value)).encode())


@given(st.sampled_from(sorted(KINDS)))
def test_the_order_of_members_does_not_matter(kind: str) -> None:
    envelope = KINDS[kind]
    turned = dict(reversed(envelope.items()))
    assert check(json.dumps(turned).encode()) == check(json.dumps(envelope).encode())


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '"\\u0000', "9", "-", " "])
def test_long_and_deep_input_is_answered_without_pain(opening: str) -> None:
    text = opening * (2_000_000 // len(opening))
    assert isinstance(check(text.encode()), Rejected)
    envelope = json.dumps(KINDS["batch.pipeline.completed"])
    assert isinstance(check((envelope[:-1] + ', "x": ' + text).encode()), Rejected)

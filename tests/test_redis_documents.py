"""Documents shared with the services: what they stored, what we store, what neither knows."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from envelopes import VECTORS
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis_servers import empty, open_redis_backend, shared_redis
from redis_services import check_strictly, steps_of, with_step

from engine.auditing import ESSAYS, Disagreement, audit, audit_lasting
from engine.backends.redis_decode import decode
from engine.backends.redis_document import Document, encode, outline_of
from engine.backends.redis_rows import EssayRow
from engine.documents import EssayProcessingState
from engine.models import (
    COMPLETED,
    FAILED,
    PENDING,
    EssaysFact,
    Outcome,
    RegistrationFact,
    StepFact,
)
from engine.pipelines import phases_of
from engine.repository import BatchStateRepository
from engine.summaries import summarize

TRUTH = json.loads((VECTORS / "ground_truth.json").read_text())["comprehensive_batch"][0]
STORED = json.loads((VECTORS / "stored_redis.json").read_text())
BATCH = TRUTH["batch_id"]
COUNTS = {step: [truth["succeeded"], truth["failed"]] for step, truth in TRUTH["steps"].items()}
COUNTS["nlp"] = [22, 0]  # the service was never told of the essay that failed there
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    server = shared_redis()
    empty(server)
    async with Redis.from_url(server.url, driver_info=None, protocol=2) as client:
        yield client


@pytest.fixture
async def ours(client: Redis, tmp_path: Path) -> AsyncIterator[BatchStateRepository]:
    repository = await open_redis_backend(tmp_path)
    yield repository
    await repository.aclose()


@pytest.fixture
async def stored(ours: BatchStateRepository, client: Redis) -> dict[str, Any]:
    """What the service left behind, in the server; texts by key."""
    for entry in STORED:
        if entry["type"] == "hash":
            await client.hset(entry["key"], mapping=entry["value"])
            await client.expire(entry["key"], entry["ttl_seconds"])
        else:
            await client.set(entry["key"], entry["value"], ex=entry["ttl_seconds"])
    return {entry["key"]: entry["value"] for entry in STORED}


async def test_what_the_service_stored_gives_the_right_totals(
    ours: BatchStateRepository, stored: dict[str, Any]
) -> None:
    record = await ours.batch_record(BATCH)
    assert (record.expected, record.seen) == (None, 24)
    assert record.counts == COUNTS
    assert record.doubt
    ids = [each.batch_id for each in await ours.summaries()]
    assert ids == [BATCH, "ops-batch-0001"]


async def test_the_pseudo_essay_of_the_service_is_not_counted(
    ours: BatchStateRepository, stored: dict[str, Any]
) -> None:
    record = await ours.batch_record("ops-batch-0001")
    assert (record.seen, record.counts) == (0, {})
    [pseudo] = await ours.essays("ops-batch-0001", ["batch_ops-batch-0001_aggregate"])
    outcomes = {step: fact.outcome for step, fact in pseudo.steps.items()}
    assert outcomes == {"spellcheck": COMPLETED, "nlp": FAILED}
    assert await ours.get_completed_phases("ops-batch-0001") == {"student_matching"}


async def test_the_pseudo_essay_is_not_counted_twice(
    ours: BatchStateRepository, client: Redis
) -> None:
    for step in ("one", "two"):
        await ours.record([StepFact("b1", "batch_b1_aggregate", step, COMPLETED, NOW, "x", 1)])
    record = await ours.batch_record("b1")
    assert (record.seen, record.counts, record.doubt) == (0, {}, "")
    assert await client.hget("bcs:batch_index:b1", "e") == b"1"


async def test_a_stored_failure_of_a_phase_may_be_partial_success(
    ours: BatchStateRepository, stored: dict[str, Any]
) -> None:
    summary = summarize(await ours.batch_record(BATCH), phases_of())
    steps = {each.step: each for each in summary.steps}
    assert steps["spellcheck"].phase_status == "failed"
    assert steps["cj_assessment"].phase_status == "completed_successfully"


async def test_what_we_do_not_change_stays_byte_for_byte(
    ours: BatchStateRepository, client: Redis, stored: dict[str, Any]
) -> None:
    essay_ids = TRUTH["essay_ids"]
    await ours.record([RegistrationFact(BATCH, 24, tuple(essay_ids), NOW, "teacher")])
    await ours.record([StepFact(BATCH, one, "extra", COMPLETED, NOW, "x", 1) for one in essay_ids])
    record = await ours.batch_record(BATCH)
    assert (record.expected, record.seen, record.doubt) == (24, 24, "")
    assert record.counts == {**COUNTS, "extra": [24, 0]}
    for key, value in stored.items():
        if not key.startswith(f"bcs:essay_state:{BATCH}"):
            if "batch_summary" not in key and not isinstance(value, dict):
                assert await client.get(key) == value.encode()
            continue
        raw = await client.get(key)
        state = check_strictly(raw)
        was = json.loads(value)
        assert set(state["completed_steps"]) == {*was["completed_steps"], "extra"}
        for step, metadata in was["step_metadata"].items():
            kept = json.dumps(metadata)
            assert kept in value
            assert f'"{step}": {kept}' in raw.decode()
    # A service of old still finds the numbers, and the true total.
    summary = json.loads(await client.get(f"bcs:batch_summary:{BATCH}"))
    assert {step: (pair["completed"], pair["total"]) for step, pair in summary.items()} == {
        "extra": (24, 24),
        **{step: (completed, 24) for step, (completed, _) in COUNTS.items()},
    }


async def test_services_accept_what_we_write(ours: BatchStateRepository, client: Redis) -> None:
    odd = '{"note": "\u00e9\u4e2d\U0001f600\u2028", "deep": [[], {}], "n": 9007199254740993}'
    await ours.record(
        [
            EssaysFact("b1", ("e1", "e2"), NOW, "\u00e9.txt"),
            StepFact("b1", "e1", "done", COMPLETED, NOW, "\u00e9", 2, odd),
            StepFact("b1", "e1", "bad", FAILED, NOW, "x", 1, '{"status": "failed"}'),
            StepFact("b1", "e1", "not yet", PENDING, NOW),
        ]
    )
    raw = await client.get("bcs:essay_state:b1:e1")
    state = check_strictly(raw)
    assert set(state["completed_steps"]) == {"done", "bad"}
    assert state["step_metadata"]["done"] == json.loads(odd)
    assert state["step_metadata"]["bad"] == {"status": "failed", "completion_status": "failed"}
    assert steps_of(await client.get("bcs:essay_state:b1:e2")) == set()

    # The service adds a step, and every step of ours is as exact as before.
    before = await ours.essays("b1")
    metadata = {"completion_status": "failed", "timestamp": NOW.isoformat(), "event_id": "y"}
    after = with_step(raw, "theirs", metadata)
    assert after is not None
    await client.set("bcs:essay_state:b1:e1", after, ex=100)
    await client.delete("bcs:batch_summary:b1")
    [essay, other] = await ours.essays("b1")
    theirs = StepFact("b1", "e1", "theirs", FAILED, NOW, "y", 1, json.dumps(metadata))
    assert essay.steps == {**before[0].steps, "theirs": theirs}
    assert (essay.created_at, other) == (before[0].created_at, before[1])
    record = await ours.batch_record("b1")
    assert record.counts == {"done": [1, 0], "bad": [0, 1], "not yet": [0, 0], "theirs": [0, 1]}
    assert record.doubt == "another service has written it"


ODD_VALUES = [
    (b"{no json", set()),
    (b"", set()),
    (b"null", set()),
    (b"7", set()),
    (b'["spellcheck"]', set()),
    (b"\xef\xbb\xbf{}", set()),
    (b'{"completed_steps": ["\xff"]}', set()),
    (b"[" * 5000, set()),
    (b'{"step_metadata": {"nlp": {"a": 1}}, "extra": 1.0}', set()),
    (b'{"completed_steps": null, "step_metadata": {}}', set()),
    (b'{"completed_steps": "nlp", "step_metadata": {}}', set()),
    (b'{"completed_steps": {}, "step_metadata": {}}', set()),
    (b'{"completed_steps": ["nlp", 3], "step_metadata": {}}', {"nlp"}),
    (b'{"completed_steps": ["nlp", "nlp"], "step_metadata": {"nlp": {}}}', {"nlp"}),
    (b'{"completed_steps": ["nlp"]}', {"nlp"}),
    (b'{"completed_steps": ["nlp"], "step_metadata": []}', {"nlp"}),
    (b'{"completed_steps": ["nlp"], "step_metadata": {"nlp": {"x": NaN}}, "more": [1.0, []]}',
     {"nlp"}),
    (b'{"completed_steps": ["nlp"], "step_metadata": {"nlp": ' + b"[" * 5000 + b"}}", set()),
]  # fmt: skip
UNREADABLE = {0, 1, 2, 3, 4, 5, 6, 7, 17}
DAMAGED = {10, 12}


async def test_what_cannot_be_read_is_said_and_not_taken_for_pending(
    ours: BatchStateRepository, client: Redis
) -> None:
    names = [f"e{number:02}" for number in range(len(ODD_VALUES))]
    keys = [f"bcs:essay_state:b1:{name}" for name in names]
    await client.mset(dict(zip(keys, (raw for raw, _ in ODD_VALUES), strict=True)))
    await client.hset("bcs:essay_state:b1:hash", mapping={"a": "1"})
    await client.hset("bcs:batch:b1:phases", "nlp", "completed")
    record = await ours.batch_record("b1")
    essays = {essay.essay_id: essay for essay in await ours.essays("b1")}
    assert [*essays] == [*names, "hash"]
    troubled = {names[number] for number in UNREADABLE | DAMAGED} | {"hash"}
    assert {name for name, essay in essays.items() if essay.trouble} == troubled
    assert essays["hash"].trouble == "its key holds another type"

    assert record.seen == len(essays)
    assert f"{len(troubled)} essays cannot be read" in record.doubt
    columns = await ours.load_batch("b1")
    assert set(columns.record.unreadable) == troubled
    summary = summarize(record, phases_of())
    (nlp,) = [counts for counts in summary.steps if counts.step == "nlp"]
    hidden = sum("nlp" not in essays[name].steps for name in troubled)
    assert (nlp.unknown, 0 < hidden < len(troubled)) == (hidden, True)
    assert nlp.completed + nlp.failed + nlp.skipped + nlp.pending == nlp.total
    for name, essay in essays.items():
        document = EssayProcessingState.from_state(summary, essay)
        assert document.created_at is None, "no document tells"
        if "nlp" in essay.steps:
            assert document.step_status["nlp"] == "completed"
        else:
            assert document.step_status["nlp"] == ("unknown" if name in troubled else "skipped")


@pytest.mark.parametrize("number", range(len(ODD_VALUES)))
async def test_every_odd_value_is_tolerated_and_none_is_lost(
    ours: BatchStateRepository, client: Redis, number: int
) -> None:
    raw, steps = ODD_VALUES[number]
    key = "bcs:essay_state:b1:e1"
    await client.set(key, raw, ex=1000)
    [before] = await ours.essays("b1", ["e1"])
    assert set(before.steps) == steps
    assert await client.get(key) == raw  # reading changes nothing

    await ours.record([StepFact("b1", "e1", "new", COMPLETED, NOW, "x", 1, '{"a": 1}')])
    after = await client.get(key)
    state = json.loads(after)
    assert set(state["completed_steps"]) == steps | {"new"}
    assert isinstance(state["step_metadata"], dict)
    letters = await ours.dead_letters()
    if number in UNREADABLE | DAMAGED:
        assert [(one.reason, one.payload, one.position) for one in letters] == [
            ("unreadable_document", raw, key)
        ]
    else:
        assert letters == []
    if number == 8:
        assert b'"nlp": {"a": 1}' in after
        assert b'"extra": 1.0' in after
    if number == 16:
        assert b'"nlp": {"x": NaN}' in after
        assert b'"more": [1.0, []]' in after
    record = await ours.batch_record("b1")
    assert record.counts == {step: [1, 0] for step in (*steps, "new")}
    assert record.doubt == ""


async def test_a_key_of_another_type_is_moved_and_said(
    ours: BatchStateRepository, client: Redis
) -> None:
    await client.hset("bcs:essay_state:b1:e1", mapping={"a": "1"})
    facts = [StepFact("b1", name, "new", COMPLETED, NOW, "x", 1) for name in ("e1", "e2")]
    await ours.record(facts)
    assert [one.steps["new"] for one in await ours.essays("b1")] == facts
    [letter] = await ours.dead_letters()
    assert letter.reason == "wrong_type"
    place = letter.message.rpartition(" ")[2]
    assert await client.hgetall(place) == {b"a": b"1"}
    assert 0 < await client.ttl(place) <= 604_800


@pytest.mark.parametrize("key", ["bcs:batch_summary:b1", "bcs:tui:batch:b1"])
async def test_our_own_keys_of_another_type(
    ours: BatchStateRepository, client: Redis, key: str
) -> None:
    await client.set(key, "{garbage")
    await ours.record([StepFact("b1", "e1", "new", COMPLETED, NOW, "x", 1)])
    assert (await ours.batch_record("b1")).counts == {"new": [1, 0]}


def test_integers_that_python_does_not_read_are_kept() -> None:
    large = "7" * 6000
    metadata = f'{{"nlp": {{"n": {large}}}}}'
    raw = f'{{"completed_steps": ["nlp"], "step_metadata": {metadata}, "x": {large}}}'
    document = decode("b1", "e1", raw.encode())
    assert document.steps["nlp"].outcome == COMPLETED
    document.put(StepFact("b1", "e1", "new", COMPLETED, NOW))
    again = encode(document, NOW.isoformat()).decode()
    assert f'"nlp": {{"n": {large}}}' in again
    assert f'"x": {large}' in again


# Values of unknown members, and of metadata that others wrote

integers = st.integers() | st.sampled_from([2**53 + 1, -(2**64), 10**30])
scalars = st.none() | st.booleans() | integers | st.floats() | st.text()
values: st.SearchStrategy[Any] = scalars
for _ in range(3):
    values = (
        scalars
        | st.lists(values, max_size=3)
        | st.dictionaries(st.text(max_size=4), values, max_size=3)
    )
names = st.text(max_size=6)
known = ("completed_steps", "step_metadata", "created_at", "last_updated", "bcs_tui")
documents = st.builds(
    lambda steps, metadata, extras: {
        "completed_steps": sorted(steps),
        "step_metadata": metadata,
        **{name: value for name, value in extras.items() if name not in known},
    },
    st.sets(st.text(max_size=6), max_size=3),
    st.dictionaries(names, values, max_size=4),
    st.dictionaries(names, values, max_size=4),
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in value and in type, NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or repr(one) == repr(other)
    return bool(one == other)


@given(documents, st.booleans(), st.sampled_from(Outcome))
def test_whatever_we_do_not_touch_keeps_value_and_type(
    state: dict[str, Any], ascii_only: bool, outcome: Outcome
) -> None:
    raw = json.dumps(state, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return  # lone surrogates have no UTF-8
    fact = StepFact("b1", "e1", "a step of ours", outcome, NOW, "x", 1, '{"ours": [1]}')
    document = decode("b1", "e1", raw)
    document.put(fact)
    again = encode(document, NOW.isoformat())
    written = json.loads(again)
    listed = {*state["completed_steps"]} | ({fact.step} if outcome else set())
    assert set(written["completed_steps"]) == listed
    for step, metadata in state["step_metadata"].items():
        assert same(written["step_metadata"][step], metadata), step
    for name, value in state.items():
        if name not in known:
            assert same(written[name], value), name
    assert decode("b1", "e1", again).steps == document.steps


async def test_the_audit_names_the_wrong_totals_of_the_service(
    ours: BatchStateRepository, stored: dict[str, Any]
) -> None:
    found = await audit_lasting(BATCH, ours.evidence)
    wrong = {(one.step, one.member): (one.says, one.essays) for one in found.disagreements}
    assert {one.source for one in found.disagreements} == {"stored summary"}
    assert wrong["spellcheck", "completed"] == (24, COUNTS["spellcheck"][0])
    assert wrong["nlp", "total"] == (22, 24)
    assert wrong["cj_assessment", "total"] == (23, 24)
    assert wrong["ai_feedback", "total"] == (22, 24)
    assert ("nlp", "completed") not in wrong


async def test_the_audit_finds_nothing_in_what_we_wrote(
    ours: BatchStateRepository, client: Redis, stored: dict[str, Any]
) -> None:
    await ours.record([RegistrationFact(BATCH, 24, tuple(TRUTH["essay_ids"]), NOW, "teacher")])
    evidence = await ours.evidence(BATCH)
    assert {claim.source for claim in evidence.claims} == {ESSAYS, "counters", "stored summary"}
    assert audit(BATCH, evidence).disagreements == []

    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await ours.record([StepFact(BATCH, f"e{number}", "nlp", number % 2 + 1, NOW, "x", 1)])

    writing = asyncio.create_task(write())
    for _ in range(5):
        assert (await audit_lasting(BATCH, ours.evidence)).disagreements == []
    stop.set()
    await writing
    assert audit(BATCH, await ours.evidence(BATCH)).disagreements == []


async def test_the_audit_names_a_document_that_lost_our_results(
    ours: BatchStateRepository, client: Redis
) -> None:
    await ours.record([StepFact("b1", "e1", "nlp", FAILED, NOW, "x", 1)])
    await client.set("bcs:essay_state:b1:e1", '{"completed_steps": [], "step_metadata": {}}')
    await client.delete("bcs:batch_summary:b1")
    found = await audit_lasting("b1", ours.evidence)
    assert list(found.disagreements) == [Disagreement("nlp", "failed", "documents", 0, 1)]


MISLEADING = (
    '{"a": {}, "last_updated": "x", "created_at": "y", "bcs_tui": {"steps": {"q": [1]}}, '
    '"], \\"step_metadata\\": {": 1}'
)
"""Metadata that looks like the parts of a document."""


@pytest.mark.parametrize("file_name", ["", '}, "last_updated": "'])
@pytest.mark.parametrize("metadata", ["{}", MISLEADING, '{"å": 1}'])
def test_what_we_wrote_is_cut_into_the_texts_that_it_was_made_of(
    metadata: str, file_name: str
) -> None:
    document = Document("e1", NOW)
    if file_name:
        document.file_name, document.file_name_at = file_name, NOW
    for step, outcome in (("nlp", 2), ('"], "step_metadata": {', 1), ("spellcheck", 0)):
        fact = StepFact("b1", "e1", step, outcome, NOW, 'id", "', 2, metadata)
        document.put(fact)
        stored = encode(document, NOW.isoformat())
        outline = outline_of(stored.decode())
        assert outline is not None
        assert outline.texts == document.texts
        for unread in (True, False):
            found = EssayRow("b1", "e1", stored, stored, unread=unread).document
            assert encode(found, NOW.isoformat()) == stored
            assert found.result("ai") is None
            assert found.result("nlp") == document.steps["nlp"]
            assert found.state() == document.state()
    assert outline_of("{}") is None


@pytest.mark.parametrize("step", ["nlp", "new"])
@pytest.mark.parametrize("metadata", ["{}", MISLEADING, '{"step": "new"}'])
def test_a_result_put_into_an_unread_document_is_as_if_it_had_been_read(
    metadata: str, step: str
) -> None:
    document = Document("e1", NOW)
    document.put(StepFact("b1", "e1", "nlp", FAILED, NOW, "id", 1, metadata))
    stored = encode(document, NOW.isoformat())
    unread, read = [
        EssayRow("b1", "e1", stored, stored, unread=unread).document for unread in (True, False)
    ]
    for one in (unread, read):
        one.put(StepFact("b1", "e1", step, COMPLETED, NOW, "id", 2, metadata))
    assert encode(unread, NOW.isoformat()) == encode(read, NOW.isoformat())
    assert (unread.moves, unread.state()) == (read.moves, read.state())

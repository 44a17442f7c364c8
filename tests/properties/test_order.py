"""However events are delivered, what is known in the end is the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
from envelopes import (
    ListFeed,
    at,
    document,
    encode,
    nlp_result,
    phase_ended,
    pipeline_ended,
    refs,
    registered,
    requested,
    spellchecked,
    stamp,
    started,
    vector,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.mock import MockBatchStateRepository
from engine.engine import Engine
from engine.events import Event, parse
from engine.view import Health

BATCHES = ["b1", "b2"]
ESSAYS = ["e1", "e2", "e3"]
batch_ids = st.sampled_from(BATCHES)
essay_ids = st.sampled_from(ESSAYS)
some_essays = st.lists(essay_ids, unique=True, max_size=3)
seconds = st.integers(0, 20)
runs = st.sampled_from(["r1", "r2"])
phases = st.sampled_from(["spellcheck", "nlp", "cj_assessment"])
ends = st.sampled_from(
    ["completed_successfully", "completed_with_failures", "failed_critically", "cancelled"]
)


@st.composite
def outcomes(draw: st.DrawFn) -> bytes:
    essays = draw(some_essays)
    split = draw(st.integers(0, len(essays)))
    return phase_ended(
        draw(batch_ids),
        draw(phases),
        draw(ends),
        draw(seconds),
        draw(runs),
        succeeded=essays[:split],
        failed=essays[split:],
    )


def essay_status(batch_id: str, essay_id: str, status: str, moment: int) -> bytes:
    data = {
        "entity_id": essay_id,
        "parent_id": batch_id,
        "status": status,
        "system_metadata": {"timestamp": stamp(moment), "error_info": {"at": moment}},
    }
    return encode(document("essay.status.updated.v1", data, seconds=moment))


def slot(batch_id: str, essay_id: str, name: str, moment: int) -> bytes:
    data = {
        "batch_id": batch_id,
        "essay_id": essay_id,
        "original_file_name": name,
        "timestamp": stamp(moment),
    }
    return encode(document("huleedu.els.essay.slot.assigned.v1", data, seconds=moment))


def ready(batch_id: str, essays: Sequence[str], moment: int) -> bytes:
    data = {
        "batch_id": batch_id,
        "ready_essays": refs(essays),
        "metadata": {"timestamp": stamp(moment)},
    }
    return encode(document("huleedu.els.batch.essays.ready.v1", data, seconds=moment))


statuses = st.sampled_from(["uploaded", "nlp_failed", "nlp_success", "awaiting_nlp"])
events = st.one_of(
    st.builds(registered, batch_ids, some_essays, st.integers(0, 4), seconds),
    st.builds(
        spellchecked, batch_ids, essay_ids, st.sampled_from(["completed", "failed"]), seconds, runs
    ),
    st.builds(nlp_result, essay_ids, seconds, st.integers(1, 3)),
    st.builds(essay_status, st.sampled_from(["b1", "b2", None]), essay_ids, statuses, seconds),
    st.builds(slot, batch_ids, essay_ids, st.sampled_from(["a", "b"]), seconds),
    st.builds(ready, batch_ids, some_essays, seconds),
    st.builds(requested, batch_ids, st.sampled_from(["nlp", "comprehensive"]), seconds, runs),
    st.builds(started, batch_ids, phases, some_essays, seconds, runs),
    st.builds(pipeline_ended, batch_ids, ends, seconds, runs),
    outcomes(),
)


def republished(raw: bytes, chances: Random) -> bytes:
    """The same payload in a new envelope, as an outbox relay makes it: later, with a new id."""
    envelope = json.loads(raw)
    envelope["event_id"] = f"{chances.getrandbits(128):032x}"
    envelope["event_timestamp"] = at(10**7 + chances.randrange(10**6)).isoformat()
    return json.dumps(envelope).encode()


def without_ids(essays: list[Any]) -> list[Any]:
    """Of equal results the larger event id is kept; it is shown to nobody."""
    return [
        msgspec.structs.replace(
            essay,
            steps={
                step: msgspec.structs.replace(fact, event_id="")
                for step, fact in essay.steps.items()
            },
        )
        for essay in essays
    ]


async def deliver(raws: Sequence[bytes], chunk_size: int = 1000) -> tuple[Any, Health]:
    repository = MockBatchStateRepository()
    engine = Engine(repository, ListFeed(raws, chunk_size))
    await engine.run()
    records = await repository.summaries()
    state = []
    for record in records:
        columns = await repository.load_batch(record.batch_id)
        grid = {
            step: dict(zip(columns.essay_ids, column, strict=True))
            for step, column in columns.outcomes.items()
        }
        assert columns.record == record
        state.append((record, grid, await repository.essays(record.batch_id)))
    return state, engine.health


def shown(state: Any) -> Any:
    return [(record, grid, without_ids(essays)) for record, grid, essays in state]


@settings(max_examples=150)
@given(
    st.lists(events, max_size=20, unique=True),
    st.randoms(use_true_random=False),
    st.integers(1, 9),
)
def test_generated_events(raws: list[bytes], chances: Random, chunk_size: int) -> None:
    check(raws, chances, chunk_size)


@settings(max_examples=8)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_a_real_batch(seed: int, chunk_size: int) -> None:
    check(vector("comprehensive_batch"), Random(seed), chunk_size)


def check(raws: list[bytes], chances: Random, chunk_size: int) -> None:
    state, health = asyncio.run(deliver(raws))

    doubled = raws + [raw for raw in raws if chances.random() < 0.5]
    chances.shuffle(doubled)
    other, account = asyncio.run(deliver(doubled, chunk_size))
    assert other == state
    assert account.read == len(doubled)
    assert account.read == account.applied + account.ignored + account.duplicates

    again = [republished(raw, chances) for raw in raws]
    chances.shuffle(again)
    other, account = asyncio.run(deliver(raws + again, chunk_size))
    assert shown(other) == shown(state)
    carrying = sum(isinstance(parse(raw), Event) for raw in raws)
    assert account.applied == health.applied
    assert account.duplicates == health.duplicates + carrying

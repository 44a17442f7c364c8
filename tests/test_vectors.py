"""A real batch and its true counts; the rarer kinds of events."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from envelopes import VECTORS, ListFeed, vector

from engine.backends.mock import MockBatchStateRepository
from engine.engine import Engine
from engine.summaries import BatchSummary
from engine.view import Health

TRUTH = json.loads((VECTORS / "ground_truth.json").read_text())["comprehensive_batch"][0]


async def play(raws: list[bytes], chunk_size: int = 50) -> tuple[Engine, MockBatchStateRepository]:
    repository = MockBatchStateRepository()
    engine = Engine(repository, ListFeed(raws, chunk_size))
    await engine.run()
    return engine, repository


def summary_of(engine: Engine) -> BatchSummary:
    return engine.view.batches[TRUTH["batch_id"]].summary


def account_of(health: Health) -> tuple[int, ...]:
    return (
        health.read,
        health.applied,
        health.ignored,
        health.duplicates,
        health.dead_letters,
        health.in_flight,
    )


async def test_the_true_counts() -> None:
    engine, repository = await play(vector("comprehensive_batch"))
    summary = summary_of(engine)
    assert summary.expected == summary.seen == summary.total == TRUTH["expected_essay_count"]
    assert (summary.pipeline, summary.owner) == (TRUTH["pipeline"], TRUTH["user_id"])
    assert summary.status == "completed_with_failures"
    assert summary.reason == "reported as successful, but essays failed"

    essays = await repository.essays(summary.batch_id)
    assert {essay.essay_id for essay in essays} == set(TRUTH["essay_ids"])
    assert [counts.step for counts in summary.steps] == TRUTH["runs"][0]["resolved"]
    for counts in summary.steps:
        truth: dict[str, Any] = TRUTH["steps"][counts.step]
        assert counts.completed == truth["succeeded"]
        assert counts.failed == truth["failed"]
        assert counts.completed + counts.failed == truth["attempted"]
        assert counts.skipped == summary.total - truth["attempted"]
        assert (counts.pending, counts.running) == (0, False)
        assert counts.phase_status == truth["phase_status"]
        failed = [e.essay_id for e in essays if e.steps.get(counts.step, _NO_STEP).outcome == 1]
        assert failed == truth["failed_essay_ids"]


class _NoStep:
    outcome = 0


_NO_STEP = _NoStep()


async def test_the_account_of_the_batch() -> None:
    engine, _ = await play(vector("comprehensive_batch"))
    read, applied, ignored, duplicates, letters, in_flight = account_of(engine.health)
    assert (read, letters, in_flight) == (218, 0, 0)
    assert applied + ignored + duplicates == read
    assert ignored == sum(engine.health.ignored_types.values()) > 0


@pytest.mark.parametrize("seed", range(3))
async def test_a_doubled_and_shuffled_batch_changes_nothing_but_duplicates(seed: int) -> None:
    plain, kept = await play(vector("comprehensive_batch"))
    raws = vector("comprehensive_batch") * 2
    Random(seed).shuffle(raws)
    engine, repository = await play(raws, chunk_size=17)
    assert summary_of(engine) == summary_of(plain)
    assert await repository.essays(TRUTH["batch_id"]) == await kept.essays(TRUTH["batch_id"])
    health = engine.health
    assert health.read == 436
    assert health.ignored == 2 * plain.health.ignored
    assert health.duplicates >= 218 - plain.health.ignored


async def test_rare_events() -> None:
    engine, _ = await play(vector("rare_events"))
    assert account_of(engine.health) == (10, 7, 3, 0, 0, 0)
    (row,) = engine.view.batches.values()
    steps = {counts.step: counts for counts in row.summary.steps}
    assert row.summary.status == "completed_with_failures"
    assert (row.summary.expected, row.summary.total) == (None, 1)
    assert (steps["spellcheck"].completed, steps["ai_feedback"].failed) == (1, 1)
    assert steps["ai_feedback"].phase_status == "failed_critically"
    assert steps["cj_assessment"].phase_status == "failed_critically"
    assert steps["student_matching"].phase_status == "cancelled"


async def test_essay_status_updates() -> None:
    engine, repository = await play(vector("essay_status_updates"))
    assert engine.health.dead_letters == 0
    summary = summary_of(engine)
    assert summary.expected is None
    assert summary.seen == len(await repository.essays(TRUTH["batch_id"])) > 0

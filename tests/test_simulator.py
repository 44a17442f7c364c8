"""The simulated fleet: believable, the same for the same seed, and bad on request."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.clock import ManualClock
from engine.events import Event, Rejected, parse
from engine.feeds.chaos import Chaos
from engine.feeds.simulation.fleet import FIRST_DAY, generate
from engine.feeds.simulator import SimulatorFeed
from engine.models import PhaseFact, RegistrationFact, StepFact

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


async def happened(feed: SimulatorFeed) -> list[dict[str, Any]]:
    """Return all that has happened so far."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while feed._ahead() <= 0:
            events += [json.loads(envelope.raw) for envelope in await feed.read() or []]
    return events


def stamp(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["event_timestamp"])


DAY = list(generate(seed=3, batches=40))


def test_every_event_is_one_that_the_engine_understands() -> None:
    refused = [(event, raw) for raw in DAY if isinstance(event := parse(raw), Rejected)]
    assert refused == []


def test_all_kinds_of_progress_events_occur() -> None:
    kinds = {json.loads(raw)["event_type"].removeprefix("huleedu.") for raw in DAY}
    assert kinds == {
        "assessment.result.published.v1",
        "batch.ai_feedback.initiate.command.v1",
        "batch.cj_assessment.initiate.command.v1",
        "batch.content.provisioning.completed.v1",
        "batch.essays.registered.v1",
        "batch.nlp.analysis.completed.v1",
        "batch.nlp.initiate.command.v2",
        "batch.phase.skipped.v1",
        "batch.pipeline.completed",
        "batch.spellcheck.phase.completed.v1",
        "cj_assessment.completed.v1",
        "cj_assessment.failed.v1",
        "commands.batch.pipeline.v1",
        "els.batch.essays.ready.v1",
        "els.batch.phase.outcome.v1",
        "els.essay.slot.assigned.v1",
        "els.spellcheck.initiate.command.v1",
        "essay.aifeedback.completed.v1",
        "essay.nlp.completed.v1",
        "essay.spellcheck.results.v1",
        "file.batch.file.added.v1",
        "file.essay.content.provisioned.v1",
        "file.essay.validation.failed.v1",
        "notification.teacher.requested.v1",
        "pipeline.denied.v1",
        "ras.batch.results.ready.v1",
    }


def test_a_day_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert list(generate(seed=3, batches=40)) == DAY
    assert not set(DAY) & set(generate(seed=4, batches=40))


def test_ids_are_never_given_twice() -> None:
    ids = [json.loads(raw)["event_id"] for raw in DAY]
    assert len(set(ids)) == len(ids)
    registered = [
        fact
        for raw in DAY
        if isinstance(event := parse(raw), Event)
        for fact in event.facts
        if isinstance(fact, RegistrationFact)
    ]
    assert len({fact.batch_id for fact in registered}) == len(registered) == 40
    essays = [essay for fact in registered for essay in fact.essay_ids]
    assert len(set(essays)) == len(essays)


def test_events_come_in_the_order_of_time() -> None:
    times = [stamp(json.loads(raw)) for raw in DAY]
    late = max(max(times[:place]) - moment for place, moment in enumerate(times) if place)
    assert late < timedelta(seconds=0.05)  # the time between happening and being published
    assert times[0] - FIRST_DAY < timedelta(seconds=1)


def test_what_phases_say_agrees_with_what_essays_said() -> None:
    failed: dict[tuple[str, str], set[str]] = {}
    for raw in DAY:
        event = parse(raw)
        for fact in event.facts if isinstance(event, Event) else ():
            if isinstance(fact, StepFact) and fact.batch_id and fact.detail:
                ids = failed.setdefault((fact.batch_id, fact.step), set())
                (ids.add if fact.outcome == 1 else ids.discard)(fact.essay_id)
        data = json.loads(raw)["data"]
        if data.get("phase_name") in ("spellcheck", "ai_feedback") and "phase_status" in data:
            known = failed[data["batch_id"], data["phase_name"]]
            assert set(data["failed_essay_ids"]) == known


def test_troubles_occur_and_failures_come_in_clusters() -> None:
    statuses = Counter(
        fact.status
        for raw in DAY
        if isinstance(event := parse(raw), Event)
        for fact in event.facts
        if isinstance(fact, PhaseFact)
    )
    assert {"completed_with_failures", "failed_critically", "skipped"} <= set(statuses)
    feed = SimulatorFeed(seed=1, clock=ManualClock(NOON))
    events = asyncio.run(happened(feed))
    codes = Counter(
        event["data"]["system_metadata"]["error_info"].get("error_code")
        for event in events
        if event["event_type"] == "huleedu.essay.aifeedback.completed.v1"
    )
    assert codes["RATE_LIMIT"] >= 5
    assert codes[None] > 5 * codes["RATE_LIMIT"]


async def test_the_first_screen_is_full_and_history_ends_now() -> None:
    feed = SimulatorFeed(seed=1, clock=ManualClock(NOON))
    events = await happened(feed)
    assert len(events) > 1000
    assert len({event["correlation_id"] for event in events}) >= 24
    newest = max(map(stamp, events))
    assert NOON - timedelta(seconds=5) < newest < NOON + timedelta(seconds=0.05)
    assert min(map(stamp, events)) < NOON - timedelta(minutes=40)


async def test_events_go_on_with_the_clock_and_new_batches_arrive() -> None:
    clock = ManualClock(NOON)
    feed = SimulatorFeed(seed=1, clock=clock)
    await happened(feed)
    clock.advance(600)
    events = await happened(feed)
    assert NOON < min(map(stamp, events)) < max(map(stamp, events))
    arrived = [one for one in events if one["event_type"].endswith("essays.registered.v1")]
    assert len(arrived) >= 15


async def test_twice_the_rate_is_twice_the_life() -> None:
    counts = []
    for rate in (1.0, 4.0):
        clock = ManualClock(NOON)
        feed = SimulatorFeed(seed=1, rate=rate, clock=clock)
        await happened(feed)
        clock.advance(300)
        events = await happened(feed)
        assert max(map(stamp, events)) < clock.now() + timedelta(seconds=0.05)
        counts.append(len(events))
    assert counts[1] > 2.5 * counts[0]


async def test_the_fleet_is_the_same_for_the_same_seed_however_it_is_read() -> None:
    at_once, bit_by_bit = ManualClock(NOON), ManualClock(NOON)
    first = SimulatorFeed(seed=9, clock=at_once)
    second = SimulatorFeed(seed=9, clock=bit_by_bit, chunk_size=10)
    at_once.advance(60)
    expected = await happened(first)
    events: list[dict[str, Any]] = []
    for _ in range(60):
        bit_by_bit.advance(1)
        events += await happened(second)
    assert events == expected


async def test_a_fleet_can_be_larger_than_its_cast() -> None:
    feed = SimulatorFeed(seed=1, batches=60, clock=ManualClock(NOON))
    events = await happened(feed)
    assert len([one for one in events if one["event_type"].endswith("registered.v1")]) == 60


# --- chaos ---------------------------------------------------------------------------------------


def mistreated(**shares: float) -> list[bytes]:
    return list(Chaos(seed=1, **shares).apply(DAY))  # type: ignore[arg-type]


def test_without_a_wish_nothing_happens() -> None:
    assert mistreated() == DAY


def test_chaos_is_the_same_for_the_same_seed() -> None:
    shares = {"duplicates": 0.1, "reorder": 0.1, "drop": 0.1, "skew_seconds": 5, "republish": 0.1}
    assert mistreated(**shares) == mistreated(**shares)
    other = Chaos(seed=2, **shares).apply(DAY)  # type: ignore[arg-type]
    assert mistreated(**shares) != list(other)


def test_duplicates_are_the_same_bytes() -> None:
    counts = Counter(mistreated(duplicates=0.1))
    assert set(counts) == set(DAY)
    assert len(DAY) * 0.05 < list(counts.values()).count(2) < len(DAY) * 0.2


def test_dropped_events_are_gone() -> None:
    left = mistreated(drop=0.1)
    assert len(DAY) * 0.8 < len(left) < len(DAY) * 0.95
    assert [raw for raw in DAY if raw in set(left)] == left


def test_reordering_loses_nothing() -> None:
    left = mistreated(reorder=0.1)
    assert left != DAY
    assert sorted(left) == sorted(DAY)


def test_a_republication_says_the_same_in_another_envelope() -> None:
    again = [json.loads(raw) for raw in mistreated(republish=0.1) if raw not in set(DAY)]
    known = {json.dumps(event["data"]): event for event in map(json.loads, DAY)}
    assert len(again) > len(DAY) * 0.05
    for event in again:
        original = known[json.dumps(event["data"])]
        assert event["event_id"] != original["event_id"]
        assert stamp(event) > stamp(original)
        assert event["correlation_id"] == original["correlation_id"]


def test_each_service_is_off_by_an_amount_of_its_own() -> None:
    offsets: dict[str, set[timedelta]] = {}
    for raw, skewed in zip(DAY, mistreated(skew_seconds=30), strict=True):
        before, after = json.loads(raw), json.loads(skewed)
        off = stamp(after) - stamp(before)
        offsets.setdefault(before["source_service"], set()).add(off)
        if "timestamp" in before["data"]:
            own = datetime.fromisoformat(after["data"]["timestamp"])
            assert own - datetime.fromisoformat(before["data"]["timestamp"]) == off
    assert all(len(amounts) == 1 for amounts in offsets.values())
    assert len({abs(amounts.pop()) for amounts in offsets.values()}) == len(offsets)


async def test_a_simulated_fleet_can_misbehave() -> None:
    plain = SimulatorFeed(seed=1, clock=ManualClock(NOON))
    chaotic = SimulatorFeed(seed=1, clock=ManualClock(NOON), chaos=Chaos(duplicates=0.2))
    expected, events = await happened(plain), await happened(chaotic)
    events += await happened(chaotic)
    ids = Counter(event["event_id"] for event in events)
    assert max(ids.values()) == 2
    assert set(ids) <= {event["event_id"] for event in expected}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_chaos_may_be_total(share: float) -> None:
    assert len(mistreated(drop=share)) == (0 if share else len(DAY))

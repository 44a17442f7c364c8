"""What an observer tells of a batch that it has not seen long, or whose clock is ahead."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from pages import fleet, lines, row, running, text
from stills import AFTERNOON, StillEngine, empty_view, until

from engine import BatchRow, Mode
from engine.models import COMPLETED, BatchRecord, PhaseFact, StepFact
from engine.projection import STALL_SECONDS, Projection
from engine.repository import Change

NOW = AFTERNOON
MINUTE = timedelta(minutes=1)


def record(last: datetime, results: int = 10, **more: int) -> BatchRecord:
    counts = {"nlp": [results, 0]}
    start = NOW - 30 * MINUTE
    return BatchRecord("b", 100, 100, first_at=start, last_at=last, counts=counts, **more)


def row_at(projection: Projection, now: datetime) -> BatchRow:
    rows, _ = projection.rows(now)
    return rows["b"]


def test_a_rate_that_nobody_saw_is_being_measured_and_not_none() -> None:
    projection = Projection()
    projection.load([record(NOW)])
    shown = row_at(projection, NOW)
    assert (shown.is_measuring, shown.rate_per_minute, shown.eta) == (True, None, None)
    projection.load([record(NOW + MINUTE, 16)])
    shown = row_at(projection, NOW + MINUTE)
    assert shown.rate_per_minute == pytest.approx(6, rel=0.3)
    assert (shown.is_measuring, shown.eta is None) == (False, False)


def test_a_batch_of_few_results_has_no_rate_to_measure() -> None:
    projection = Projection()
    projection.load([record(NOW, 2)])
    assert not row_at(projection, NOW).is_measuring
    fed = Projection()
    fed.apply([Change(StepFact("b", f"e{n}", "nlp", COMPLETED, NOW)) for n in range(9)])
    assert not row_at(fed, NOW).is_measuring, "all of its results were seen"


def test_a_batch_whose_clock_is_ahead_stalls_by_the_time_it_was_last_seen_to_change() -> None:
    projection = Projection()
    projection.load([record(NOW.replace(year=2076))])
    shown = row_at(projection, NOW)
    assert (shown.is_ahead, shown.stalled_since) == (True, None)
    patience = timedelta(seconds=STALL_SECONDS)
    assert projection.next_wake == NOW + patience
    shown = row_at(projection, NOW + patience)
    assert (shown.is_ahead, shown.stalled_since) == (True, NOW)
    later = NOW + patience + MINUTE
    projection.load([record(NOW.replace(year=2076), 11)])
    assert row_at(projection, later).stalled_since is None
    fact = PhaseFact("b", "nlp", "started", "r", NOW)
    projection.apply([Change(fact)])
    projection.rows(later + MINUTE)
    assert row_at(projection, later + patience).stalled_since is None
    assert row_at(projection, later + MINUTE + patience).stalled_since == later + MINUTE


def test_a_mark_goes_when_the_clock_has_caught_up() -> None:
    projection = Projection()
    projection.load([record(NOW + 3 * MINUTE)])
    assert row_at(projection, NOW).is_ahead
    assert projection.next_wake == NOW + 2 * MINUTE
    assert not row_at(projection, NOW + 2 * MINUTE).is_ahead


def test_a_clock_that_is_a_little_ahead_is_not_marked() -> None:
    projection = Projection()
    projection.load([record(NOW + timedelta(seconds=20))])
    assert not row_at(projection, NOW).is_ahead


def test_batches_that_change_again_and_again_leave_no_wakes_behind() -> None:
    projection = Projection()
    for number in range(100):
        projection.load([record(NOW.replace(year=2076), number)])
        projection.rows(NOW + timedelta(seconds=number))
    assert len(projection._wakes) < 3


async def test_what_is_measured_is_said() -> None:
    measured = msgspec.structs.replace(row("b1"), is_measuring=True)
    async with running(fleet(measured), (160, 50)) as (app, pilot):
        assert "measuring" in text(app)
        assert "are measured: few results were seen yet" in text(app)
        await pilot.press("enter")
        await until(lambda: "measuring its pace" in text(app))


async def test_a_clock_that_is_ahead_is_said() -> None:
    ahead = row("b1", is_ahead=True)
    summary = msgspec.structs.replace(ahead.summary, last_event_at=NOW.replace(year=2076))
    engine = fleet(msgspec.structs.replace(ahead, summary=summary))
    async with running(engine, (160, 50)) as (app, pilot):
        assert any(line.find(" b1 ") < line.find(" ahead ") for line in lines(app))
        assert "2076" in text(app)
        assert "ahead of the clock here" in text(app)
        await pilot.press("enter")
        await until(lambda: "ahead of the clock here" in text(app))


async def test_before_the_first_look_is_over_nobody_says_that_there_is_nothing() -> None:
    engine = StillEngine(empty_view(mode=Mode.STARTING, read_only=True, backend="redis"))
    async with running(engine) as (app, _pilot):
        assert "STARTING" in lines(app)[0]
        assert "Looking for batches" in text(app)
        health = engine.view.health
        engine.change(health=msgspec.structs.replace(health, mode=Mode.LIVE))
        await until(lambda: "There is none in redis" in text(app))
        lost = msgspec.structs.replace(health, mode=Mode.RECONNECTING, trouble="it is gone")
        engine.change(health=lost)
        await until(lambda: "Trying again" in text(app))


async def test_the_part_that_was_silent_longest_says_how_old_the_picture_is() -> None:
    engine = fleet(row("b1"))
    health = msgspec.structs.replace(
        engine.view.health, read_only=True, verified_at=NOW, time=NOW + timedelta(seconds=1),
        silences={"Redis": 0.5, "PostgreSQL": 3.0},
    )  # fmt: skip
    engine.change(health=health)
    async with running(engine, (120, 40)) as (app, _pilot):
        assert "verified 3.0s ago" in lines(app)[0]
        silences = {"Redis": 0.5, "PostgreSQL": 12.0}
        engine.change(health=msgspec.structs.replace(health, silences=silences))
        await until(lambda: "PostgreSQL verified 12s ago" in lines(app)[0])

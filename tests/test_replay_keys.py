"""The keys of a replay."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pages import fleet, lines, page, row, running, text
from stills import AFTERNOON, replayed, until

from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.screens.replaying import read_place
from bcs_tui.widgets.replay_bar import SPEEDS, next_speed


@pytest.mark.parametrize(
    ("keys", "calls"),
    [("space", [("pause", False)]), ("p p", [("pause", False), ("pause", True)]),
     ("full_stop", [("step", 1)]), ("less_than_sign", [("speed", 30.0)]),
     ("greater_than_sign greater_than_sign", [("speed", 120.0), ("speed", 300.0)]),
     ("L", [("seek", {"fraction": 1.0})]), ("o", [("loop", True)]),
     ("right_curly_bracket left_curly_bracket", [("failure", 1), ("failure", -1)]),
     ("tab 4", [("seek", {"fraction": 0.4})]),
     ("t 2 5 % enter", [("seek", {"fraction": 0.25})]), ("t x enter", [])],
)  # fmt: skip
async def test_replay_keys(keys: str, calls: list[tuple[Any, ...]]) -> None:
    engine = await replayed("one_batch", 0.5)
    async with running(engine) as (app, pilot):
        for key in keys.split():
            await pilot.press(key)
            await until(lambda: page(app, FleetScreen).view is engine.view)
        await pilot.pause()
        assert engine.calls == calls


async def test_the_bar_shows_that_it_takes_the_digits() -> None:
    async with running(await replayed("one_batch", 0.5)) as (app, pilot):
        assert lines(app)[-2].startswith(" paused ")
        await pilot.press("tab")
        await pilot.pause()
        assert lines(app)[-2].startswith("▸paused ")
        await pilot.press("escape")
        await pilot.pause()
        assert lines(app)[-2].startswith(" paused ")


async def test_replay_moves_by_time_and_steps_back() -> None:
    engine = await replayed("one_batch", 0.5)
    state = engine.view.replay
    assert state is not None
    assert state.now is not None
    async with running(engine) as (_app, pilot):
        await pilot.press("left", "right", "shift+right", "comma")
        await pilot.pause()
    moves = [state.now + timedelta(seconds=seconds) for seconds in (-5, 5, 60)]
    assert engine.calls[:3] == [("seek", {"moment": moment}) for moment in moves]
    assert engine.calls[3] == ("seek", {"index": state.index - 1})


async def test_what_failed_is_said_and_that_nothing_does() -> None:
    async with running(await replayed("one_batch", 0.75), (120, 40)) as (app, pilot):
        await pilot.press("right_curly_bracket")
        await until(lambda: ", essay " in lines(app)[-1] or ", batch " in lines(app)[-1])
        await pilot.press("left_curly_bracket")
        await until(lambda: "nothing fails before this" in lines(app)[-1])


async def test_a_phase_says_how_many_of_its_essays_failed() -> None:
    async with running(await replayed("busy_day", 0.047), (160, 40)) as (app, pilot):
        await pilot.press("2")
        await until(lambda: "spellcheck phase completed with failures, 1 failed" in text(app))
        assert "completed successfully," not in text(app)


async def test_replay_keys_without_a_replay_say_so() -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        await pilot.press("space")
        await pilot.pause()
        assert "only a replay" in lines(app)[-1]


def test_speeds_go_up_and_down_between_the_slowest_and_no_waiting() -> None:
    speed: float | None = 0.1
    for expected in SPEEDS[1:]:
        speed = next_speed(speed, 1)
        assert speed == expected
    assert next_speed(None, 1) is None
    assert next_speed(None, -1) == 1000.0
    assert next_speed(0.1, -1) == 0.1
    assert next_speed(7.0, 1) == 10.0


@pytest.mark.parametrize(
    ("typed", "fraction", "moment"),
    [("40%", 0.4, None), ("250%", 1.0, None),
     ("13:58", None, AFTERNOON.replace(hour=13, minute=58, second=0)),
     ("13:58:20", None, AFTERNOON.replace(hour=13, minute=58, second=20)),
     ("2026-02-02 10:00", None, AFTERNOON.replace(day=2, hour=10, minute=0, second=0))],
)  # fmt: skip
def test_places_are_read(typed: str, fraction: float | None, moment: Any) -> None:
    assert read_place(typed, AFTERNOON) == (fraction, moment)


@pytest.mark.parametrize("typed", ["", "x", "%", "25:00", "1:2:3:4", "2026-99-01"])
def test_places_that_are_none_are_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_place(typed, AFTERNOON)

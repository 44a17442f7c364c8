"""What keys do, what stays where it is, and what a frame costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
from stills import AFTERNOON, StillEngine, drawn, empty_view, replayed, simulated, until
from textual.pilot import Pilot

from bcs_tui import terminal
from bcs_tui.app import BcsApp
from bcs_tui.screens.batch import BatchScreen
from bcs_tui.screens.essay import EssayScreen
from bcs_tui.screens.events import EventsScreen
from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.screens.help import HelpScreen
from bcs_tui.screens.letters import LettersScreen
from bcs_tui.screens.page import Page
from bcs_tui.screens.replaying import read_place
from bcs_tui.theme import THEMES
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.replay_bar import SPEEDS, next_speed
from engine import BatchRow, BatchSummary, Engine, Mode, StepCounts


def step(name: str, completed: int, failed: int = 0, total: int = 10, **more: Any) -> StepCounts:
    pending = total - completed - failed
    parts = {"phase_status": None, "running": False, "started_at": None, "ended_at": None, **more}
    return StepCounts(name, completed, failed, 0, pending, total, **parts)


def row(batch_id: str, status: str = "processing", failed: int = 0, **more: Any) -> BatchRow:
    steps = (step("spellcheck", 10), step("nlp", 4, failed, running=status == "processing"))
    summary = BatchSummary(
        batch_id, status, "nlp", 10, 10, 10, steps, "teacher", AFTERNOON, AFTERNOON, 10, 0, ""
    )
    return BatchRow(summary, **more)


def fleet(*rows: BatchRow) -> StillEngine:
    engine = StillEngine(empty_view())
    put(engine, *rows)
    return engine


def put(engine: StillEngine, *rows: BatchRow) -> None:
    """Show rows that are new or different."""
    batches = {**engine.view.batches, **{r.summary.batch_id: r for r in rows}}
    changed = frozenset(r.summary.batch_id for r in rows)
    engine.change(batches=batches, changed=changed)


@asynccontextmanager
async def running(
    engine: StillEngine, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[BcsApp, Pilot[None]]]:
    app = BcsApp(cast(Engine, engine), "test")
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await drawn(app)
        yield app, pilot


def lines(app: BcsApp) -> list[str]:
    """Return what is on the screen."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


def text(app: BcsApp) -> str:
    return "\n".join(lines(app))


def page(app: BcsApp, kind: type[Page]) -> Any:
    assert isinstance(app.screen, kind)
    return app.screen


# --- going about ---------------------------------------------------------------------------


async def test_enter_goes_down_and_escape_comes_back_but_never_quits() -> None:
    async with running(await replayed("one_batch", 0.75)) as (app, pilot):
        await pilot.press("enter")
        page(app, BatchScreen)
        await pilot.press("enter")
        page(app, EssayScreen)
        await pilot.press("escape")
        page(app, BatchScreen)
        await pilot.press("escape", "escape", "escape")
        page(app, FleetScreen)
        assert app.is_running


async def test_q_goes_back_and_quits_from_a_first_page() -> None:
    async with running(await replayed("one_batch", 0.75)) as (app, pilot):
        await pilot.press("enter", "q")
        page(app, FleetScreen)
        await pilot.press("q")
    assert app.return_code == 0


@pytest.mark.parametrize(
    ("key", "kind"), [("1", FleetScreen), ("2", EventsScreen), ("3", LettersScreen)]
)
async def test_digits_go_to_first_pages(key: str, kind: type[Page]) -> None:
    async with running(await replayed("bad_lines", 1.0)) as (app, pilot):
        await pilot.press(key)
        page(app, kind)


async def test_control_c_says_how_to_quit_and_quits_the_second_time() -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert "q quits" in text(app)
        await pilot.press("ctrl+c")
    assert app.return_code == 130


@pytest.mark.parametrize("key", ["question_mark", "f1"])
async def test_help_lists_the_keys_of_the_page(key: str) -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        await pilot.press(key)
        assert isinstance(app.screen, HelpScreen)
        await pilot.pause()
        assert "open the batch" in text(app)
        await pilot.press("escape")
        page(app, FleetScreen)


@pytest.mark.parametrize(
    ("command", "kind"),
    [("events", EventsScreen), ("batch b2", BatchScreen), ("let", LettersScreen)],
)
async def test_commands(command: str, kind: type[Page]) -> None:
    engine = await simulated()
    engine.change(batches={"b1": row("b1"), "b2": row("b2")})
    async with running(engine) as (app, pilot):
        await pilot.press("colon", *command.replace(" ", "␣").replace("␣", " "), "enter")
        await pilot.pause()
        page(app, kind)


@pytest.mark.parametrize(
    ("command", "answer"),
    [("nonsense", "no command 'nonsense'"), ("batch zz", "no batch matches 'zz'"),
     ("batch b", "2 batches match"), ("sort x", "sort by one of"), ("theme x", "themes: dark"),
     ("speed 3", "only a replay"), ("goto 13:00", "only a replay")],
)  # fmt: skip
async def test_commands_that_cannot_be_done_say_why(command: str, answer: str) -> None:
    async with running(fleet(row("b1"), row("b2")), (160, 50)) as (app, pilot):
        await pilot.press("colon", *command, "enter")
        await pilot.pause()
        assert answer in lines(app)[-1]


async def test_the_palette_finds_batches_and_takes_their_ids_as_text() -> None:
    async with running(fleet(row("b[red]1"), row("other"))) as (app, pilot):
        await pilot.press("ctrl+p", *"b[red")
        await until(lambda: "b[red]1" in text(app).split("🔎")[-1])
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, BatchScreen))
        assert page(app, BatchScreen).batch_id == "b[red]1"


async def test_the_theme_changes_between_dark_and_light() -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        assert app.theme == "bcs-dark"
        await pilot.press("T")
        assert app.theme == "bcs-light"
        await pilot.press("colon", *"theme dark", "enter")
        await pilot.pause()
        assert app.theme == "bcs-dark"


@pytest.mark.parametrize("theme", ["textual-light", "nord", "ansi-dark"])
async def test_other_themes_can_be_used(theme: str) -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        app.theme = theme
        await pilot.pause()
        assert "b1" in text(app)


async def test_copying_says_so() -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        await pilot.press("y")
        await pilot.pause()
        assert app.clipboard == "b1"
        assert "copied b1" in lines(app)[-1]


# --- the fleet -----------------------------------------------------------------------------


def ids(app: BcsApp) -> list[str]:
    rows = page(app, FleetScreen).rows
    return [rows.key(index) for index in range(len(rows))]


async def test_the_worst_come_first() -> None:
    stalled = row("stalled", stalled_since=AFTERNOON - timedelta(minutes=9))
    good = row("done", "completed_successfully")
    engine = fleet(
        good, row("ready", "ready"), row("fine"), row("some", failed=2), row("many", failed=3),
        row("failed", "failed"), stalled,
    )  # fmt: skip
    async with running(engine) as (app, pilot):
        assert ids(app) == ["stalled", "failed", "many", "some", "fine", "ready", "done"]
        assert "stalled 9m" in text(app)
        assert pilot is not None


async def test_the_cursor_follows_its_batch_through_every_sorting() -> None:
    engine = fleet(*(row(f"b{number}") for number in range(5)))
    async with running(engine) as (app, pilot):
        await pilot.press("j", "j")
        fleet_page = page(app, FleetScreen)
        assert fleet_page.table.key == "b2"
        put(engine, row("b4", failed=3))
        await until(lambda: engine.view is fleet_page.view)
        fleet_page.second()
        assert ids(app)[0] == "b4"
        assert fleet_page.table.key == "b2"
        assert fleet_page.table.cursor == 3
        await pilot.press("S")
        assert fleet_page.table.key == "b2"


async def test_a_replay_that_goes_back_takes_batches_away() -> None:
    engine = fleet(row("b1"), row("b2"))
    async with running(engine) as (app, pilot):
        await pilot.press("G")
        engine.change(batches={"b1": engine.view.batches["b1"]}, changed=frozenset())
        await until(lambda: ids(app) == ["b1"])
        await pilot.pause()
        assert "b2" not in text(app)
        assert page(app, FleetScreen).table.key == "b1"
        assert "1 batch " in text(app)


@pytest.mark.parametrize(
    ("typed", "left"),
    [("state:failed", ["bad"]), ("!state:failed", ["good", "late"]),
     ("state:failed,done", ["bad", "good"]), ("LAT", ["late"]),
     ("owner:teach !bad", ["good", "late"]), ("step:nlp", ["late"]),
     ("pipeline:nlp -goo", ["bad", "late"]), ("nothing", []), ("a:b", [])],
)  # fmt: skip
async def test_the_filter(typed: str, left: list[str]) -> None:
    engine = fleet(row("bad", "failed"), row("good", "completed_successfully"), row("late"))
    async with running(engine) as (app, pilot):
        await pilot.press("slash", *typed, "enter")
        await pilot.pause()
        assert sorted(ids(app)) == left
        assert typed.lower() in text(app).lower()
        await pilot.press("escape")
        assert len(ids(app)) == 3


async def test_keys_are_letters_while_typing() -> None:
    async with running(fleet(row("b1"), row("b2"))) as (app, pilot):
        await pilot.press("slash", *"qsSyT123?")
        assert page(app, FleetScreen).rows.filter.text == "qsSyT123?"
        assert app.theme == "bcs-dark"


async def test_sorting_goes_round_the_orders() -> None:
    async with running(fleet(row("b2"), row("b1", failed=1))) as (app, pilot):
        assert ids(app) == ["b1", "b2"]
        await pilot.press("s", "S")
        assert ids(app) == ["b2", "b1"]
        assert "id, reversed" in text(app)
        await pilot.press("colon", *"sort fail", "enter")
        await pilot.pause()
        assert ids(app) == ["b1", "b2"]


async def test_totals_without_a_registration_are_lower_bounds() -> None:
    unregistered = row("b1")
    summary = msgspec.structs.replace(unregistered.summary, expected=None)
    async with running(fleet(BatchRow(summary))) as (app, _pilot):
        assert "≥10" in text(app)


async def test_a_frame_draws_only_the_rows_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fleet(*(row(f"b{number:05}") for number in range(10_000)))
    async with running(engine, (120, 40)) as (app, _pilot):
        table = page(app, FleetScreen).table
        painted: list[int] = []
        paint = table.rows.paint

        def count(index: int, width: int) -> Any:
            painted.append(index)
            return paint(index, width)

        monkeypatch.setattr(table.rows, "paint", count)
        put(engine, row("b00003"), row("b09000"))
        await until(lambda: bool(painted))
        assert painted == [3]


async def test_nothing_is_drawn_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(await simulated(), (160, 50)) as (app, pilot):
        refreshed: list[Block] = []
        await pilot.pause()
        for block in app.screen.query(Block):
            monkeypatch.setattr(block, "refresh", lambda *_args, b=block: refreshed.append(b))
        for _ in range(3):
            app._second()
        assert refreshed == []


@pytest.mark.parametrize(
    "size", [(200, 60), (120, 40), (80, 24), (60, 15), (40, 10), (20, 5), (3, 2), (1, 1)]
)
@pytest.mark.parametrize("keys", ["", "enter", "enter enter", "2", "3", "question_mark"])
async def test_no_size_is_too_small(size: tuple[int, int], keys: str) -> None:
    async with running(await replayed("one_batch", 0.75), size) as (app, pilot):
        await pilot.press(*keys.split())
        await drawn(app)
        await pilot.pause()
        assert len(lines(app)) == size[1]
        assert all(strip.cell_length == size[0] for strip in app.screen._compositor.render_strips())


async def test_a_storm_of_sizes_is_survived() -> None:
    async with running(await replayed("one_batch", 0.75)) as (app, pilot):
        await pilot.press("enter")
        for size in ((1, 1), (300, 100), (2, 50), (100, 1), (80, 24)):
            await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "spellcheck" in text(app)


# --- a batch and its essays ----------------------------------------------------------------


async def test_the_grid_shows_every_essay_worst_first_and_the_cursor_names_it() -> None:
    async with running(await replayed("one_batch", 0.75)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        grid = page(app, BatchScreen).essays
        assert len(grid.order) == 6
        assert list(grid.outcomes().values()).count(1) == 1
        first = grid.essay_id
        assert f"{first}   1 of 6" in text(app)
        await pilot.press("l")
        await pilot.pause()
        assert grid.essay_id != first
        assert "2 of 6" in text(app)
        await pilot.press("slash", *first[:8], "enter")
        await pilot.pause()
        assert grid.essay_id == first


async def test_the_grid_keeps_up_with_essays_that_change_in_place() -> None:
    engine = await replayed("one_batch", 0.75)
    async with running(engine) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        batch = page(app, BatchScreen)
        await pilot.press("G")
        essay_id, grid = batch.essays.essay_id, engine.view.grid
        assert grid is not None
        before = text(app)
        grid.outcomes["spellcheck"][grid.index[essay_id]] = 1
        grid.version += 1
        batch.second()
        await pilot.pause()
        assert text(app) != before
        assert batch.essays.essay_id == essay_id
        assert batch.essays.cursor < 5


async def test_a_phase_that_says_more_than_its_essays_is_shown_as_such() -> None:
    async with running(await replayed("one_batch", 0.75), (160, 50)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        await pilot.pause()
        assert "completed !" in text(app)
        assert "but 5 of 6 essays did" in text(app)


async def test_an_essay_shows_its_error_and_metadata() -> None:
    async with running(await replayed("one_batch", 0.75), (120, 60)) as (app, pilot):
        await pilot.press("enter", "enter")
        await drawn(app)
        await pilot.pause()
        shown = text(app)
        assert "error.error_message" in shown
        assert "Content not found" in shown
        assert shown.index("error_message") < shown.index("word_count")


# --- events --------------------------------------------------------------------------------


async def test_events_follow_the_newest_until_the_cursor_leaves_it() -> None:
    async with running(await replayed("busy_day", 0.3)) as (app, pilot):
        await pilot.press("2")
        await drawn(app)
        events = page(app, EventsScreen)
        assert events.follows
        assert events.table.cursor == len(events.rows) - 1
        await pilot.press("k")
        assert not events.follows
        await pilot.press("G")
        assert events.follows


async def test_duplicates_ignored_events_and_dead_letters_are_shown_with_their_reason() -> None:
    async with running(await replayed("bad_lines", 1.0), (140, 50)) as (app, pilot):
        await pilot.press("2", "slash", *"fate:dead", "enter")
        await drawn(app)
        await pilot.pause()
        shown = text(app)
        assert "dead letter" in shown
        assert "not_utf8: invalid UTF-8" in shown
        await pilot.press("3")
        await drawn(app)
        await pilot.pause()
        assert "line 60" in text(app)


# --- replay --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "calls"),
    [("space", [("pause", False)]), ("p p", [("pause", False), ("pause", True)]),
     ("full_stop", [("step", 1)]), ("less_than_sign", [("speed", 30.0)]),
     ("greater_than_sign greater_than_sign", [("speed", 120.0), ("speed", 300.0)]),
     ("L", [("seek", {"fraction": 1.0})]), ("o", [("loop", True)]),
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


# --- trouble -------------------------------------------------------------------------------


async def test_nothing_yet_says_what_is_waited_for() -> None:
    async with running(StillEngine(empty_view())) as (app, _pilot):
        assert "No batch yet" in text(app)
        assert "events.jsonl" in text(app)


async def test_trouble_is_on_every_page() -> None:
    engine = StillEngine(empty_view(mode=Mode.FAILED, trouble="disk full: /data; make room"))
    async with running(engine) as (app, pilot):
        for key in "123":
            await pilot.press(key)
            await pilot.pause()
            assert "disk full: /data; make room" in text(app)
            assert "FAILED" in lines(app)[0]


async def test_keys_work_when_batches_appear_after_an_empty_start() -> None:
    engine = StillEngine(empty_view())
    async with running(engine) as (app, pilot):
        put(engine, row("b1"), row("b2"))
        await until(lambda: len(ids(app)) == 2)
        await pilot.press("j")
        assert page(app, FleetScreen).table.key == "b2"


async def test_an_engine_that_fails_leaves_the_dashboard_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from engine import FeedUnavailable

    class Failing(StillEngine):
        async def run(self) -> None:
            raise FeedUnavailable("gone")

    async with running(Failing(empty_view())) as (app, _pilot):
        await asyncio.sleep(0)
        assert app.is_running
    assert "gone" in caplog.text


# --- the terminal --------------------------------------------------------------------------


def test_the_queue_of_textuals_writer_is_where_the_guard_looks() -> None:
    import io

    from textual.drivers import linux_driver
    from textual.drivers._writer_thread import WriterThread

    thread = WriterThread(io.StringIO())
    thread.write("frame")
    driver = type("Driver", (), {"_writer_thread": thread})()
    app = type("App", (), {"_driver": driver})()
    assert terminal.backlog(cast(Any, app)) == 1
    assert "_writer_thread" in linux_driver.LinuxDriver.__init__.__code__.co_names


async def test_frames_are_held_back_while_the_terminal_is_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = [0]
    monkeypatch.setattr(terminal, "backlog", lambda _app: waiting[0])
    monkeypatch.setattr(terminal, "BEHIND_SECONDS", 0.0)
    engine = fleet(row("b1"))
    async with running(engine) as (app, pilot):
        waiting[0] = 3
        shown = page(app, FleetScreen).view
        put(engine, row("b2"))
        app._second()
        await pilot.pause()
        assert page(app, FleetScreen).view is shown
        waiting[0] = 0
        await until(lambda: page(app, FleetScreen).view is engine.view)
        await pilot.pause()
        assert "rendering behind" in text(app)


@pytest.mark.parametrize(("remote", "pace"), [("", 30.0), ("10.0.0.1 22", 10.0)])
async def test_the_pace_depends_on_where_the_terminal_is(
    monkeypatch: pytest.MonkeyPatch, remote: str, pace: float
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", remote)
    async with running(fleet(row("b1"))) as (app, _pilot):
        assert terminal.frames_per_second(app) == pace
        app.app_focus = False
        assert terminal.frames_per_second(app) == 2.0


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_ink_that_means_something_is_readable_on_every_ground(theme: Any) -> None:
    ink = {name: theme.variables[f"ink-{name}"] for name in ("strong", "muted")}
    inks = [
        theme.foreground,
        *ink.values(),
        theme.primary,
        theme.success,
        theme.warning,
        theme.error,
    ]
    grounds = [theme.background, theme.surface, theme.panel, theme.variables["cursor"]]
    grounds.append(theme.variables["cursor-idle"])
    assert min(contrast(text, ground) for text in inks for ground in grounds) >= 4.5
    quiet = theme.variables["ink-quiet"]
    assert min(contrast(quiet, ground) for ground in grounds[:2]) >= 4.5
    for text, ground in (("success", "ink-live"), ("warning", "ink-hold"), ("error", "ink-alert")):
        assert contrast(getattr(theme, text), theme.variables[ground]) >= 4.5


async def test_without_colours_everything_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    engine = fleet(row("bad", "failed"), row("good", "completed_successfully"))
    async with running(engine) as (app, _pilot):
        strips = app.screen._compositor.render_strips()
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        assert {style.color.name for style in styles if style.color} == {"default"}
        assert any(style.reverse for style in styles)
        assert "✗ bad" in text(app)
        assert "✓ good" in text(app)

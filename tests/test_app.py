"""Where keys lead, commands, themes, and what is said when something is wrong."""

from __future__ import annotations

import asyncio

import pytest
from pages import fleet, ids, lines, page, put, row, running, text
from rich.cells import cell_len
from stills import StillEngine, empty_view, replayed, simulated, until
from textual.events import Key
from textual.keys import _character_to_key
from textual.widgets import Input

from bcs_tui.screens.batch import BatchScreen
from bcs_tui.screens.essay import EssayScreen
from bcs_tui.screens.events import EventsScreen
from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.screens.help import EVERYWHERE, MOVING, REPLAY, STATES, HelpScreen, help_lines
from bcs_tui.screens.letters import LettersScreen
from bcs_tui.screens.page import Page
from engine import Mode


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


async def test_minus_goes_to_the_page_before_and_forth_again() -> None:
    async with running(await replayed("one_batch", 0.75)) as (app, pilot):
        await pilot.press("minus")
        assert "no other page was shown yet" in lines(app)[-1]
        await pilot.press("enter", "2")
        page(app, EventsScreen)
        await pilot.press("minus")
        page(app, BatchScreen)
        await pilot.press("minus")
        page(app, EventsScreen)
        await pilot.press("colon", *"letters", "enter", "minus")
        await pilot.pause()
        page(app, EventsScreen)


async def test_control_c_says_how_to_quit_and_quits_the_second_time() -> None:
    async with running(fleet(row("b1"))) as (app, pilot):
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert "q quits" in text(app)
        await pilot.press("ctrl+c")
    assert app.return_code == 130


@pytest.mark.parametrize("width", [48, 59, 79, 83])
def test_nothing_of_the_help_is_cut(width: int) -> None:
    keys = (*FleetScreen.KEYS, *BatchScreen.KEYS)
    shown = ["".join(part for part, _ in line) for line in help_lines("Both", keys, width)]
    assert max(map(cell_len, shown)) <= width
    told = " ".join(line[23:].strip() for line in shown)
    for _, words in (*keys, *MOVING, *EVERYWHERE, *REPLAY, *STATES):
        assert " ".join(words.split()) in " ".join(told.split())


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


async def test_what_is_typed_in_one_breath_is_a_command_and_no_keys_of_the_page() -> None:
    async with running(fleet(row("b1"), row("b2"))) as (app, pilot):
        for key in (":", *"?qa/t:"):
            app.post_message(Key(_character_to_key(key), key))
        await pilot.pause()
        assert page(app, FleetScreen).prompt.query_one(Input).value == "?qa/t:"


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


async def test_what_an_account_could_do_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcs_tui.app._HINT_SECONDS", 0.05)
    hints = ("the Redis account could write", "the PostgreSQL account could write")
    engine = StillEngine(empty_view(mode=Mode.LIVE, read_only=True, hints=hints))
    async with running(engine) as (app, _):
        said = "the Redis account could write; the PostgreSQL account could write"
        await until(lambda: app._hints_said == list(hints))
        await until(lambda: said not in text(app))
        for _ in range(2):
            app._second()
            await asyncio.sleep(0)
        assert said not in text(app)
    monkeypatch.setattr("bcs_tui.app._HINT_SECONDS", 60)
    async with running(engine) as (app, _):
        await until(lambda: said in text(app))
        assert "READ-ONLY" in text(app) or " RO " in text(app)


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

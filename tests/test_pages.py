"""What the pages show, what stays where it is, and what a frame costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from pages import fleet, ids, lines, page, put, row, running, step, text
from rich.cells import cell_len
from stills import AFTERNOON, drawn, replayed, simulated, until

from bcs_tui.format import CRUMB, Glyph
from bcs_tui.screens.batch import BatchScreen
from bcs_tui.screens.essay import essay_lines
from bcs_tui.screens.events import EventsScreen
from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.widgets import phase_strip
from bcs_tui.widgets.bars import progress
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.ink import width_of
from engine import BatchRow, DeadLetter, EssayState, StepCounts
from engine.models import BEGINNING, RegistrationFact, StepFact


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


@pytest.mark.slow
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


@pytest.mark.parametrize(("width", "lines_of_why"), [(160, 1), (80, 2), (60, 3)])
async def test_a_doubt_is_told_in_full(width: int, lines_of_why: int) -> None:
    doubt = "others have written essays of it; 2 essays cannot be read"
    doubtful = row("b1", failed=2)
    summary = msgspec.structs.replace(doubtful.summary, doubt=doubt)
    engine = fleet(msgspec.structs.replace(doubtful, summary=summary))
    await engine._repository.record([RegistrationFact("b1", 10, ("e1",), AFTERNOON)])
    async with running(engine, (width, 24)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        await pilot.pause()
        assert doubt in " ".join(text(app).split())
        assert page(app, BatchScreen).why.size.height == lines_of_why


@pytest.mark.parametrize("size", [(60, 15), (40, 10), (30, 8), (20, 5), (20, 3), (20, 2)])
@pytest.mark.parametrize("trouble", ["", "the backend is away; it is tried again"])
async def test_a_row_of_the_fleet_is_shown_at_any_size(size: tuple[int, int], trouble: str) -> None:
    engine = await replayed("one_batch", 0.75)
    if size[1] > 3:
        engine.change(health=msgspec.structs.replace(engine.view.health, trouble=trouble))
    async with running(engine, size) as (app, pilot):
        await pilot.pause()
        shown = lines(app)
        assert "PAUSED" in shown[0]
        batch_id = ids(app)[0]
        assert any(line.startswith(f" ▴ {batch_id[:5]}") and "%" in line for line in shown[1:])
        assert (" ! the backend" in text(app)) == bool(trouble and size[1] > 3)
        if size[1] > 3:
            assert any(line.startswith(" Fleet  1 batch") for line in shown)


async def test_a_storm_of_sizes_is_survived() -> None:
    async with running(await replayed("one_batch", 0.75)) as (app, pilot):
        await pilot.press("enter")
        for size in ((1, 1), (300, 100), (2, 50), (100, 1), (80, 24)):
            await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "spellcheck" in text(app)


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


async def test_what_cannot_be_read_is_unknown_and_not_pending() -> None:
    engine = await replayed("one_batch", 0.75)
    async with running(engine, (160, 50)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        grid = engine.view.grid
        assert grid is not None
        hidden = set(grid.essay_ids[:2])
        assert "unknown" not in text(app)
        grid.unreadable = hidden
        grid.version += 1
        page(app, BatchScreen).update_view(engine.view, None)
        page(app, BatchScreen).second()
        await pilot.pause()
        assert "unknown (2 unreadable)" in text(app)
        listed = [line for line in lines(app) if any(essay_id in line for essay_id in hidden)]
        assert len(listed) >= 2
        assert all("unknown" in line and "pending" not in line for line in listed)


async def test_what_cannot_be_read_is_looked_up_once_for_a_change_and_not_for_every_line() -> None:
    class Counted(dict[str, int]):
        asked = 0

        def __getitem__(self, key: str) -> int:
            Counted.asked += 1
            return super().__getitem__(key)

    engine = await replayed("one_batch", 0.75)
    async with running(engine, (160, 50)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        grid, essays = engine.view.grid, page(app, BatchScreen).essays
        assert grid is not None
        grid.unreadable = set(grid.essay_ids)
        grid.version += 1
        grid.index = Counted(grid.index)
        for _ in range(3):
            essays.take(grid, essays.steps)
            essays.render_line(1)
        assert Counted.asked == len(grid.essay_ids)


async def test_what_is_unknown_is_counted_apart_from_what_is_pending() -> None:
    blind = row("b1")
    steps = (step("spellcheck", 7, unknown=1), step("nlp", 4, 1, unknown=5))
    blind = msgspec.structs.replace(
        blind, summary=msgspec.structs.replace(blind.summary, steps=steps)
    )
    engine = fleet(blind)
    await engine._repository.record([RegistrationFact("b1", 10, ("e1",), AFTERNOON)])
    async with running(engine, (200, 60)) as (app, pilot):
        assert "?" in next(line for line in lines(app) if "b1" in line)
        assert "5 unknown" in text(app)
        assert "5 pending" not in text(app)
        await pilot.press("enter")
        await drawn(app)
        await pilot.pause()
        shown = lines(app)
        place = next(at for at, line in enumerate(shown) if "UNKN" in line)
        told = [line.split()[2:7] for line in shown[place + 1 : place + 3]]
        assert told == [["7", "0", "1", "0", "2"], ["4", "1", "5", "0", "0"]]
    put(engine, row("b1"))
    async with running(engine, (200, 60)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        assert "UNKN" not in text(app)


@pytest.mark.parametrize("width", range(1, 12))
def test_a_bar_hides_nothing_that_is_unknown(width: int) -> None:
    bar = progress(step("nlp", 97, total=100, unknown=1), width)
    shown = "".join(text for text, _ in bar)
    assert len(shown) == width
    assert "?" in shown or width < 2
    assert "?" not in "".join(text for text, _ in progress(step("nlp", 97, total=100), width))


def test_an_essay_that_cannot_be_read_says_so() -> None:
    essay = EssayState("e1", BEGINNING, {}, trouble="not UTF-8")
    step = StepCounts("nlp", 0, 0, 0, 1, 1, None, False, None, None)
    drawn = essay_lines("b1", essay, [step], datetime(2026, 3, 2, tzinfo=UTC), Glyph(), 100)
    shown = "\n".join("".join(part for part, _ in line) for line in drawn)
    assert "unknown" in shown
    assert "pending" not in shown
    assert "not UTF-8" in shown
    assert "1-01-01" not in shown


@pytest.mark.parametrize("width", [20, 40, 59, 69, 70, 120])
def test_nothing_of_an_essay_is_cut(width: int) -> None:
    name = "a_step_with_quite_a_long_name_" * 3
    fact = StepFact("b1", "e1", name, 1, AFTERNOON, "6410d57e-0d60-470d-ab80-d58a106baf9b", 2)
    fact = msgspec.structs.replace(fact, metadata='{"a":{"key_that_is_far_too_long":{"b":7}}}')
    essay = EssayState("漢字" * 30, AFTERNOON, {name: fact}, "a file " * 20)
    pending = StepCounts("z" * 90, 0, 0, 0, 1, 1, None, False, None, None)
    drawn = essay_lines("b1" * 40, essay, [pending], AFTERNOON, Glyph(), width)
    shown = ["".join(part for part, _ in line) for line in drawn]
    assert [line for line in shown if cell_len(line) > max(width, 56)] == []
    told = "".join(line.removeprefix(" " * 31).strip() for line in shown)
    for part in (
        "b1" * 40,
        "漢字" * 30,
        name,
        "z" * 90,
        fact.event_id,
        "a.key_that_is_far_too_long.b7",
        "rich result",
    ):
        assert part in told, part


async def test_the_list_numbers_its_rows_anew_when_their_order_changes() -> None:
    engine = await replayed("one_batch", 0.75)
    async with running(engine, (160, 50)) as (app, pilot):
        await pilot.press("enter")
        await drawn(app)
        batch, grid = page(app, BatchScreen), engine.view.grid
        assert grid is not None
        last = batch.essays.order[-1]
        grid.outcomes["spellcheck"][last] = grid.outcomes["nlp"][last] = 1  # now the worst
        grid.version += 1
        batch.second()
        await pilot.pause()
        assert batch.essays.order[0] == last
        words = [line.split() for line in lines(app)]
        listed = [line[0] for line in words if len(line) > 2 and line[1] in grid.index]
        assert listed == ["1", "2", "3", "4", "5", "6"]


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


@pytest.mark.parametrize("width", [60, 65, 66, 75, 76, 80, 99, 100, 120, 160])
def test_no_count_and_no_word_of_a_phase_is_cut(width: int) -> None:
    steps = [
        step("cj_assessment", 999_999, phase_status="completed_successfully", total=1_000_000),
        step("cj_assessment", 9, 1, phase_status="completed_with_failures"),
        step("cj_assessment", 9, 1, running=True, started_at=AFTERNOON),
    ]
    for one in steps:
        line = phase_strip.counts(one, AFTERNOON, Glyph(), width)
        shown = "".join(part for part, _ in line)
        assert "…" not in shown
        assert width_of(line) <= width
        heading = "".join(part for part, _ in phase_strip.heading(width))
        assert heading.index("FAIL") + 4 == shown.index(f" {one.failed} ", 20) + 2


async def test_an_essay_shows_its_error_and_metadata() -> None:
    async with running(await replayed("one_batch", 0.75), (120, 60)) as (app, pilot):
        await pilot.press("enter", "enter")
        await drawn(app)
        await pilot.pause()
        shown = text(app)
        assert "error.error_message" in shown
        assert "Content not found" in shown
        assert shown.index("error_message") < shown.index("word_count")


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


@pytest.mark.parametrize("width", [60, 80, 120, 160])
async def test_events_stand_below_their_headings_and_tell_ids_in_full_where_they_fit(
    width: int,
) -> None:
    async with running(await replayed("one_batch", 0.75), (width, 24)) as (app, pilot):
        await pilot.press("2")
        await drawn(app)
        await pilot.pause()
        shown = lines(app)
        heading = next(line for line in shown if "BATCH" in line)
        event = next(line for line in shown if "nlp completed" in line)
        assert event.index("nlp completed") == heading.index("WHAT")
        (batch_id,) = page(app, EventsScreen).context.engine.view.batches
        assert (batch_id in event) == (width == 160)


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
        assert " the source ends in the middle of a line " in text(app)


async def test_a_result_that_names_no_batch_is_found_by_that_of_its_essay() -> None:
    async with running(await replayed("one_batch", 0.75), (140, 50)) as (app, pilot):
        batch_id = ids(app)[0]
        await pilot.press("2", "slash", *f"batch:{batch_id[:8]} type:nlp step:nlp", "enter")
        await drawn(app)
        await pilot.pause()
        shown = [line for line in lines(app) if "nlp completed" in line]
        assert shown
        assert f" {batch_id}{CRUMB}" in text(app)
        assert all(batch_id[:12] in line for line in shown)


async def test_dead_letters_that_may_not_be_read_are_not_said_to_be_none() -> None:
    engine = fleet(row("b1"))
    async with running(engine) as (app, pilot):
        engine.refuse_letters = "PostgreSQL at x does not permit this"
        await pilot.press("3")
        await until(lambda: "PostgreSQL at x does not permit this" in text(app))
        assert "No dead letter" not in text(app)


async def test_an_observer_shows_dead_letters_above_and_reads_them_when_their_count_moves() -> None:
    engine = await replayed("bad_lines", 1.0)
    health = msgspec.structs.replace(
        engine.view.health, read_only=True, dead_letters=0, letters_unknown="not permitted",
        newest_at=engine.view.now - timedelta(seconds=75),
    )  # fmt: skip
    engine.change(health=health, replay=None)
    async with running(engine, (120, 40)) as (app, pilot):
        assert "dead not permitted" in lines(app)[0]
        assert "newest event 1m15 old" in lines(app)[0]
        await pilot.press("3")
        await drawn(app)
        read = 0
        kept = engine.dead_letters

        async def counted(after: int = 0, limit: int = 1000) -> list[DeadLetter]:
            nonlocal read
            read += not after
            return await kept(after, limit)

        engine.dead_letters = counted  # type: ignore[method-assign]
        moved = msgspec.structs.replace(health, dead_letters=17, letters_unknown="")
        engine.change(health=moved)
        await until(lambda: "dead 17 !" in lines(app)[0])
        await until(lambda: (app._second(), read == 1)[1])
        await pilot.press("1", "3")  # what was not counted may have come meanwhile
        await until(lambda: read == 2)


async def test_dead_letters_that_nobody_counted_are_not_said_to_be_none() -> None:
    engine = fleet(row("b1"))
    engine.change(
        health=msgspec.structs.replace(
            engine.view.health, read_only=True, letters_unknown="not permitted"
        )
    )
    engine.refuse_letters = "PostgreSQL at x does not permit this"
    async with running(engine) as (app, pilot):
        await pilot.press("3")
        await until(lambda: "Dead letters  not permitted" in text(app))


async def test_an_observer_is_not_said_to_have_seen_no_event_yet() -> None:
    engine = fleet(row("b1", failed=1))
    engine.change(health=msgspec.structs.replace(engine.view.health, read_only=True))
    async with running(engine) as (app, pilot):
        assert "1 problem " in text(app)
        await pilot.press("2")
        await until(lambda: "An observer sees how batches stand" in text(app))
        assert "No event yet" not in text(app)


async def test_counts_in_doubt_are_counted_above_and_explained_on_their_page() -> None:
    doubtful = row("b1")
    doubtful = msgspec.structs.replace(
        doubtful,
        summary=msgspec.structs.replace(
            doubtful.summary, doubt="somebody else wrote it", is_disputed=True
        ),
    )
    engine = fleet(doubtful, row("b2"))
    async with running(engine, (120, 40)) as (app, pilot):
        assert "audit" not in lines(app)[0]
        engine.change(
            health=msgspec.structs.replace(engine.view.health, disputes=1, read_only=True)
        )
        await until(lambda: "READ-ONLY" in lines(app)[0])
        assert "audit 1 !" in lines(app)[0]
        place = next(at for at, line in enumerate(lines(app)) if "BATCH" in line)
        assert [line[:5] for line in lines(app)[place + 1 : place + 3]] == ["≠▸ b1", " ▸ b2"]
        assert "a stored count contradicts the essays" in text(app)
        await pilot.press("slash", *"is:audit", "enter")
        assert "b2" not in text(app)
        await pilot.press("enter")
        await until(lambda: "audit (a): somebody else wrote it" in text(app))

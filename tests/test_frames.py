"""What the dashboard looks like, frame by frame; `--snapshot-update` accepts a new look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from frames import FrameExtension, frame
from stills import StillEngine, drawn, empty_view, replayed, simulated
from syrupy.assertion import SnapshotAssertion

from bcs_tui.app import BcsApp
from engine import Mode

Make = Callable[[], Awaitable[StillEngine]]


async def nothing() -> StillEngine:
    return StillEngine(empty_view())


async def broken() -> StillEngine:
    trouble = (
        "shared/events.jsonl: the file was removed while it was read (line 212); "
        "put it back or start again with another file"
    )
    return StillEngine(empty_view(mode=Mode.FAILED, read=212, applied=212, trouble=trouble))


async def one_batch() -> StillEngine:
    return await replayed("one_batch", 0.75)


async def busy_day() -> StillEngine:
    return await replayed("busy_day", 0.53)


async def bad_lines() -> StillEngine:
    return await replayed("bad_lines", 1.0)


FRAMES: dict[str, tuple[Make, str]] = {
    "fleet_dark_80x24": (simulated, ""),
    "fleet_dark_160x50": (simulated, ""),
    "fleet_light_120x40": (simulated, ""),
    "fleet_dark_60x15": (simulated, ""),
    "fleet_filter_dark_80x24": (simulated, "slash s t a t e : p r o"),
    "batch_dark_80x24": (one_batch, "enter right right down"),
    "batch_dark_160x50": (one_batch, "enter right right down"),
    "batch_light_160x50": (one_batch, "enter right right down"),
    "essay_dark_80x24": (one_batch, "enter enter"),
    "events_dark_160x50": (busy_day, "2"),
    "letters_dark_80x24": (bad_lines, "3"),
    "replay_paused_dark_80x24": (busy_day, ""),
    "empty_dark_80x24": (nothing, ""),
    "error_dark_80x24": (broken, ""),
    "error_light_80x24": (broken, ""),
    "help_dark_80x24": (simulated, "question_mark"),
}


@pytest.fixture
def frames(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(FrameExtension)


@pytest.mark.filterwarnings(r"ignore:\sCan not relate snapshot name")  # it is flat on purpose
@pytest.mark.parametrize("name", FRAMES)
async def test_frame(name: str, frames: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "FORCE_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("textual.widgets.Input._toggle_cursor", lambda _self: None)
    make, keys = FRAMES[name]
    theme, size = name.rsplit("_", 2)[1:]
    width, height = map(int, size.split("x"))
    app = BcsApp(await make(), "demo" if make is simulated else "replay")  # type: ignore[arg-type] # a still stands in
    async with app.run_test(size=(width, height)) as pilot:
        app.theme = f"bcs-{theme}"
        await pilot.pause()
        for key in keys.split():
            await pilot.press(key)
        await pilot.pause()
        await drawn(app)
        await pilot.pause()
        assert frame(app) == frames(name=name)

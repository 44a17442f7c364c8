"""What reaches the terminal: how often, and in which colours."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pages import fleet, page, put, row, running, text
from rich.style import Style
from stills import until

from bcs_tui import terminal
from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.theme import THEMES


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
    assert min(contrast(ink, ground) for ink in inks for ground in grounds) >= 4.5
    quiet = theme.variables["ink-quiet"]
    assert min(contrast(quiet, ground) for ground in grounds[:2]) >= 4.5
    for name, ground in (("success", "ink-live"), ("warning", "ink-hold"), ("error", "ink-alert")):
        assert contrast(getattr(theme, name), theme.variables[ground]) >= 4.5


async def test_without_colours_everything_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    engine = fleet(row("bad", "failed"), row("good", "completed_successfully"))
    async with running(engine) as (app, pilot):
        strips = app.screen._compositor.render_strips()
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        assert {style.color.name for style in styles if style.color} == {"default"}
        assert any(style.reverse for style in styles)
        assert not any(style.underline for style in styles)
        await pilot.press("slash")
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        marked = [
            part.text for strip in strips for part in strip if (part.style or Style()).underline
        ]
        assert "bad" in "".join(marked), "which row it is can be seen while the prompt is open"
        await pilot.press("escape")
        assert "✗ bad" in text(app)
        assert "✓ good" in text(app)

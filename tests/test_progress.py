"""The line of progress at a terminal, and what is said above it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bcs_tui.commands.plain import note_warnings
from bcs_tui.commands.progress import Metered, line, shown
from engine import Engine, SimulatorFeed
from engine.backends.mock import MockBatchStateRepository


class Unkept(MockBatchStateRepository):
    @property
    def is_provisional(self) -> bool:
        return True


async def test_notices_stand_above_the_line_when_they_happen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    notices: list[str] = []
    already: set[str] = set()
    seen = ""
    with shown(lambda: "120 events", lambda: notices, already):
        await asyncio.sleep(0)
        notices.append("stream reset")
        async with asyncio.timeout(20):
            while "stream reset" not in seen:
                await asyncio.sleep(0.01)
                seen += capsys.readouterr().err
    assert "120 events\x1b[K\r\x1b[Kbcs-tui: stream reset\n" in seen
    assert already == {"stream reset"}


async def test_a_logged_warning_is_a_line_without_credentials(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    note_warnings()
    note_warnings()
    try:
        with shown(lambda: "120 events"):
            await asyncio.sleep(0)
            logging.getLogger("engine").warning("lost redis://me:secret@host")
        logging.getLogger("engine").warning("lost again")
    finally:
        root.handlers = before
    said = capsys.readouterr().err
    assert "\r\x1b[Kbcs-tui: lost redis://***@host\n" in said
    assert said.endswith("\r\x1b[Kbcs-tui: lost again\n")
    assert said.count("lost") == 2


async def test_the_line_says_that_nothing_is_acknowledged() -> None:
    feed = Metered(SimulatorFeed(1))
    assert "PROVISIONAL" not in line(Engine(MockBatchStateRepository()), feed)
    assert "PROVISIONAL (nothing is acknowledged)" in line(Engine(Unkept()), feed)
    await feed.aclose()

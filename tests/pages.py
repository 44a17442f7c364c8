"""The dashboard on a still engine, hand-made rows to put in it, and what is on its screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from stills import AFTERNOON, StillEngine, drawn, empty_view
from textual.pilot import Pilot

from bcs_tui.app import BcsApp
from bcs_tui.screens.fleet import FleetScreen
from bcs_tui.screens.page import Page
from engine import BatchRow, BatchSummary, Engine, StepCounts


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


def ids(app: BcsApp) -> list[str]:
    rows = page(app, FleetScreen).rows
    return [rows.key(index) for index in range(len(rows))]

"""Going from failure to failure in a recording."""

from __future__ import annotations

import pytest
from envelopes import Tape, registered, spellchecked
from test_timeline import replaying

from engine.engine import Engine
from engine.feeds.port import CHUNK_SIZE

LENGTH = CHUNK_SIZE + 50
FAILURES = (3, 4, 20, CHUNK_SIZE, CHUNK_SIZE + 20)


def recording() -> list[bytes]:
    raws = [registered("b1", ["e1"], 1)]
    for place in range(1, LENGTH):
        status = "failed" if place + 1 in FAILURES else "completed"
        raws.append(spellchecked("b1", f"e{place}", status, seconds=place))
    raws[5] = b"no JSON"
    return raws


async def places(engine: Engine, *directions: int) -> list[int | None]:
    feed = engine._recorded().feed
    return [feed.index if await engine.seek_failure(way) else None for way in directions]


async def test_every_failure_is_gone_to_in_both_directions() -> None:
    async with replaying(Tape(recording())) as engine:
        forth = [1] * (len(FAILURES) + 1)
        assert await places(engine, *forth) == [*FAILURES, None]
        assert await places(engine, *[-1] * len(FAILURES)) == [*FAILURES[-2::-1], None]
        await engine.seek(index=LENGTH)
        assert await places(engine, -1) == [FAILURES[-1]]
        assert (await engine.repository.batch_record("b1")).counts["spellcheck"][1] == len(FAILURES)


@pytest.mark.parametrize("index", [0, 1])
async def test_before_the_first_event_nothing_failed(index: int) -> None:
    async with replaying(Tape(recording())) as engine:
        await engine.seek(index=index)
        assert await places(engine, -1) == [None]


async def test_a_replay_that_plays_stops_at_a_failure() -> None:
    async with replaying(Tape(recording(), paused=False)) as engine:
        assert await engine.seek_failure(1)
        assert engine._recorded().paused

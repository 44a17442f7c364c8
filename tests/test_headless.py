"""An engine that nobody looks at: the same account and the same batches, but nothing to show."""

from __future__ import annotations

from datetime import timedelta

import pytest
from envelopes import START, ListFeed, encode, spellchecked, vector

from engine.backends.mock import MockBatchStateRepository
from engine.clock import ManualClock
from engine.engine import Engine
from engine.view import Health


async def ended(raws: list[bytes], headless: bool) -> tuple[Health, int]:
    clock = ManualClock(START)
    repository = MockBatchStateRepository(clock)
    engine = Engine(repository, ListFeed(raws, 7), clock, headless=headless)
    await engine.run()
    return engine.health, engine.batch_count


async def test_the_account_is_the_same() -> None:
    raws = [*vector("comprehensive_batch"), spellchecked("b2", "e1"), encode({}), b"{"]
    health, batches = await ended(raws, headless=True)
    assert (health, batches) == await ended(raws, headless=False)
    assert batches == 2


async def test_what_was_there_before_counts_until_it_fades() -> None:
    clock = ManualClock(START)
    repository = MockBatchStateRepository(clock, ttl_days=1)
    await Engine(repository, clock=clock).submit(spellchecked("b1", "e1"))
    engine = Engine(repository, ListFeed([]), clock, headless=True)
    await engine.run()
    assert engine.batch_count == 1
    clock.advance(timedelta(days=2).total_seconds())
    await engine.submit(spellchecked("b2", "e1"))
    assert engine.batch_count == 1
    assert [record.batch_id for record in await repository.summaries()] == ["b2"]


async def test_there_is_nothing_to_show() -> None:
    engine = Engine(MockBatchStateRepository(), ListFeed([spellchecked("b1", "e1")]), headless=True)
    await engine.run()
    with pytest.raises(RuntimeError, match="no views"):
        _ = engine.view
    with pytest.raises(RuntimeError, match="no views"):
        await engine.open("b1")

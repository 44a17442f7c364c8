"""When the keys are looked through for batches whose counts are not proved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from stills import until

from engine.backends import redis_doubts
from engine.backends.redis_doubts import STEPS_AT_ONCE, Doubts


class Looks:
    """Answers every look in place of the server, and keeps their budgets."""

    def __init__(self, answer: Callable[[set[str], int | None], set[str] | None]) -> None:
        self.budgets: list[int | None] = []
        self._answer = answer

    async def verify(self, batch_ids: Iterable[str], budget_steps: int | None) -> set[str] | None:
        self.budgets.append(budget_steps)
        return self._answer(set(batch_ids), budget_steps)


def doubts_of(looks: Looks) -> Doubts:
    server: Any = None
    sweeper: Any = looks
    return Doubts(server, sweeper)


async def test_what_others_go_on_writing_is_looked_at_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_doubts, "_PAUSE_SECONDS", 0.001)
    looks = Looks(lambda batch_ids, _: batch_ids if len(looks.budgets) < 3 else set())
    doubts = doubts_of(looks)
    doubts.add("b1")
    await doubts.settle()
    await until(lambda: len(looks.budgets) == 3)
    await doubts.aclose()
    assert looks.budgets == [STEPS_AT_ONCE, None, None]


async def test_where_keys_are_many_new_batches_are_waited_for_before_a_long_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_doubts, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(redis_doubts, "_LONG_LOOK_SECONDS", 60.0)
    looks = Looks(lambda _, budget: None if budget == STEPS_AT_ONCE else set())
    doubts = doubts_of(looks)
    for batch_id in ("b1", "b2", "b3"):
        doubts.add(batch_id)
        await doubts.settle()
        await asyncio.sleep(0.01)
    assert looks.budgets == [STEPS_AT_ONCE]
    await doubts.aclose()  # who reads after us finds them proved all the same
    assert len(looks.budgets) == 2

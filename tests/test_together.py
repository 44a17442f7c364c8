"""Works side by side: they end together, and the gravest failure is the one that is told."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RepositoryUnavailable
from engine.together import run_together, side_by_side


async def for_ever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("one")


async def fail(error: Exception) -> None:
    raise error


async def test_when_one_ends_all_do() -> None:
    ended: list[str] = []
    await run_together(for_ever(ended), asyncio.sleep(0), for_ever(ended))
    assert ended == ["one", "one"]


async def test_a_failure_ends_all_and_a_mistake_of_ours_is_told_first() -> None:
    ended: list[str] = []
    with pytest.raises(RepositoryUnavailable, match="it is gone"):
        await run_together(for_ever(ended), fail(RepositoryUnavailable("it is gone")))
    with pytest.raises(KeyError):
        await run_together(
            fail(RepositoryUnavailable("it is gone")), fail(KeyError("x")), for_ever(ended)
        )
    assert ended == ["one", "one"]


async def test_cancelling_ends_all() -> None:
    ended: list[str] = []
    task = asyncio.create_task(run_together(for_ever(ended), for_ever(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["one", "one"]


async def test_two_answers_come_together_and_a_failure_ends_the_other() -> None:
    async def answer(what: str) -> str:
        return what

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert await side_by_side(answer("a"), answer("b")) == ("a", "b")
    ended: list[str] = []
    with pytest.raises(KeyError):
        await side_by_side(for_ever(ended), fail_later())
    assert ended == ["one"]
    both = asyncio.create_task(side_by_side(for_ever(ended), for_ever(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    assert ended == ["one", "one", "one"]

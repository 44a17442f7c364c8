"""Running several works side by side, as one that can be cancelled.

`asyncio.TaskGroup` does nearly this. But before Python 3.13 it loses a cancellation that comes
at the moment at which one of its tasks fails, and whoever wanted it to end waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from engine.errors import BCSError

_A = TypeVar("_A")
_B = TypeVar("_B")


async def run_together(*works: Coroutine[Any, Any, None]) -> None:
    """Run works until one of them ends or fails, or until cancelled; then end them all.

    Raises what has failed: of several a mistake of ours first.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [
        one
        for one in ended
        if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError)
    ]
    if failed:
        raise min(failed, key=lambda error: isinstance(error, BCSError))


async def side_by_side(
    first: Coroutine[Any, Any, _A], second: Coroutine[Any, Any, _B]
) -> tuple[_A, _B]:
    """Run two works side by side and return what they return; if one fails, end the other."""
    task = asyncio.create_task(first)
    try:
        other = await second
        return await task, other
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

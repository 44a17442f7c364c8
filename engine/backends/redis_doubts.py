"""Batches whose counts are not proved, and when the keys are looked through for them."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

from engine.backends.redis_store import Store
from engine.backends.redis_sweep import Sweeper, prune
from engine.errors import RepositoryError

STEPS_AT_ONCE: Final = 20
"""How many steps of a look through all keys a write or a listing waits for."""

_PAUSE_SECONDS: Final = 1.0
"""Between two looks for the same batch: another service may write all the time."""

_PAUSES_PER_LOOK: Final = 5.0
"""Of the background's time, so many parts are pause for each part of work."""

_LONG_LOOK_SECONDS: Final = 2.0
"""How long a look is taken to last, until there has been one, where the keys are many."""

_LAST_LOOK_STEPS: Final = 5_000
_LAST_LOOK_SECONDS: Final = 5.0

_PRUNE_PAUSE_SECONDS: Final = 30.0
"""Longer than it takes from listing a batch to writing something of it."""

_log = logging.getLogger(__name__)


class Doubts:
    """Has doubts settled: at once where that is quick, else in the background."""

    def __init__(self, store: Store, sweeper: Sweeper) -> None:
        self._store = store
        self._sweeper = sweeper
        self._pruning: asyncio.Task[None] | None = None
        self._doubtful: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._look_seconds = 0.0
        self._background: asyncio.Task[None] | None = None

    def keep_list_short(self) -> None:
        """Take batches that have expired out of the list of all, once in a while."""
        if self._pruning is None or self._pruning.done():
            self._pruning = asyncio.create_task(self._prune())

    async def _prune(self) -> None:
        try:
            await prune(self._store, _PRUNE_PAUSE_SECONDS)
        except RepositoryError as error:
            _log.info("the list of batches stays as long as it is: %s", error)

    def add(self, batch_id: str) -> None:
        """Note that the counts of a batch are not proved."""
        self._doubtful.add(batch_id)

    async def settle(self) -> None:
        """Look through the keys for those that were not looked at just now."""
        if not self._doubtful or self._background is not None:
            return
        now = time.monotonic()
        due = {
            batch_id
            for batch_id in self._doubtful
            if now - self._looked_at.get(batch_id, -_PAUSE_SECONDS) >= _PAUSE_SECONDS
        }
        if due:
            await self._look(due, STEPS_AT_ONCE)
        if self._doubtful and self._background is None:
            self._background = asyncio.create_task(self._look_later())

    async def _look_later(self) -> None:
        """Look again, ever so often, until no doubt is left."""
        try:
            while self._doubtful:
                await asyncio.sleep(max(_PAUSE_SECONDS, self._look_seconds * _PAUSES_PER_LOOK))
                began = time.monotonic()
                await self._look(set(self._doubtful), None)
                self._look_seconds = time.monotonic() - began
        finally:
            self._background = None

    async def _look(self, due: set[str], budget_steps: int | None) -> None:
        """Look through the keys for batches; they stay in doubt if that fails."""
        now = time.monotonic()
        self._looked_at = {
            batch_id: moment
            for batch_id, moment in self._looked_at.items()
            if now - moment < _PAUSE_SECONDS
        } | dict.fromkeys(due, now)
        self._doubtful -= due
        try:
            left = await self._sweeper.verify(due, budget_steps)
            if left is None:
                self._look_seconds = max(self._look_seconds, _LONG_LOOK_SECONDS)
            self._doubtful |= due if left is None else left
        except RepositoryError as error:
            # What was to be kept is kept; only the proof has to wait.
            self._doubtful |= due
            _log.info("the counts of %d batches are not proved yet: %s", len(due), error)
        except BaseException:
            self._doubtful |= due
            raise

    async def aclose(self) -> None:
        """Stop what goes on in the background, and look once more for what is left.

        Whoever reads after us would find doubts that nobody settles.
        """
        tasks = [task for task in (self._background, self._pruning) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._doubtful:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_LOOK_SECONDS):
                    await self._look(set(self._doubtful), _LAST_LOOK_STEPS)

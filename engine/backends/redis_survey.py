"""What only other services know: found by looking through all keys, slowly, again and again.

A listing waits for a few steps of the look and no more. While somebody watches, the look goes
on in the background from where it stopped, within a budget, on each node of a cluster in turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from engine.backends.redis_keys import ANY_OF_SERVICES
from engine.backends.redis_store import Store
from engine.errors import RepositoryUnavailable

KEYS_AT_ONCE: Final = 1000
STEPS_PER_SECOND: Final = 20.0
"""How many steps of `KEYS_AT_ONCE` the background takes: a million keys in less than a minute."""

ROUND_SECONDS: Final = 10.0
"""Where there are few keys: how often they are all looked through."""

_PAUSE_PER_STEP: Final = 3.0
"""Of the background's time, at least so many parts are pause for each part of work."""

_RETRY_SECONDS: Final = 2.0

_UNFINISHED: Final = (
    "still looking through all keys of Redis: of what only another service wrote, some is missing"
)
_STOPPED: Final = (
    "not all keys of Redis were looked through: of what only another service wrote, some may be"
    " missing; `bcs-tui watch` goes on looking"
)
_DENIED: Final = (
    "the account may not SCAN: of batches that only another service wrote, nothing is shown"
)

_log = logging.getLogger(__name__)


class Survey:
    """The batches and essays for which another service left a key, as far as they were found.

    Whoever was found stays until a whole round of the look has not found it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._essays: dict[str, dict[str, int]] = {}  # and in which round each was seen last
        self._batches: dict[str, int] = {}
        self._round = 0
        self._nodes: list[Any] = []
        self._ahead: list[tuple[Any, int]] = []
        self._one_looks = asyncio.Lock()
        self.is_running = False
        self.is_complete = False
        self._denied = False

    @property
    def essays(self) -> Mapping[str, Collection[str]]:
        """The essays that were found, by batch."""
        return self._essays

    @property
    def lacking(self) -> str:
        """Why there may be more than was found; empty where all was."""
        if self._denied:
            return _DENIED
        if self.is_complete:
            return ""
        return _UNFINISHED if self.is_running else _STOPPED

    @property
    def is_due(self) -> bool:
        """Whether a listing should look for itself."""
        return not (self.is_running or self.is_complete or self._denied)

    async def look(self, budget_steps: int | None = None) -> bool:
        """Go on with the look, or begin anew if it had come to its end.

        Args:
            budget_steps: At most so many thousand keys; `None`: to the end, slowly.

        Returns:
            Whether all keys were looked through.
        """
        self.is_complete = False
        steps = 0
        while not self.is_complete and steps != budget_steps:
            took = await self._step()
            steps += 1
            if budget_steps is None:
                await asyncio.sleep(took * _PAUSE_PER_STEP)
        return self.is_complete

    async def run(self) -> None:
        """Look through all keys again and again until cancelled, whatever fails meanwhile."""
        now = asyncio.get_running_loop().time
        self.is_running = True
        began = now()
        try:
            while True:
                try:
                    took = await self._step()
                except RepositoryUnavailable as error:
                    if isinstance(error.__cause__, PermissionError):
                        self._denied = True
                        await asyncio.Event().wait()  # nothing to look at as long as one watches
                    _log.info("the look through all keys is interrupted: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                await asyncio.sleep(max(1 / STEPS_PER_SECOND, took * _PAUSE_PER_STEP))
                if not self._ahead:
                    await asyncio.sleep(began + ROUND_SECONDS - now())
                    began = now()
        finally:
            self.is_running = False

    async def _step(self) -> float:
        """Look at the next thousand keys; return how long that took, in seconds."""
        async with self._one_looks:
            began = asyncio.get_running_loop().time()
            await self._look_at_next()
            return asyncio.get_running_loop().time() - began

    async def _look_at_next(self) -> None:
        nodes = self._store.nodes()
        if not self._ahead or nodes != self._nodes:
            # After a failover the keys are elsewhere: what was not seen may still be there.
            self._round += 1
            self._nodes = nodes
            self._ahead = [(node, 0) for node in nodes]
        node, cursor = self._ahead[-1]
        cursor, keys = await self._store.scan(node, cursor, ANY_OF_SERVICES, KEYS_AT_ONCE)
        self._note(key.decode(errors="replace") for key in keys)
        if cursor:
            self._ahead[-1] = node, cursor
        else:
            self._ahead.pop()
        if not self._ahead:
            await self._let_go()
            self.is_complete = True

    def _note(self, keys: Iterable[str]) -> None:
        names, this_round = self._store.keys, self._round
        for key in keys:
            batch_id, essay_id = names.named_by(key)
            if batch_id:
                self._batches[batch_id] = this_round
                essays = self._essays.setdefault(batch_id, {})
                if essay_id:
                    essays[essay_id] = this_round

    async def _let_go(self) -> None:
        """Forget what this round has not found."""
        for batch_id in list(self._essays):
            essays = self._essays.get(batch_id, {})
            for essay_id in [name for name, seen in essays.items() if seen < self._round]:
                del essays[essay_id]
            if not essays and self._batches.get(batch_id, 0) < self._round:
                self.forget([batch_id])
            await asyncio.sleep(0)

    def forget(self, batch_ids: Iterable[str]) -> None:
        """Let go of batches of which we have everything, until they are found again."""
        for batch_id in batch_ids:
            self._essays.pop(batch_id, None)
            self._batches.pop(batch_id, None)

"""Watching both parts: notices in Redis come at once, the archive's versions miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from functools import partial
from typing import Final, TypeAlias

from engine.backends.archived_mending import Part
from engine.errors import RepositoryUnavailable
from engine.repository import Archive, Cache

ASK_SECONDS: Final = 1.0
"""How often the archive is asked what has changed, and a part that is away whether it is back."""

ANSWER_SECONDS: Final = 2.5
"""An archive that has not said for so long what has changed is away: who watches is to be told
within five seconds of the moment from which on it hangs."""

SILENCE_SECONDS: Final = 8.0
"""With no word of either part for so long, both are away."""

_PAGE: Final = 500

_Notice: TypeAlias = Collection[str] | None


class Watch:
    """Follows the changes of both parts, whichever of them is there."""

    def __init__(
        self,
        live: Cache,
        archive: Archive,
        live_part: Part,
        archive_part: Part,
        count_backlog: Callable[[], Awaitable[None]],
        learn: Callable[[list[tuple[str, int]]], None],
        ttl_seconds: float,
    ) -> None:
        self._count_backlog = count_backlog
        self._learn = learn
        self._live, self._archive = live, archive
        self._live_part, self._archive_part = live_part, archive_part
        self._ttl_seconds = ttl_seconds

    async def changes(self) -> AsyncGenerator[_Notice, None]:
        """Yield what others changed.

        Raises:
            RepositoryUnavailable: Both parts are away.
        """
        notices: asyncio.Queue[_Notice] = asyncio.Queue()
        followers = [
            asyncio.create_task(self._follow_live(notices)),
            asyncio.create_task(self._follow_archive(notices)),
            asyncio.create_task(self._follow_backlog()),
        ]
        parts = (self._archive_part, self._live_part)
        try:
            for part in parts:
                part.is_followed = True
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    notice = await notices.get()
                yield notice
        except TimeoutError:
            trouble = [part.trouble for part in parts]
            raise RepositoryUnavailable("; ".join(filter(None, trouble))) from None
        finally:
            for part in parts:
                part.is_followed = False
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _follow_live(self, notices: asyncio.Queue[_Notice]) -> None:
        """Pass on the notices in Redis; after a gap in them everything is looked at."""
        while True:
            try:
                async with aclosing(self._live.changes()) as changes:
                    async for notice in changes:
                        if self._live_part.trouble:
                            notices.put_nowait(None)
                        self._live_part.found()
                        notices.put_nowait(notice)
            except RepositoryUnavailable as error:
                self._live_part.lost(error)
            await asyncio.sleep(ASK_SECONDS)

    async def _follow_archive(self, notices: asyncio.Queue[_Notice]) -> None:
        """Ask the archive for the batches of newer versions than were known."""
        version = 0
        first = True
        while True:
            try:
                changed = await self._archive_part.reach(partial(self._changed_since, version))
            except RepositoryUnavailable:
                await asyncio.sleep(ASK_SECONDS)
                continue
            self._learn(changed)
            if changed:
                version = changed[-1][1]
            # At first whoever watches is reading everything anyway.
            notices.put_nowait(() if first else [batch_id for batch_id, _ in changed])
            if len(changed) < _PAGE:
                first = False
                await asyncio.sleep(ASK_SECONDS)

    async def _follow_backlog(self) -> None:
        """Keep track of what waits for the archive, wherever it was recorded."""
        while True:
            await self._live_part.ask(self._count_backlog)
            await asyncio.sleep(ASK_SECONDS)

    async def _changed_since(self, version: int) -> list[tuple[str, int]]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._archive.changed_since(
                    version, within_seconds=self._ttl_seconds, limit=_PAGE
                )
        except TimeoutError:
            raise RepositoryUnavailable(
                f"{self._archive_part.name} has not answered for {ANSWER_SECONDS:g} s"
            ) from None

"""The server as the backend uses it: scripts, and what stands in for them."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

import redis.exceptions as failures

from engine.backends.redis_keys import Keys
from engine.backends.redis_link import Command, Link
from engine.backends.redis_rows import BatchWrite, arguments_of
from engine.backends.redis_scripts import ABSENT, ADOPT, DIGESTS, SEAL, SWAP, TIE, WRITE
from engine.backends.redis_watch import Watching
from engine.redis_access import Client

_log = logging.getLogger(__name__)

_CALLS_AT_ONCE: Final = 100
"""Scripts in one exchange: each takes about a millisecond, and the exchange is bounded."""


class Store(Link):
    """What the backend asks of the server, each in one step of the server.

    Args:
        client: The connection.
        url: Where it leads.
        ttl_seconds: For how long everything that is written lives.
        answer_seconds: The bound of one exchange.
    """

    def __init__(self, client: Client, url: str, ttl_seconds: int, answer_seconds: float) -> None:
        super().__init__(client, url, answer_seconds)
        self.keys = Keys(self.clustered)
        self.ttl = ttl_seconds
        self.scripts_allowed = True
        self._name = str(secrets.randbelow(9 * 10**11) + 10**11)
        self._numbers = count()
        self._watching = Watching(client, ttl_seconds)

    def token(self) -> str:
        """Return digits that nobody has used before."""
        return f"{self._name}{next(self._numbers):09d}"

    async def write(self, writes: Sequence[BatchWrite]) -> list[list[Any]]:
        """Make writes, and return for each `done` or what was not as it had been read."""
        if self.scripts_allowed:
            calls = [arguments_of(write, self.ttl, self.token()) for write in writes]
            replies = await self.run(WRITE, calls)
            if replies is not None:
                return replies
        async with self.careful():
            return [await self._watching.write(write, self.token()) for write in writes]

    async def adopt(self, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Set counters that were lost, unless somebody else has done it."""
        if self.scripts_allowed:
            call = [len(keys), *keys, self.ttl, *arguments]
            if await self.run(ADOPT, [call]) is not None:
                return
        async with self.careful():
            await self._watching.adopt(keys, arguments)

    async def seal(self, calls: Sequence[tuple[str, str, str, str]]) -> list[bool]:
        """Declare the counts of batches right into which nobody else has written since.

        Args:
            calls: Keys of summary and index, the chain that must still hold, and until when
                its essays live, if that is new.

        Returns:
            Of each whether they are.
        """
        if self.scripts_allowed:
            replies = await self.run(SEAL, [(2, *call) for call in calls])
            if replies is not None:
                return list(map(bool, replies))
        async with self.careful():
            return [
                await self._watching.seal([summary, index], chain, until)
                for summary, index, chain, until in calls
            ]

    async def swap(self, changes: Sequence[tuple[str, bytes | None, bytes]]) -> list[int]:
        """Replace texts that are as they were read; return the positions of those that are not.

        Args:
            changes: Key, text that must be there, new text.
        """
        if self.scripts_allowed:
            size = 1 if self.clustered else 250
            parts = [changes[start : start + size] for start in range(0, len(changes), size)]
            replies = await self.run(SWAP, [_swap_call(part, self.ttl) for part in parts])
            if replies is not None:
                return [
                    number * size + position - 1
                    for number, reply in enumerate(replies)
                    for position in reply
                ]
        async with self.careful():
            return [
                position
                for position, change in enumerate(changes)
                if not await self._watching.swap(*change)
            ]

    async def tie(
        self, batch_ids: Sequence[str], homes: Sequence[str], results: Sequence[str]
    ) -> list[bytes | None]:
        """Add batches to sets, and return the texts that stand beside these sets."""
        size = 250
        starts = range(0, len(homes), size)
        if self.scripts_allowed and not self.clustered:
            calls: list[list[Any]] = []
            for start in starts:
                part = slice(start, start + size)
                names = [*homes[part], *results[part]]
                calls.append([len(names), *names, self.ttl, *batch_ids[part]])
            replies = await self.run(TIE, calls)
            if replies is not None:
                return [text for reply in replies for text in reply]
        commands: list[Command] = []
        for key, batch_id in zip(homes, batch_ids, strict=True):
            commands += [("SADD", key, batch_id), ("EXPIRE", key, self.ttl)]
        await self.send(commands)
        return await self.send([("GET", key) for key in results])

    async def now_ms(self) -> int:
        """Return the time of the server in milliseconds."""
        if self.clustered:
            return int(time.time() * 1000)
        [(seconds, micros)] = await self.send([("TIME",)])
        return int(seconds) * 1000 + int(micros) // 1000

    async def set_aside(self, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        """Rename keys of documents that hold another type; return key, type and new name."""
        moved: list[tuple[str, str, str]] = []
        types = await self.send([("TYPE", key) for key in keys])
        for key, kind in zip(keys, types, strict=True):
            if kind in (b"string", b"none"):
                continue
            place = f"bcs:tui:aside:{key}:{self.token()}"
            await self.send([("RENAME", key, place), ("EXPIRE", place, self.ttl)])
            _log.warning("%s holds a %s; it is now %s", key, kind.decode(), place)
            moved.append((key, kind.decode(), place))
        return moved

    async def run(self, script: str, calls: Sequence[Sequence[Any]]) -> list[Any] | None:
        """Run a script with each of the arguments; `None` if the account may not run scripts."""
        digest = DIGESTS[script]
        replies: list[Any] = []
        for start in range(0, len(calls), _CALLS_AT_ONCE):
            part = calls[start : start + _CALLS_AT_ONCE]
            replies += await self.exchange([("EVALSHA", digest, *call) for call in part])
        missing = [
            n for n, reply in enumerate(replies) if isinstance(reply, failures.NoScriptError)
        ]
        if missing:
            # Somebody emptied the cache of scripts; those that ran are not run again.
            again = [("EVAL", script, *calls[number]) for number in missing]
            for number, reply in zip(missing, await self.exchange(again), strict=True):
                replies[number] = reply
        if replies and all(map(_is_denied, replies)):
            self.scripts_allowed = False
            _log.info("scripts are denied by Redis at %s; using WATCH", self.place)
            return None
        for reply in replies:
            if isinstance(reply, Exception):
                with self.explained():
                    raise reply
        return replies


def _swap_call(part: Iterable[tuple[str, bytes | None, bytes]], ttl: int) -> list[Any]:
    changes = list(part)
    call: list[Any] = [len(changes), *(key for key, _, _ in changes), ttl]
    for _, before, after in changes:
        call += (ABSENT if before is None else before, after)
    return call


def _is_denied(reply: Any) -> bool:
    return isinstance(reply, failures.NoPermissionError) and "'eval" in str(reply)

"""The same as the scripts, for accounts that may not run any: WATCH, read, MULTI, EXEC.

Everything is read after WATCH, so a writer in between makes EXEC fail and loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis.exceptions as failures

from engine.backends.redis_batch import decode_index
from engine.backends.redis_rows import BatchWrite
from engine.redis_access import Client

_CONFLICT: Final = [b"essays"]


class Watching:
    """Writes with optimistic transactions; the replies are those of the scripts."""

    def __init__(self, client: Client, ttl_seconds: int) -> None:
        self._client: Any = client
        self._ttl = ttl_seconds

    async def write(self, write: BatchWrite, token: str) -> list[Any]:
        """Make one write if everything is as it was read."""
        names = write.batch.keys
        keys = [names.essay_prefix + row.essay_id for row, _ in write.essays]
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(*names.fixed, *keys)
            fields = await pipe.hgetall(names.index)
            if int(fields.get(b"e", 0)) != await pipe.hlen(names.essays):
                return [b"lost"]
            found_batch = await pipe.get(names.batch)
            if found_batch != write.before and (write.after is not None or found_batch is None):
                return [b"batch"]
            if keys:
                stored = await pipe.mget(keys)
                copies = await pipe.hmget(names.essays, [row.essay_id for row, _ in write.essays])
                for (row, _), found, copy in zip(write.essays, stored, copies, strict=True):
                    if found != row.raw or copy != row.copy:
                        return _CONFLICT
                new = [key for key, found in zip(keys, stored, strict=True) if found is None]
                if new and await pipe.exists(*new):
                    return [b"type"]
            state = await self._state(pipe, names.summary, fields, token)
            if found_batch is None and b"sum" in fields:
                state[b"archived"] = b"-1"
            seconds, micros = await pipe.time()
            now = int(seconds) * 1000 + int(micros) // 1000
            pipe.multi()
            self._queue(pipe, write, keys)
            self._publish(pipe, write, {**fields, **state}, token, now)
            if not await _unless_changed(pipe):
                return _CONFLICT
        trusted = {**fields, **state}.get(b"ok") == b"1"
        return [b"done", int(trusted and now < int(fields.get(b"until", now + 1)))]

    async def _state(
        self, pipe: Any, summary: str, fields: dict[bytes, bytes], token: str
    ) -> dict[bytes, bytes]:
        """Return what becomes of the proof that nobody else has written."""
        if b"sum" not in fields:
            return {b"chain": token.encode(), b"born": token.encode(), b"ok": b"0"}
        if await _text(pipe, summary) != fields[b"sum"]:
            return {b"chain": token.encode(), b"born": b"", b"ok": b"0"}
        return {}

    def _queue(self, pipe: Any, write: BatchWrite, keys: Sequence[str]) -> None:
        names = write.batch.keys
        for key, (_, raw) in zip(keys, write.essays, strict=True):
            pipe.set(key, raw, ex=self._ttl)
        if keys:
            pipe.hset(names.essays, mapping={row.essay_id: raw for row, raw in write.essays})
        if write.after is not None:
            pipe.set(names.batch, write.after)
        if write.uploads:
            pipe.sadd(names.uploads, *write.uploads)
        if write.phases:
            pipe.hset(names.phases, items=list(write.phases))
            pipe.expire(names.phases, self._ttl)
        for key in (names.batch, names.essays, names.uploads):
            pipe.expire(key, self._ttl)

    def _publish(
        self, pipe: Any, write: BatchWrite, fields: dict[bytes, bytes], token: str, now: int
    ) -> None:
        """Queue the counters and the summary."""
        names = write.batch.keys
        after = dict(fields)
        for times, delta in write.groups:
            for field, change in delta:
                name = field.encode()
                after[name] = b"%d" % (int(after.get(name, 0)) + times * change)
        expected = write.batch.record.expected
        if expected is not None:
            after[b"x"] = b"%d" % expected
        expires = now + self._ttl * 1000
        after[b"until"] = b"%d" % min(int(after.get(b"until", expires)), expires)
        text = summary_text(after, token)
        after[b"sum"] = text.encode()
        pipe.set(names.summary, text, ex=self._ttl)
        pipe.hset(names.index, mapping=after)
        pipe.expire(names.index, self._ttl)

    async def adopt(self, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Set counters that were lost, unless somebody else has done it."""
        summary, index, _, essays = keys
        copies, *fields = arguments
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(*keys)
            entries = int(await pipe.hget(index, "e") or 0)
            found = await pipe.hlen(essays)
            if entries == found or found != copies:
                return
            pipe.multi()
            pipe.delete(summary, index)
            pipe.hset(index, items=list(fields))
            pipe.expire(index, self._ttl)
            await _unless_changed(pipe)

    async def seal(self, keys: Sequence[str], chain: str, until: str) -> bool:
        """Declare the counts of a batch right if nobody else has written since `chain`."""
        summary, index = keys
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(*keys)
            fields = await pipe.hgetall(index)
            if fields.get(b"chain") != chain.encode():
                return False
            if await _text(pipe, summary) != fields.get(b"sum"):
                return False
            pipe.multi()
            pipe.hset(index, mapping={"ok": "1", **({"until": until} if until else {})})
            return await _unless_changed(pipe)

    async def swap(self, key: str, before: bytes | None, after: bytes) -> bool:
        """Replace a text if it is as it was read; tell whether it was."""
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            if await pipe.get(key) != before:
                return False
            pipe.multi()
            pipe.set(key, after, ex=self._ttl)
            return await _unless_changed(pipe)


def summary_text(fields: dict[bytes, bytes], token: str) -> str:
    """Return the summary that is published: the services' form, with a mark of ours inside."""
    index = decode_index(fields)
    total = max(index.seen, int(fields.get(b"x", 0)))
    names = [name[2:].decode() for name in fields if name.startswith(b"c:")]
    steps = [
        f'"{name}": {{"completed": {int(fields[b"c:" + name.encode()])}, '
        f'"total": {total}, "bcs_tui": "{token}"}}'
        for name in names
    ]
    if not steps:
        return "{" + "".join(" " * (1 + int(digit)) + "\n" for digit in token) + "}"
    return "{" + ", ".join(steps) + "}"


async def _text(pipe: Any, key: str) -> bytes | None:
    """Return a text, `None` if the key holds none."""
    try:
        found: bytes | None = await pipe.get(key)
    except failures.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        return None
    return found


async def _unless_changed(pipe: Any) -> bool:
    """Execute what is queued; tell whether nobody wrote since WATCH."""
    try:
        await pipe.execute()
    except failures.WatchError as error:
        if isinstance(error.__context__, failures.ConnectionError | failures.TimeoutError):
            # The client takes a lost connection for a change, but it may have been executed.
            raise error.__context__ from None
        return False
    return True

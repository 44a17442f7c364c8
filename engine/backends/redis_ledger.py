"""What Redis and the archive behind it owe each other, kept in Redis beside the batches.

Of each batch: up to which version of the archive Redis has everything. Of both together: up to
which version that has been looked at. And, while the archive is away, the facts that it does
not have yet.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import redis.exceptions as failures
from redis.asyncio import Redis

from engine.backends.redis_link import Command, Link, mapping
from engine.backends.redis_owed import Owed
from engine.models import BatchFact, EssaysFact, Fact, PhaseFact, RegistrationFact, StepFact
from engine.redis_access import ANSWER_SECONDS, Client, explained

_log = logging.getLogger(__name__)

VERIFIED_KEY: Final = "bcs:tui:verified"
UNARCHIVED_KEY: Final = "bcs:tui:unarchived"
_ARCHIVED_KEY: Final = "bcs:tui:archived"
"""Names of what was let go there since the archive has it; what else is missing was dropped."""

_ARCHIVED_SECONDS: Final = 3600
_ASKED_AT_ONCE: Final = 500
_LEADER_KEY: Final = "bcs:tui:mender"
LEAD_SECONDS: Final = 5
"""After so long without a word of the process that mends, another one does."""

MARK_FIELD: Final = "archived"
"""In the index of a batch: the newest version of the archive that it has whole."""

_LINK_PREFIX: Final = b"archived:"
"""Beside it, by a version that the archive had: the one after it, which Redis has as well."""

_FACTS_FIELD: Final = b"facts"
_NAME_FIELD: Final = b"name"
_KINDS: Final = (StepFact, EssaysFact, RegistrationFact, PhaseFact, BatchFact)
_NUMBER_OF: Final = {kind: number for number, kind in enumerate(_KINDS)}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]]).decode
_decoders: Final = [msgspec.msgpack.Decoder(kind) for kind in _KINDS]


class Unarchived(NamedTuple):
    """Facts that the archive does not have yet: the id they are kept under, and their name.

    Ids begin anew in a stream that was dropped and made again; names do not.
    """

    id: bytes
    name: bytes
    packed: bytes

    def facts(self) -> list[Fact]:
        """Return the facts.

        Raises:
            msgspec.MsgspecError: Something else was put there.
        """
        return unpack(self.packed)


def pack(facts: Iterable[Fact]) -> bytes:
    """Return facts as bytes (MessagePack: pairs of the number of the kind and the fact)."""
    return _encode([(_NUMBER_OF[type(fact)], fact) for fact in facts])


def unpack(packed: bytes) -> list[Fact]:
    """Return the facts that `pack` was given.

    Raises:
        msgspec.MsgspecError: The bytes are something else.
    """
    facts: list[Any] = [_decoders[number].decode(raw) for number, raw in _decode(packed)]
    return facts


class RedisLedger:
    """The accounts between Redis and the archive.

    Every method may raise `RepositoryUnavailable`.

    Args:
        client: The connections; closed by whoever opened them.
        url: Where the server is, for messages.
        index_key: The key of the index of a batch.
        ttl_seconds: How long what can be found out again is kept. What the archive does not
            have yet does not expire.
    """

    def __init__(
        self, client: Client, url: str, index_key: Callable[[str], str], ttl_seconds: int
    ) -> None:
        self._client = client
        self._link = Link(client, url, ANSWER_SECONDS)
        self._url = url
        self._index_key = index_key
        self._ttl_seconds = ttl_seconds
        self._token = secrets.token_bytes(16)
        self.owed = Owed()

    async def marks(self, batch_ids: Sequence[str], *, shorten: bool = False) -> dict[str, int]:
        """Return up to which version of the archive Redis has each batch; 0 if it has gaps.

        Args:
            batch_ids: Which batches.
            shorten: Sum up what has been noted; only for the one who mends.
        """
        if not batch_ids:
            return {}
        keys = list(map(self._index_key, batch_ids))
        replies = await self._link.send([("HGETALL", key) for key in keys])
        marks: dict[str, int] = {}
        shorter: list[Command] = []
        for batch_id, key, reply in zip(batch_ids, keys, replies, strict=True):
            mark, passed, is_whole = _follow_links(mapping(reply))
            marks[batch_id] = mark if is_whole else 0
            if shorten and passed:
                shorter += [("HSET", key, MARK_FIELD, str(mark)), ("HDEL", key, *passed)]
        await self._link.send(shorter)
        return marks

    async def chain(self, versions: Mapping[str, tuple[int, int]]) -> None:
        """Note that what the archive has just recorded is in Redis as well.

        Nothing is read for it, so that several processes may note theirs in any order. Where
        Redis lacks something in between, nothing is claimed, so that readers ask the archive
        until the gap is closed.

        Args:
            versions: By batch the version that the archive had of it before, and has now.
        """
        await self._note(
            {
                batch_id: (_LINK_PREFIX + b"%d" % before, after)
                for batch_id, (before, after) in versions.items()
            }
        )

    async def mark(self, versions: Mapping[str, int]) -> None:
        """Note up to which version of the archive Redis has batches."""
        await self._note({name: (MARK_FIELD, version) for name, version in versions.items()})

    async def _note(self, fields: Mapping[str, tuple[str | bytes, int]]) -> None:
        if not fields:
            return
        with explained(self._url):
            pipeline = self._client.pipeline(transaction=False)
            for batch_id, (name, version) in fields.items():
                key = self._index_key(batch_id)
                pipeline.hset(key, name, str(version))
                pipeline.expire(key, self._ttl_seconds, nx=True)  # it may have been evicted
            await pipeline.execute()

    async def verified(self) -> int | None:
        """Return the version up to which all batches were looked at; `None` if Redis is empty."""
        with explained(self._url):
            version = await self._client.get(VERIFIED_KEY)
            return None if version is None else int(version)

    async def set_verified(self, version: int) -> None:
        """Note the version up to which all batches have been looked at."""
        with explained(self._url):
            await self._client.set(VERIFIED_KEY, version, ex=self._ttl_seconds)

    async def evicted(self) -> int | None:
        """Return how many keys the server has ever evicted; `None` where it cannot be known."""
        if not isinstance(self._client, Redis):
            return None
        with explained(self._url), suppress(failures.NoPermissionError):
            return int((await self._client.info("stats")).get("evicted_keys", 0))
        return None

    async def lead(self) -> bool:
        """Claim, for some seconds, to be the one process that mends; tell whether it is us."""
        with explained(self._url):
            if await self._client.set(_LEADER_KEY, self._token, nx=True, ex=LEAD_SECONDS):
                return True
            if await self._client.get(_LEADER_KEY) != self._token:
                return False
            await self._client.expire(_LEADER_KEY, LEAD_SECONDS)
            return True

    async def still_leads(self) -> bool:
        """Claim it for some more seconds; not if Redis has forgotten that it was us."""
        with explained(self._url):
            if await self._client.get(_LEADER_KEY) != self._token:
                return False
            await self._client.expire(_LEADER_KEY, LEAD_SECONDS)
            return True

    async def resign(self) -> None:
        """Let another process mend at once."""
        with explained(self._url):
            if await self._client.get(_LEADER_KEY) == self._token:
                await self._client.delete(_LEADER_KEY)

    async def keep_unarchived(self, facts: Sequence[Fact]) -> None:
        """Keep facts until the archive has them, also if this process ends."""
        await self._keep(pack(facts))

    async def _keep(self, packed: bytes) -> None:
        name = self.owed.new_name()
        fields: Any = {_FACTS_FIELD: packed, _NAME_FIELD: name}
        with explained(self._url):
            entry_id: Any = await self._client.xadd(UNARCHIVED_KEY, fields)
        self.owed.add(name, entry_id, packed)

    async def keep_dropped(self) -> None:
        """Keep anew what Redis has dropped of that which this process has kept there."""
        # Redis loses all of it, or the newest: between two that are there none is missing.
        if not await self._absent(self.owed.ends):
            return
        names, dropped = self.owed.names, 0
        for start in range(0, len(names), _ASKED_AT_ONCE):
            absent = await self._absent(names[start : start + _ASKED_AT_ONCE])
            if not absent:
                continue
            with explained(self._url):
                archived = await self._client.smismember(_ARCHIVED_KEY, absent)
            missing = [name for name, done in zip(absent, archived, strict=True) if not done]
            for name in missing:
                await self._keep_anew(name)
            dropped += len(missing)
            self.owed.settle(absent)
        if dropped:
            _log.warning("Redis has dropped %d chunks that wait for the archive", dropped)

    async def _keep_anew(self, name: bytes) -> None:
        packed = self.owed[name].packed
        if packed is None:
            self.owed.lose(name)
            return
        await self._keep(packed)
        self.owed.settle([name])

    async def _absent(self, names: Sequence[bytes]) -> list[bytes]:
        """Return which of the facts that are owed do not wait any more."""
        if not names:
            return []
        with explained(self._url):
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                entry_id: Any = self.owed[name].entry_id
                pipeline.xrange(UNARCHIVED_KEY, entry_id, entry_id)
            replies: list[Any] = await pipeline.execute()
        return [
            name
            for name, found in zip(names, replies, strict=True)
            if not found or found[0][1].get(_NAME_FIELD) != name
        ]

    async def unarchived(self, limit: int = 100) -> list[Unarchived]:
        """Return the oldest facts that the archive does not have yet."""
        with explained(self._url):
            entries: Any = await self._client.xrange(UNARCHIVED_KEY, count=limit)
        return [
            Unarchived(entry_id, fields.get(_NAME_FIELD, entry_id), fields.get(_FACTS_FIELD, b""))
            for entry_id, fields in entries
        ]

    async def count_unarchived(self) -> int:
        """Return how many chunks wait for the archive."""
        with explained(self._url):
            return int(await self._client.xlen(UNARCHIVED_KEY))

    async def forget_unarchived(self, archived: Sequence[Unarchived]) -> None:
        """Let chunks go that the archive has now, and say so to those who kept them."""
        if archived:
            names = [one.name for one in archived]
            with explained(self._url):
                await self._client.sadd(_ARCHIVED_KEY, *names)
                await self._client.expire(_ARCHIVED_KEY, _ARCHIVED_SECONDS)
                await self._client.xdel(UNARCHIVED_KEY, *(one.id for one in archived))
            self.owed.settle(names)


def _follow_links(fields: Mapping[bytes, bytes]) -> tuple[int, list[bytes], bool]:
    """Follow what was noted of a batch from version to version.

    Returns:
        The version that is reached, what was noted up to there, and whether that is all.
    """
    mark = int(fields.get(MARK_FIELD.encode(), 0))
    links = sorted(
        (int(name.removeprefix(_LINK_PREFIX)), int(after), name)
        for name, after in fields.items()
        if name.startswith(_LINK_PREFIX)
    )
    passed: list[bytes] = []
    for before, after, name in links:
        if before > mark:
            break
        mark = max(mark, after)
        passed.append(name)
    return mark, passed, len(passed) == len(links)

"""What Redis and the archive behind it owe each other, kept in Redis beside the batches.

Of each batch: up to which version of the archive Redis has everything. Of both together: up to
which version that has been looked at. And, while the archive is away, the facts that it does
not have yet.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from engine.models import BatchFact, EssaysFact, Fact, PhaseFact, RegistrationFact, StepFact
from engine.redis_access import Client, explained

VERIFIED_KEY: Final = "bcs:tui:verified"
UNARCHIVED_KEY: Final = "bcs:tui:unarchived"
_LEADER_KEY: Final = "bcs:tui:mender"
LEAD_SECONDS: Final = 10
"""After so long without a word of the process that mends, another one does."""

MARK_FIELD: Final = "archived"
"""In the index of a batch: the newest version of the archive that it has whole."""

_FACTS_FIELD: Final = b"facts"
_KINDS: Final = (StepFact, EssaysFact, RegistrationFact, PhaseFact, BatchFact)
_NUMBER_OF: Final = {kind: number for number, kind in enumerate(_KINDS)}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[int, msgspec.Raw]]).decode
_decoders: Final = [msgspec.msgpack.Decoder(kind) for kind in _KINDS]


class Unarchived(NamedTuple):
    """Facts that the archive does not have yet, and the id they are kept under."""

    id: bytes
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
        self._url = url
        self._index_key = index_key
        self._ttl_seconds = ttl_seconds
        self._token = secrets.token_bytes(16)

    async def marks(self, batch_ids: Sequence[str]) -> dict[str, int]:
        """Return up to which version of the archive Redis has each batch; 0 for not at all."""
        if not batch_ids:
            return {}
        with explained(self._url):
            pipeline = self._client.pipeline(transaction=False)
            for batch_id in batch_ids:
                pipeline.hget(self._index_key(batch_id), MARK_FIELD)
            replies: list[Any] = await pipeline.execute()
        return {
            batch_id: int(reply or 0) for batch_id, reply in zip(batch_ids, replies, strict=True)
        }

    async def chain(self, versions: Mapping[str, tuple[int, int]]) -> None:
        """Note that what the archive has just recorded is in Redis as well.

        Where Redis lacks something from before, nothing is claimed any more, so that readers
        ask the archive until the gap is found and closed.

        Args:
            versions: By batch the version that the archive had of it before, and has now.
        """
        known = await self.marks(list(versions))
        await self.mark(
            {
                batch_id: after if known[batch_id] >= before else 0
                for batch_id, (before, after) in versions.items()
            }
        )

    async def mark(self, versions: Mapping[str, int]) -> None:
        """Note up to which version of the archive Redis has batches."""
        if not versions:
            return
        with explained(self._url):
            pipeline = self._client.pipeline(transaction=False)
            for batch_id, version in versions.items():
                key = self._index_key(batch_id)
                pipeline.hset(key, MARK_FIELD, str(version))
                pipeline.expire(key, self._ttl_seconds, nx=True)  # it may have been evicted
            await pipeline.execute()

    async def verified(self) -> int:
        """Return the version up to which all batches were looked at; 0 in an emptied Redis."""
        with explained(self._url):
            return int(await self._client.get(VERIFIED_KEY) or 0)

    async def set_verified(self, version: int) -> None:
        """Note the version up to which all batches have been looked at."""
        with explained(self._url):
            await self._client.set(VERIFIED_KEY, version, ex=self._ttl_seconds)

    async def lead(self) -> bool:
        """Claim, for some seconds, to be the one process that mends; tell whether it is us."""
        with explained(self._url):
            if await self._client.set(_LEADER_KEY, self._token, nx=True, ex=LEAD_SECONDS):
                return True
            if await self._client.get(_LEADER_KEY) != self._token:
                return False
            await self._client.expire(_LEADER_KEY, LEAD_SECONDS)
            return True

    async def keep_unarchived(self, facts: Sequence[Fact]) -> None:
        """Keep facts until the archive has them, also if this process ends."""
        with explained(self._url):
            await self._client.xadd(UNARCHIVED_KEY, {_FACTS_FIELD: pack(facts)})

    async def unarchived(self, limit: int = 100) -> list[Unarchived]:
        """Return the oldest facts that the archive does not have yet."""
        with explained(self._url):
            entries: Any = await self._client.xrange(UNARCHIVED_KEY, count=limit)
        return [Unarchived(entry_id, fields.get(_FACTS_FIELD, b"")) for entry_id, fields in entries]

    async def count_unarchived(self) -> int:
        """Return how many chunks wait for the archive."""
        with explained(self._url):
            return int(await self._client.xlen(UNARCHIVED_KEY))

    async def forget_unarchived(self, ids: Sequence[bytes]) -> None:
        """Let chunks go that the archive has now."""
        if ids:
            with explained(self._url):
                await self._client.xdel(UNARCHIVED_KEY, *ids)

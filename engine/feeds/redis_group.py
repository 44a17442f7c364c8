"""One consumer of a consumer group: the commands on a stream, with replies as they come.

redis-py's own forms of the replies lose what we need (what XAUTOCLAIM found deleted) or cost
more than the rest of reading (a dictionary for every entry), so replies are taken raw.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import redis.exceptions as failures

from engine.feeds.redis_entries import Entry
from engine.redis_access import Client, drop_connections

BEGINNING: Final = b"0"
_ACKNOWLEDGED_AT_ONCE: Final = 5000
_CLAIMED_AT_ONCE: Final = 1000
_RAW: Final = ("XREADGROUP", "XAUTOCLAIM", "XPENDING", "XINFO STREAM", "XINFO GROUPS", "XCLAIM")


class Consumer(NamedTuple):
    """A consumer of the group; `idle_seconds` since it last asked for something."""

    name: str
    pending: int
    idle_seconds: float


class Unread(msgspec.Struct, frozen=True):
    """Entries trimmed before anybody in the group read them; `count` is -1 if unknown."""

    count: int
    after: bytes
    before: bytes


class Group:
    """A consumer group of one stream, used as one consumer.

    Methods raise what redis-py raises; `is_gone` tells whether the group has to be made anew.
    """

    def __init__(self, client: Client, key: str, group: str, consumer: str) -> None:
        self._client = client
        self.key, self.group, self.consumer = key, group, consumer
        for command in _RAW:
            client.set_response_callback(command, _raw)

    async def has_stream(self) -> bool:
        """Tell whether there is anything under the key."""
        return bool(await self._client.exists(self.key))

    async def has_entries(self) -> bool:
        """Tell whether anything is in the stream."""
        return bool(await self._client.xlen(self.key))

    async def create(self) -> bool:
        """Make the group where it is missing, to be read from the beginning of the stream."""
        try:
            await self._client.xgroup_create(self.key, self.group, id="0", mkstream=True)
        except failures.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            return False
        return True

    async def join(self) -> None:
        """Be one of the consumers, also before anything is read."""
        await self._client.xgroup_createconsumer(self.key, self.group, self.consumer)

    async def consumers(self) -> list[Consumer]:
        """Return who reads in this group, ourselves included."""
        found = await self._client.xinfo_consumers(self.key, self.group)
        return [
            Consumer(_text(one["name"]), int(one["pending"]), int(one["idle"]) / 1000)
            for one in found
        ]

    async def forget(self, consumer: str) -> None:
        """Remove a consumer that holds nothing."""
        await self._client.xgroup_delconsumer(self.key, self.group, consumer)

    async def new(self, count: int, block_seconds: float | None) -> list[Entry]:
        """Return entries that nobody in the group has been given, waiting for some."""
        block = [] if block_seconds is None else ["BLOCK", max(1, round(block_seconds * 1000))]
        return await self._read(b">", count, block)

    async def own(self, after: bytes, count: int) -> list[Entry]:
        """Return entries given to us and not acknowledged; each counts as delivered once more."""
        return await self._read(after, count, [])

    async def _read(self, after: bytes, count: int, block: Sequence[object]) -> list[Entry]:
        who = ("GROUP", self.group, self.consumer)
        reply = await self._send(
            "XREADGROUP", *who, "COUNT", count, *block, "STREAMS", self.key, after
        )
        return [(one[0], one[1]) for one in reply[0][1]] if reply else []

    async def pending(self, after: bytes, count: int) -> list[tuple[bytes, int]]:
        """Return ids given to us and not acknowledged, and how often each was delivered."""
        start = b"-" if after == BEGINNING else b"(" + after
        found = await self._send("XPENDING", self.key, self.group, start, "+", count, self.consumer)
        return [(one[0], one[3]) for one in found]

    async def claim(self, idle_seconds: float) -> tuple[list[bytes], list[bytes]]:
        """Take over entries whose consumers have been silent with them for so long.

        Returns their ids, and those of entries that are trimmed. They do not count as
        delivered: that is for `own`, when they really are handed over.
        """
        taken: list[bytes] = []
        trimmed: list[bytes] = []
        cursor = BEGINNING
        who = (self.key, self.group, self.consumer, round(idle_seconds * 1000))
        while True:
            reply = await self._send(
                "XAUTOCLAIM", *who, cursor, "COUNT", _CLAIMED_AT_ONCE, "JUSTID"
            )
            cursor = reply[0]
            taken += reply[1]
            trimmed += reply[2] if len(reply) > 2 else []
            if cursor == b"0-0":
                return taken, trimmed

    async def acknowledge(self, ids: list[bytes]) -> None:
        """Tell that entries are dealt with; those told of are removed from the list."""
        while ids:
            piece = ids[:_ACKNOWLEDGED_AT_ONCE]
            await self._send("XACK", self.key, self.group, *piece)
            del ids[: len(piece)]

    async def give_back(self, ids: Iterable[bytes], deliveries: int, idle_seconds: float) -> None:
        """Let others have entries at once, as delivered so many times."""
        options = ("IDLE", round(idle_seconds * 1000), "RETRYCOUNT", deliveries, "JUSTID")
        await self._send("XCLAIM", self.key, self.group, self.consumer, 0, *ids, *options)

    async def unread(self) -> Unread | None:
        """Return what was trimmed behind the last entry read and before the first there is."""
        groups = await self._send("XINFO GROUPS", self.key)
        found = [_pairs(one) for one in groups]
        read = next((one for one in found if one[b"name"] == self.group.encode()), None)
        if read is None or read[b"last-delivered-id"] == b"0-0":
            return None
        stream = _pairs(await self._send("XINFO STREAM", self.key))
        last: bytes = read[b"last-delivered-id"]
        first = stream[b"first-entry"][0] if stream[b"first-entry"] else None
        newest: bytes = stream[b"last-generated-id"]
        if order(newest) <= order(last) or (first and order(first) <= order(last)):
            return None
        return _gap(read, stream, last, first or newest)

    async def drop_connections(self) -> None:
        """Connect anew from now on."""
        await drop_connections(self._client)

    async def aclose(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _send(self, *words: Any) -> Any:
        return await self._client.execute_command(*words)


def _gap(
    read: dict[bytes, Any], stream: dict[bytes, Any], last: bytes, before: bytes
) -> Unread | None:
    """Count the entries between the last one read and the first one left.

    Servers that do not count entries cannot tell; then neither do we.
    """
    ever = stream.get(b"entries-added")
    done = read.get(b"entries-read")
    if ever is None or done is None:
        deleted = stream.get(b"max-deleted-entry-id", b"0-0")
        return Unread(-1, last, before) if order(deleted) > order(last) else None
    count = ever - stream[b"length"] - done
    return Unread(count, last, before) if count > 0 else None


def unique_name() -> str:
    """Return a name for a consumer that nobody else has, and that tells where it runs."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_gone(error: failures.ResponseError) -> bool:
    """Whether an error says that the stream or its group has been removed."""
    return str(error).startswith("NOGROUP")


def is_interrupted(error: failures.ResponseError) -> bool:
    """Whether an error only says that the server has ended the waiting, as in a failover."""
    return str(error).startswith("UNBLOCKED")


def order(entry_id: bytes) -> tuple[int, int]:
    """Return an id as what it is compared by: milliseconds since 1970, and a sequence."""
    moment, _, sequence = entry_id.partition(b"-")
    return int(moment), int(sequence or 0)


def _raw(response: Any, **kwargs: Any) -> Any:
    return response


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _text(value: bytes | str) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value

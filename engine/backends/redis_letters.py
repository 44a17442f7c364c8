"""Dead letters in Redis: a sorted set of their names in the order of arrival, and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from engine.backends.redis_keys import DEAD_LETTERS
from engine.backends.redis_store import Store
from engine.repository import DeadLetter

MOST_LETTERS: Final = 10_000
"""The oldest beyond so many are dropped."""

_BODIES: Final = f"{DEAD_LETTERS}:bodies"
_COUNT: Final = f"{DEAD_LETTERS}:count"

_decoder = msgspec.json.Decoder(DeadLetter)


async def write_letters(store: Store, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters, each once; the text first, so that none stands without one."""
    if not letters:
        return
    [last, *_] = await store.send([("INCRBY", _COUNT, len(letters)), ("EXPIRE", _COUNT, store.ttl)])
    commands: list[tuple[Any, ...]] = []
    for number, letter in enumerate(letters, int(last) - len(letters) + 1):
        name = sha256(
            f"{letter.source}\0{letter.position}\0{letter.sha256}".encode(errors="backslashreplace")
        ).hexdigest()
        plain = letter.source.encode(errors="backslashreplace").decode()
        text = msgspec.json.encode(msgspec.structs.replace(letter, source=plain))
        commands += [
            ("HSETNX", _BODIES, name, text),
            ("ZADD", DEAD_LETTERS, "NX", number, name),
        ]
    commands += [("EXPIRE", key, store.ttl) for key in (DEAD_LETTERS, _BODIES)]
    commands.append(("ZRANGE", DEAD_LETTERS, 0, -MOST_LETTERS - 1))
    oldest = (await store.send(commands))[-1]
    if oldest:
        await store.send([("ZREM", DEAD_LETTERS, *oldest), ("HDEL", _BODIES, *oldest)])


async def count_letters(store: Store) -> int:
    """Return the number of dead letters, by a command that an observer may use."""
    [count] = await store.send([("HLEN", _BODIES)])
    return int(count)


async def read_letters(store: Store, after: int, limit: int) -> list[DeadLetter]:
    """Return a page of dead letters."""
    if limit <= 0:
        return []
    [names] = await store.send([("ZRANGE", DEAD_LETTERS, after, after + limit - 1)])
    if not names:
        return []
    [bodies] = await store.send([("HMGET", _BODIES, *names)])
    return [_decoder.decode(body) for body in bodies if body is not None]


def set_aside(key: str, kind: str, place: str, now: datetime) -> DeadLetter:
    """Return the letter about a key that held another type and was renamed."""
    return DeadLetter(
        now,
        "redis",
        key,
        "wrong_type",
        f"a {kind} where a document belongs; it was renamed to {place}",
        "",
        b"",
        sha256(place.encode()).hexdigest(),
        0,
    )


def unreadable(key: str, raw: bytes, why: str, now: datetime) -> DeadLetter:
    """Return the letter that keeps all of a stored value which is about to be replaced."""
    return DeadLetter(
        now,
        "redis",
        key,
        "unreadable_document",
        f"{why}; it was replaced by what is known",
        "",
        raw,
        sha256(raw).hexdigest(),
        len(raw),
    )

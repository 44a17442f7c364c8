"""Whether the account of an observer could write to Redis, found out without writing anything."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import Any

import redis.exceptions as failures

from engine.backends.redis_link import Command, Link
from engine.redis_access import one_node


async def could_write(url: str, answer_seconds: float) -> bool | None:
    """Tell whether an account may write what we write; `None` where the answers do not tell.

    The server is asked to queue commands for a transaction, which is then given up: whether an
    account may, it says when it queues. Where an account may not open a transaction, the
    commands are about a key that nobody has, and leave it so.

    Raises:
        RepositoryUnavailable: The server does not answer.
    """
    key = f"bcs:tui:probe:{secrets.token_hex(16)}"
    probes: list[Command] = [("SET", key, "", "XX"), ("DEL", key), ("HDEL", key, "x")]
    # A connection of its own, closed afterwards: no transaction stays open on one that is used.
    async with aclosing(one_node(url, answer_seconds=answer_seconds)) as client:
        replies = await Link(client, url, answer_seconds).exchange(
            [("MULTI",), *probes, ("DISCARD",)]
        )
    verdicts = [_is_permitted(reply) for reply in replies[1:-1]]
    if any(verdicts):
        return True
    return None if None in verdicts else False


def _is_permitted(reply: Any) -> bool | None:
    """Tell what a reply says of the account: everything else is checked after its rights."""
    if isinstance(reply, failures.NoPermissionError):
        return False
    if isinstance(reply, _AFTER_RIGHTS) or not isinstance(reply, Exception):
        return True
    return None  # e.g. a command that was renamed


_AFTER_RIGHTS = (
    failures.ReadOnlyError,
    failures.MovedError,
    failures.OutOfMemoryError,
)

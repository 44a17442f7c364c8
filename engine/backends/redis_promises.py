"""What a Redis server can promise of its data: how durable, and whether it drops keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis.exceptions as failures
from redis.asyncio import Redis

from engine.redis_access import Client


async def warnings_of(client: Client, *, alone: bool) -> list[str]:
    """Return what an operator should know of a server; nothing where the account may not ask.

    Args:
        client: The server; of a cluster nothing is said.
        alone: Whether there is no archive behind it.
    """
    if not isinstance(client, Redis):
        return []
    try:
        memory, persistence = await client.info("memory"), await client.info("persistence")
    except failures.NoPermissionError:
        return []
    return [*_eviction(memory), *(_durability(persistence) if alone else ())]


def _eviction(memory: Mapping[str, Any]) -> list[str]:
    policy = memory.get("maxmemory_policy", "noeviction")
    if not memory.get("maxmemory") or policy == "noeviction":
        return []
    if not policy.startswith("allkeys-"):  # streams and what waits for an archive never expire
        return [f"Redis drops keys when its memory is full (maxmemory-policy {policy})"]
    return [
        f"Redis drops any key when its memory is full (maxmemory-policy {policy}), also streams "
        "and what waits for PostgreSQL; set volatile-lru or noeviction"
    ]


def _durability(persistence: Mapping[str, Any]) -> list[str]:
    if persistence.get("aof_enabled"):
        return []
    return ["Redis keeps no log of writes (appendonly no): its restart may lose everything"]

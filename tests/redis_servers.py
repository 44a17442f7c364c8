"""Private Redis servers of the tests: one for the whole session, emptied for whoever asks."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import redis

from engine.backends.redis import RedisBatchStateRepository
from engine.clock import Clock
from engine.repository import BatchStateRepository
from engine.servers import PrivateRedis

TTL_SECONDS = 7 * 86_400


def private_redis(options: Mapping[str, str] | None = None) -> PrivateRedis:
    """A server that is not started yet; `BCS_TEST_REDIS_SERVER` names another binary."""
    return PrivateRedis(options, os.environ.get("BCS_TEST_REDIS_SERVER"))


@cache
def shared_redis() -> PrivateRedis:
    """The server of the session."""
    server = private_redis().start()
    atexit.register(server.close)
    return server


_emptied: set[Path] = set()


async def open_redis_backend(directory: Path, clock: Clock | None = None) -> BatchStateRepository:
    """Open the server of the session, empty when a directory is seen for the first time."""
    server = shared_redis()
    if directory not in _emptied:
        _emptied.add(directory)
        empty(server)
    return await RedisBatchStateRepository.open(server.url, clock, ttl_seconds=TTL_SECONDS)


def empty(server: PrivateRedis) -> None:
    """Remove every key."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()

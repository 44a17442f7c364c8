"""Private Redis servers of the tests: one for the whole session, emptied for whoever asks."""

from __future__ import annotations

import atexit
import os
import time
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


def rules_of(user: str) -> str:
    """The rights that the README gives an account."""
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    [line] = [line for line in readme.splitlines() if line.startswith(f"user {user} ")]
    return line.partition("><secret> ")[2]


NOSCRIPT_RULES = rules_of("bcs_ingester").replace("+evalsha +eval ", "")


def url_for(server: PrivateRedis, user: str, rules: str) -> str:
    """The address of a server for an account that has only some rights."""
    with redis.Redis.from_url(server.url) as client:
        words = rules.split()
        client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{server.password}", *words)
    return server.url.replace("redis://:", f"redis://{user}:")


async def open_noscript_backend(
    directory: Path, clock: Clock | None = None
) -> BatchStateRepository:
    """The same server through an account that may run no scripts."""
    await (await open_redis_backend(directory, clock)).aclose()
    url = url_for(shared_redis(), "bcs_ingester_noscript", NOSCRIPT_RULES)
    return await RedisBatchStateRepository.open(url, clock, ttl_seconds=TTL_SECONDS)


@cache
def shared_cluster() -> list[PrivateRedis]:
    """Three nodes of a cluster, for the whole session."""
    nodes = [private_redis({"cluster-enabled": "yes"}) for _ in range(3)]
    for node in nodes:
        node.password = nodes[0].password
        node.start()
        atexit.register(node.close)
    clients = [redis.Redis.from_url(node.url) for node in nodes]
    for number, client in enumerate(clients):
        first, last = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    deadline = time.monotonic() + 30
    while not all(is_whole(client.execute_command("CLUSTER", "INFO")) for client in clients):
        assert time.monotonic() < deadline, "the cluster does not come together"
        time.sleep(0.05)
    for client in clients:
        client.close()
    return nodes


def is_whole(info: bytes) -> bool:
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


async def open_cluster_backend(directory: Path, clock: Clock | None = None) -> BatchStateRepository:
    """A cluster, empty when a directory is seen for the first time."""
    nodes = shared_cluster()
    if directory not in _emptied:
        _emptied.add(directory)
        for node in nodes:
            empty(node)
    return await RedisBatchStateRepository.open(nodes[0].url, clock, ttl_seconds=TTL_SECONDS)

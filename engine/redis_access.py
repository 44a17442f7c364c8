"""A Redis server or cluster reached on our terms: nothing retried in secret, nothing unbounded.

redis-py tries a failed command again by itself, also one that the server has executed: a write
would happen twice and an outage stay hidden for seconds. Whoever calls decides that here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import redis.exceptions as failures
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from engine.errors import BCSError, RepositoryUnavailable
from engine.transport import tls_trouble

Client: TypeAlias = Redis | RedisCluster
"""Replies are bytes, never text: stored values need not be UTF-8."""

ANSWER_SECONDS: Final = 3.0
"""How long a connection, and any single answer, may take."""


async def open_redis(
    url: str,
    *,
    answer_seconds: float = ANSWER_SECONDS,
    kind: type[BCSError] = RepositoryUnavailable,
) -> Client:
    """Connect to the server of a URL, or to the cluster that it is a node of.

    Args:
        url: `redis://`, `rediss://` (TLS 1.2 or newer) or `unix://`.
        answer_seconds: The bound of every connection attempt and answer.
        kind: The error to raise.

    Raises:
        RepositoryUnavailable: It does not answer, or not to us.
    """
    options = _options(url, answer_seconds)
    client: Client = one_node(url, answer_seconds=answer_seconds)
    try:
        with explained(url, kind):
            cluster = await client.info("cluster")
            if not cluster.get("cluster_enabled"):
                return client
            await client.aclose()
            place = parse_url(url)
            place.pop("db", None)
            if place.pop("connection_class", None) is not None:
                options["ssl"] = True
            client = RedisCluster(**{**place, **options})
            await client.initialize()
            return client
    except BaseException:
        await client.aclose()
        raise


def one_node(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> Redis:
    """Return a client of the one server that a URL names, also where it is part of a cluster.

    Nothing is sent yet. It is enough for pub/sub, which every node carries.
    """
    options = _options(url, answer_seconds)
    return Redis.from_url(url, single_connection_client=False, **options)


async def drop_connections(client: Client) -> None:
    """Let go of pooled connections: after a failover they still lead to the old master.

    A cluster's client looks up its nodes by itself.
    """
    if isinstance(client, Redis):
        with suppress(failures.RedisError, OSError):
            await client.connection_pool.disconnect()


def _options(url: str, answer_seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
        "driver_info": None,  # an account need not be allowed CLIENT SETINFO
        "protocol": 2,
    }
    if urlsplit(url).scheme == "rediss":
        options["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
    return options


@contextmanager
def explained(
    url: str, kind: type[BCSError] = RepositoryUnavailable, do: str = "check BCS_REDIS_URL"
) -> Iterator[None]:
    """Say in one line, without any secret, what a server's or the network's failure means.

    What is about data, e.g. a key of another type, passes through as redis-py raises it.

    Args:
        url: Where the server is; a password in it is not shown.
        kind: The error to raise.
        do: What helps where the server cannot be reached or refuses the account.
    """
    if url.startswith("rediss://"):
        do = f"{do}, and that it speaks TLS"
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
    except (failures.RedisError, OSError) as error:
        words = trouble(error, do)
        if words is None:
            raise
        raise kind(f"Redis at {place_of(url)} {words}") from _cause(error)
    if task and task.cancelling() > cancelled:
        # Before Python 3.12 `wait_for`, with which redis-py sends, may lose a cancellation.
        raise asyncio.CancelledError


def place_of(url: str) -> str:
    """Return host and port, or the path of a socket."""
    parts = urlsplit(url)
    account_free = parts.netloc.rpartition("@")[2]
    return account_free or parts.path


def trouble(error: Exception, do: str) -> str | None:
    """Return what is wrong with the server or the way to it; `None` if it is about data."""
    if isinstance(error, failures.AuthenticationError | failures.AuthorizationError):
        return f"refuses the account; {do}"
    if isinstance(error, failures.NoPermissionError):
        return f"does not permit this: {error}; grant it to the account (README, Production)"
    if isinstance(error, failures.BusyLoadingError):
        return "is loading its data; it will answer soon"
    if isinstance(error, failures.ReadOnlyError):
        return "is read-only, perhaps after a failover; writing is tried again"
    if isinstance(error, failures.OutOfMemoryError):
        return "is full (maxmemory); free memory or raise the limit"
    if words := tls_trouble(error):
        return words
    if isinstance(error, failures.ConnectionError | failures.TimeoutError | OSError):
        return f"cannot be reached ({_reason(error)}); {do}"
    if isinstance(error, failures.RedisClusterException):
        return f"is a cluster that cannot be used ({_reason(error)}); look at its nodes"
    if isinstance(error, failures.ResponseError) and "DB index" in str(error):
        return "has no database of the number at the end of the URL; name one that it has"
    code = str(error).split(" ", 1)[0]
    if isinstance(error, failures.ResponseError) and code in _REFUSALS:
        return _REFUSALS[code]
    return None


_REFUSALS: Final = {
    "MISCONF": "refuses writes since it cannot save them; look at its disk",
    "NOREPLICAS": "refuses writes since too few replicas follow it",
    "CLUSTERDOWN": "is a cluster that is down; look at its nodes",
    "TRYAGAIN": "is moving keys between its nodes; writing is tried again",
    "MASTERDOWN": "has lost its master; look at its replication",
    "BUSY": "is busy with a script; it will answer soon",
}


def _reason(error: Exception) -> str:
    if isinstance(error, failures.TimeoutError | TimeoutError):
        return "no answer in time"
    words = str(error).split("\n", 1)[0].rstrip(".")
    # "Error 111 connecting to 127.0.0.1:6379. Connect call failed (…)": the place is said already.
    return words.split(". ", 1)[-1] if words.startswith("Error ") else words or type(error).__name__


def _cause(error: Exception) -> Exception:
    """Return the cause that the command line turns into its exit code."""
    refused = (
        failures.AuthenticationError, failures.AuthorizationError, failures.NoPermissionError
    )  # fmt: skip
    return PermissionError(str(error)) if isinstance(error, refused) else error

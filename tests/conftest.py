"""Every backend as a fixture: what `test_repository.py` says, all of them do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from redis_servers import (
    TTL_SECONDS,
    open_cluster_backend,
    open_noscript_backend,
    open_redis_backend,
    shared_redis,
)
from servers import database_of

from engine.backends.archived import RedisCachedBatchStateRepository
from engine.backends.mock import MockBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.clock import Clock
from engine.repository import BatchStateRepository
from engine.servers import PrivateRedis

OpenRepository: TypeAlias = Callable[[Path, Clock | None], Awaitable[BatchStateRepository]]

settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


async def open_mock(directory: Path, clock: Clock | None = None) -> BatchStateRepository:
    return MockBatchStateRepository(clock)


async def open_sqlite(directory: Path, clock: Clock | None = None) -> BatchStateRepository:
    return await SqliteBatchStateRepository.open(directory / "repository.db", clock)


async def open_postgres(directory: Path, clock: Clock | None = None) -> BatchStateRepository:
    return await PostgresBatchStateRepository.open(await database_of(directory), clock)


async def open_both(directory: Path, clock: Clock | None = None) -> BatchStateRepository:
    """Open databases of its own on both servers: the parts alone are told the same facts."""
    await (await open_redis_backend(directory, clock)).aclose()
    own = directory / "both"
    own.mkdir(exist_ok=True)
    return await RedisCachedBatchStateRepository.open(
        shared_redis().url.removesuffix("/0") + "/1",
        await database_of(own),
        clock,
        ttl_seconds=TTL_SECONDS,
    )


BACKENDS: dict[str, OpenRepository] = {
    "mock": open_mock,
    "sqlite": open_sqlite,
    "postgres": open_postgres,
    "redis": open_redis_backend,
    "redis+postgres": open_both,
}

VARIANTS: dict[str, OpenRepository] = {
    "redis-noscript": open_noscript_backend,
    "redis-cluster": open_cluster_backend,
}
"""Other ways to the same backends: the contract holds there too."""

SLOW = {"redis+postgres", *VARIANTS}
"""What is made of parts that are tested by themselves: left out on the second Python."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in BACKENDS | VARIANTS
    ],
    scope="session",
)
def open_repository(request: pytest.FixtureRequest) -> OpenRepository:
    """How one backend is opened in a directory of its own."""
    return (BACKENDS | VARIANTS)[request.param]


@pytest.fixture
async def repository(
    open_repository: OpenRepository, tmp_path: Path
) -> AsyncIterator[BatchStateRepository]:
    """One backend, empty."""
    opened = await open_repository(tmp_path, None)
    yield opened
    await opened.aclose()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateRedis]:
    """One Redis for the tests that empty it first and do it no harm."""
    with PrivateRedis() as server:
        yield server

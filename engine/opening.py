"""Joining the parts: the only place where settings become a repository and an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from engine.clock import Clock
from engine.engine import Engine
from engine.errors import SettingsError
from engine.feeds.port import Feed
from engine.repository import BatchStateRepository
from engine.settings import Settings


@asynccontextmanager
async def open_repository(
    settings: Settings, clock: Clock | None = None, *, read_only: bool = False
) -> AsyncIterator[BatchStateRepository]:
    """Open the repository that the settings select, and close it afterwards.

    Raises:
        SettingsError: The selected backend cannot be used as configured.
        RepositoryError: The backend refuses.
    """
    repository = await _open(settings, clock, read_only)
    try:
        yield repository
    finally:
        await repository.aclose()


async def _open(settings: Settings, clock: Clock | None, read_only: bool) -> BatchStateRepository:
    backend = settings.backend
    if backend == "mock":
        from engine.backends.mock import MockBatchStateRepository

        return MockBatchStateRepository(clock, settings.ttl_days)
    if backend == "sqlite":
        from engine.backends.sqlite import SqliteBatchStateRepository

        path = str(settings.SQLITE_PATH)
        return await SqliteBatchStateRepository.open(path, clock, read_only=read_only)
    raise SettingsError(
        "the Redis backend is not available in this version; "
        "use --backend sqlite --sqlite-path FILE, or --backend mock"
    )


@asynccontextmanager
async def open_engine(
    settings: Settings,
    feed: Feed | None = None,
    clock: Clock | None = None,
    *,
    patience_seconds: float | None = None,
    headless: bool = False,
) -> AsyncIterator[Engine]:
    """Open the selected repository, join it with a feed, and close both afterwards.

    Args:
        settings: Which backend, and how.
        feed: Where envelopes come from; closed here.
        clock: The time that ages are counted to.
        patience_seconds: How long an unavailable repository is tried again; `None`: for ever.
        headless: Nobody will look: there is the account of events, and no views.

    Raises:
        SettingsError: The selected backend cannot be used as configured.
        RepositoryError: The backend refuses.
    """
    async with AsyncExitStack() as stack:
        if feed is not None:
            stack.push_async_callback(feed.aclose)
        repository = await stack.enter_async_context(open_repository(settings, clock))
        yield Engine(
            repository,
            feed,
            clock,
            stall_seconds=settings.STALL_SECONDS,
            patience_seconds=patience_seconds,
            headless=headless,
        )

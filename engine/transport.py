"""How the way to a server is protected: decided from the settings, before anything is sent.

Off this machine a password goes only to a server that has proved by its certificate who it is,
unless the operator says that the network can be trusted (`INSECURE_TLS`).
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from engine.errors import SettingsError

SYSTEM_CAS: Final = "system"
"""In place of a file of certificates (`sslrootcert`): those that this machine trusts."""

_INSECURE: Final = "or set BCS_INSECURE_TLS=true (--insecure-tls) where you trust the network"

_REDIS_QUERY: Final = frozenset(
    {"db", "username", "password", "client_name", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile"}
    | {"ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"}
)
_OTHER_NAMES: Final = (62, 63, 64)
"""OpenSSL's codes of a certificate that is for another host, mail address or IP address."""

_FALSE: Final = ("0", "f", "false", "n", "no")
_SENTINEL: Final = (
    "Sentinel is not supported; name the master itself, redis://host:port/0, or a node of a cluster"
)


class Certificates(NamedTuple):
    """Files: the authorities that are trusted, and what we show of ourselves."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Way(NamedTuple):
    """The way to a server: its URL as drivers take it, and how it is protected, in words."""

    url: str
    words: str
    is_safe: bool = True


def refuse_sentinel(name: str) -> None:
    """Refuse a scheme, or an option, that speaks of Sentinel.

    Raises:
        ValueError: Says what to do.
    """
    if "sentinel" in name.lower():
        raise ValueError(_SENTINEL)


def check_redis_query(url: str) -> None:
    """Refuse what the client would take for one of its own options, and Sentinel.

    Raises:
        ValueError: The URL holds such a thing; says what to do, shows no value.
    """
    names = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)).keys()
    for name in names:
        refuse_sentinel(name)
    unknown = sorted(names - _REDIS_QUERY)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r} behind '?'; leave it out")


def way_to_redis(url: str, files: Certificates, *, insecure: bool) -> Way:
    """Return the way to Redis.

    Raises:
        SettingsError: A password would not be safe on it, or a file is not usable.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    is_local = parts.scheme == "unix" or _is_here(parts.hostname or "localhost")
    if parts.scheme != "rediss":
        has_password = bool(parts.password or query.get("password"))
        return _in_the_clear(url, is_local, has_password, insecure)
    query = _with_files(query, files, ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    _check_files("BCS_REDIS_URL", query, ("ssl_ca_certs", "ssl_certfile"), "ssl_keyfile")
    url = _with_query(url, query)
    is_checked = (
        query.get("ssl_cert_reqs", "required") == "required"
        and query.get("ssl_check_hostname", "true").lower() not in _FALSE
    )
    if is_checked:
        return Way(url, "TLS, the server's certificate is checked")
    if not is_local and not insecure:
        raise SettingsError(
            "BCS_REDIS_URL: ssl_cert_reqs and ssl_check_hostname are not to be turned off; name "
            f"the server's CA in BCS_TLS_CA, {_INSECURE}"
        )
    return Way(url, _unchecked(is_local), is_local)


def _in_the_clear(url: str, is_local: bool, has_password: bool, insecure: bool) -> Way:
    if is_local:
        return Way(url, "not encrypted, on this machine")
    if not has_password:
        return Way(url, "not encrypted; the URL has no password to protect")
    if not insecure:
        raise SettingsError(
            f"BCS_REDIS_URL: the password would be sent unencrypted; use rediss://, {_INSECURE}"
        )
    return Way(url, "not encrypted, as BCS_INSECURE_TLS allows", False)


def way_to_postgres(url: str, files: Certificates, *, insecure: bool) -> Way:
    """Return the way to PostgreSQL; off this machine the server's certificate is checked.

    Raises:
        SettingsError: The URL asks for less, or a file is not usable.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    is_local = all(map(_is_here, _postgres_hosts(parts, query)))
    mode = query.get("sslmode", "")
    if not mode and not is_local and not insecure:
        mode = query["sslmode"] = "verify-full"
    if mode == "verify-full" and not (query.get("sslrootcert") or files.ca or _named_elsewhere()):
        query["sslrootcert"] = SYSTEM_CAS
    query = _with_files(query, files, ("sslrootcert", "sslcert", "sslkey"), wanted=mode)
    _check_files("BCS_DATABASE_URL", query, ("sslrootcert", "sslcert"), "sslkey")
    url = _with_query(url, query)
    if mode == "verify-full":
        return Way(url, "TLS, the server's certificate is checked")
    if is_local:
        return Way(url, "not protected, on this machine")
    if not insecure:
        raise SettingsError(
            f"BCS_DATABASE_URL: sslmode={mode} does not make sure who the server is; use "
            f"verify-full, {_INSECURE}"
        )
    return Way(url, f"sslmode {mode or 'prefer'}, as BCS_INSECURE_TLS allows", False)


def _unchecked(is_local: bool) -> str:
    allowed = "on this machine" if is_local else "as BCS_INSECURE_TLS allows"
    return f"TLS, the server's certificate is not checked, {allowed}"


def _is_here(host: str) -> bool:
    """Whether a host is this machine: a loopback address, or the path of a socket."""
    if host == "localhost" or host.endswith(".localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _postgres_hosts(parts: SplitResult, query: Mapping[str, str]) -> list[str]:
    """Return every host to which the driver may connect; as it does, also by the environment."""
    if "service" in query or ("PGSERVICE" in os.environ and not parts.hostname):
        return ["a service of some file"]
    places = parts.netloc.rpartition("@")[2] or query.get("host") or os.environ.get("PGHOST", "")
    return [_host_of(place) for place in places.split(",")]


def _host_of(place: str) -> str:
    """Return the host of `host:port` or `[address]:port`; without one it is a local socket."""
    host = place.partition("]")[0][1:] if place.startswith("[") else place.partition(":")[0]
    return host or "localhost"


def _named_elsewhere() -> bool:
    """Whether the driver finds certificates of authorities where libpq looks for them."""
    return "PGSSLROOTCERT" in os.environ or Path("~/.postgresql/root.crt").expanduser().exists()


def _with_files(
    query: Mapping[str, str], files: Certificates, names: tuple[str, str, str], wanted: str = "yes"
) -> dict[str, str]:
    """Return a query with the files of the settings, where the URL names none of its own."""
    if wanted in ("", "disable"):
        return dict(query)
    ours = zip(names, files, strict=True)
    return {name: str(path.absolute()) for name, path in ours if path is not None} | dict(query)


def _check_files(where: str, query: Mapping[str, str], public: tuple[str, ...], key: str) -> None:
    """Refuse files that are not there, and a key that others may read.

    Raises:
        SettingsError: Names the file and what to do.
    """
    for name in (*public, key):
        path = query.get(name)
        if not path or path == SYSTEM_CAS:
            continue
        try:
            about = os.stat(path)
            with open(path, "rb"):
                pass
        except OSError as error:
            raise SettingsError(
                f"{where}: {path} ({name}) cannot be read: {error.strerror}"
            ) from None
        # As libpq has it: a group may read the key of a service that root owns.
        others = stat.S_IRWXO | (stat.S_IRWXG if about.st_uid else stat.S_IWGRP | stat.S_IXGRP)
        if name == key and about.st_mode & others:
            raise SettingsError(f"{where}: others can read the key {path}; chmod 600 it")


def _with_query(url: str, query: Mapping[str, str]) -> str:
    place = url.partition("?")[0]
    return f"{place}?{urlencode(query)}" if query else place


def tls_trouble(error: BaseException) -> str | None:
    """Return what is wrong with a server's TLS and what to do; `None` if it is something else."""
    if "rejected SSL upgrade" in str(error):  # as PostgreSQL's driver puts it
        return f"offers no TLS; let it, {_INSECURE}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message.rstrip(".")
        is_other_name = cause.verify_code in _OTHER_NAMES
        do = "use a name that is in it" if is_other_name else "name its CA in BCS_TLS_CA"
        return f"has a certificate that does not prove who it is ({why}); {do}"
    if isinstance(cause, ssl.SSLError):
        return f"does not speak TLS as we do ({cause.reason or 'handshake failed'}); check the port"
    return None

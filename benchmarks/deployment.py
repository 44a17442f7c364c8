"""What the benchmarks of a whole deployment share: both servers, known essays, CPU by process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from engine import Settings
from engine.models import RegistrationFact
from engine.servers import PrivatePostgres, PrivateRedis

START = datetime(2026, 2, 3, 8, tzinfo=UTC)
_TICKS = os.sysconf("SC_CLK_TCK")


class Servers(NamedTuple):
    """Both servers, private and on this machine."""

    redis: PrivateRedis
    postgres: PrivatePostgres

    @property
    def settings(self) -> Settings:
        """The settings that name them."""
        return Settings(
            REDIS_URL=SecretStr(self.redis.url), DATABASE_URL=SecretStr(self.postgres.url)
        )


@contextmanager
def servers() -> Iterator[Servers]:
    """Start both servers, and stop them afterwards."""
    with PrivateRedis() as redis, PrivatePostgres() as postgres:
        yield Servers(redis, postgres)


def batch_id(number: int) -> str:
    return f"{number:08x}-b247-4158-a83b-ba51bea27dc0"


def essay_id(batch: int, number: int) -> str:
    return f"{batch:08x}-{number:04x}-4952-8d4f-{number:012x}"


def registration(batch: int, essays: int, moment: datetime = START) -> RegistrationFact:
    """Return the registration of a batch with all of its essays."""
    names = tuple(essay_id(batch, number) for number in range(essays))
    return RegistrationFact(batch_id(batch), essays, names, moment)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its children have spent."""
    pids, spent = [pid], 0.0
    for one in pids:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        spent += sum(map(int, fields[11:15])) / _TICKS
        pids += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return spent

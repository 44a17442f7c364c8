"""The dashboard under a load of its own making: run by `dashboard.py` in a pseudo-terminal.

Arguments: batches, essays per batch, events per second, and the file that is told when how
many events had been handed over, and what making their bytes has cost by then (monotonic
nanoseconds, count, nanoseconds of processor time, a line each).
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bcs_tui.__main__ import COLLECT_AFTER
from bcs_tui.commands.dashboard import run_on_screen
from engine import Engine, Envelope, Feed, SystemClock
from engine.backends.mock import MockBatchStateRepository
from engine.bounds import identifier, identifiers
from engine.models import RegistrationFact

_RESULT = (  # number, time, essay and batch, time
    b'{"event_id": "00000000-0000-4000-8000-%012d", "event_type": '
    b'"huleedu.batch.spellcheck.phase.completed.v1", "event_timestamp": "%b", '
    b'"source_service": "spell-checker-service", "schema_version": 1, "correlation_id": '
    b'"16085cb5-8d00-4455-86f9-78ed61dc3adc", "data_schema_uri": null, "data": {"entity_id": '
    b'"%b", "correlation_id": "16085cb5-8d00-4455-86f9-78ed61dc3adc", '
    b'"status": "completed", "corrected_text_storage_id": "2f8ac72338d345408f91971a517853c1", '
    b'"error_code": null, "processing_duration_ms": 1581, "timestamp": "%b"}, "metadata": {}}'
)


def batch_id(number: int) -> str:
    return f"{number:08x}-b247-4158-a83b-ba51bea27dc0"


def essay_id(batch: int, number: int) -> str:
    return f"{batch:08x}-{number:04x}-4952-8d4f-{number:012x}"


class Load(Feed):
    """Results at a steady rate, round robin over all batches."""

    name = "load"

    def __init__(self, batches: int, essays: int, rate: float, told: str) -> None:
        self._ids = [
            f'{essay_id(batch, number)}", "batch_id": "{batch_id(batch)}'.encode()
            for number in range(min(essays, 4))
            for batch in range(batches)
        ]
        self._rate = rate
        self._told = Path(told)
        self._handings: list[str] = []
        self._start = 0.0
        self._handed = 0
        self._spent = 0

    async def read(self) -> list[Envelope] | None:
        if not self._start:
            self._start = time.monotonic()
        due = 0
        while due <= 0:  # like a socket: what has come in since the last look
            await asyncio.sleep(0.005 if self._rate else 3600)
            due = int((time.monotonic() - self._start) * self._rate) - self._handed
        numbers = range(self._handed, self._handed + min(due, 1000))
        begin = time.thread_time_ns()
        stamp = datetime.now(UTC).isoformat().encode()
        ids, size = self._ids, len(self._ids)
        raws = [_RESULT % (number, stamp, ids[number % size], stamp) for number in numbers]
        self._spent += time.thread_time_ns() - begin
        self._handed += len(raws)
        self._handings.append(f"{time.monotonic_ns()} {self._handed} {self._spent}\n")
        if len(self._handings) >= 100:
            with self._told.open("a") as file:
                file.writelines(self._handings)
            self._handings.clear()
        return [Envelope(raw, str(number)) for number, raw in zip(numbers, raws, strict=True)]

    async def aclose(self) -> None:
        """Nothing was opened."""


async def main() -> int:
    batches, essays, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    repository = MockBatchStateRepository()
    now = datetime.now(UTC)
    for batch in range(batches):
        # The very objects that parsing will use, as if the registrations had been parsed.
        name = identifier(batch_id(batch), "batch_id")
        ids = identifiers([essay_id(batch, number) for number in range(essays)], "essay_ids")
        await repository.record([RegistrationFact(name, essays, ids, now, "load")])
    engine = Engine(repository, Load(batches, essays, rate, sys.argv[4]), SystemClock())
    return await run_on_screen(engine, "load")


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)  # as the command line does
    sys.exit(asyncio.run(main()))

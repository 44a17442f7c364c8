"""`watch` on a deployment of 10,000 batches, in a pseudo-terminal, while another process writes.

The other process records results at a steady pace, and now and then a change to the batch on
top of the screen that no other change looks like. Both clocks are the machine's monotonic one.
Run as `watch.py write ...` it is that other process.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import deployment
from dashboard import Terminal, percentile
from deployment import Servers, batch_id, essay_id, registration
from measure import VECTOR, report

from engine import Envelope, Feed, Settings, open_engine
from engine.backends.postgres_schema import migrate
from engine.models import FAILED, Fact, StepFact
from engine.opening import open_repository

BATCHES, ESSAYS = 10_000, 20
RATE, MARKS_PER_SECOND = 5_000, 10
SECONDS = float(os.environ.get("SECONDS", "90"))
SAMPLES = int(os.environ.get("SAMPLES", "300"))
"""So many changes are waited for, but no longer than `SECONDS`."""

STARTS = int(os.environ.get("STARTS", "5"))
TOP = 10_000_000
"""The number of the batch on top of the screen; the others count from 0."""

FEWEST = {200: 1_000, BATCHES - 1: 5_000}
"""By active batches: how many essays the first change expects there. Each expects one more."""

_RESULT = b"huleedu.batch.spellcheck.phase.completed.v1"
_REGISTRATION = b"huleedu.batch.essays.registered.v1"


class Load(Feed):
    """Results round robin over the active batches, and changes of the batch on top."""

    name = "load"

    def __init__(self, active: int, seconds: float, told: Path) -> None:
        self._told = told
        self._results = endless_results(active)
        self._seconds = seconds
        self._expected = FEWEST[active]
        self._start = 0.0
        self._handed = self._marks = 0
        self._handings: list[str] = []
        self._last = ""

    async def read(self) -> list[Envelope] | None:
        if not self._start:
            self._start = time.monotonic()
        due = 0
        while due <= 0:  # like a socket: what has come in since the last look
            await asyncio.sleep(0.005)
            passed = time.monotonic() - self._start
            due = int(passed * RATE) - self._handed
        if passed > self._seconds or self._marks >= SAMPLES:
            self._told.write_text("\n".join(self._handings))
            return None
        due = min(due, 1000)
        chunk = [Envelope(next(self._results), str(self._handed)) for _ in range(due)]
        self._handed += due
        if passed * MARKS_PER_SECOND > self._marks:
            self._marks += 1
            self._expected += 1
            chunk.append(Envelope(change(self._expected), str(self._handed)))
            self._last = f"{self._expected} {time.monotonic()}"
        return chunk

    async def acknowledge(self, ahead: int = 0) -> None:
        if self._last:
            self._handings.append(f"{self._last} {time.monotonic()}")
        self._last = ""

    async def aclose(self) -> None:
        """Nothing was opened."""


def recorded(kind: bytes) -> tuple[bytes, dict[str, object]]:
    """Return a real envelope of a kind, as it is and decoded."""
    line = next(line for line in VECTOR.read_bytes().splitlines() if kind in line)
    return line, json.loads(line)


def endless_results(active: int) -> Iterator[bytes]:
    line, told = recorded(_RESULT)
    data = told["data"]
    while True:
        for number in range(ESSAYS):
            for batch in range(active):
                yield (
                    line.replace(data["timestamp"].encode(), stamp())
                    .replace(told["event_id"].encode(), str(uuid4()).encode())
                    .replace(data["entity_id"].encode(), essay_id(batch, number).encode())
                    .replace(data["batch_id"].encode(), batch_id(batch).encode())
                )


def change(expected: int) -> bytes:
    """Return a registration of the batch on top that expects so many essays."""
    _, told = recorded(_REGISTRATION)
    data = told["data"]
    data.update(expected_essay_count=expected, essay_ids=[essay_id(TOP, 0)])
    data["entity_id"] = data["metadata"]["entity_id"] = batch_id(TOP)
    told.update(event_id=str(uuid4()), event_timestamp=stamp().decode())
    return json.dumps(told).encode()


def stamp() -> bytes:
    return datetime.now(UTC).isoformat().encode()


async def write(active: int, seconds: float, told: Path) -> None:
    """Be the other process."""
    feed = Load(active, seconds, told)
    async with open_engine(Settings(), feed, headless=True) as engine:
        await engine.run()
    assert engine.health.dead_letters == 0, engine.health


async def fill(servers: Servers) -> None:
    """Have all batches known, each with a result that has just come; the top one with failures."""
    now = datetime.now(UTC)
    async with open_repository(servers.settings) as repository:
        for first in range(0, BATCHES - 1, 200):
            numbers = range(first, min(first + 200, BATCHES - 1))
            facts: list[Fact] = [registration(number, ESSAYS, now) for number in numbers]
            facts += [result(number, 0, now) for number in numbers]
            await repository.record(facts)
        top = [result(TOP, number, now, FAILED) for number in range(9)]
        await repository.record([registration(TOP, ESSAYS, now), *top])


def result(batch: int, number: int, moment: datetime, outcome: int = 2) -> StepFact:
    essay = essay_id(batch, number)
    return StepFact(batch_id(batch), essay, "nlp", outcome, moment, str(uuid4()), 2, "{}")


def watch() -> Terminal:
    return Terminal(sys.executable, "-m", "bcs_tui", "watch")


def start() -> None:
    times, spent = [], []
    first = watch()  # compiles what nobody has started yet
    first.wait_for(f"/{BATCHES:,}".encode())
    first.close()
    for _ in range(STARTS):
        terminal = watch()
        times.append(terminal.wait_for(f"/{BATCHES:,}".encode()) - terminal.started)
        spent.append(terminal.cpu_seconds())
        terminal.close()
    median = statistics.median(times)
    report(f"watch, start on {BATCHES:,} batches", f"{median:.2f} s", "<= 2 s", median <= 2)
    report("  CPU of ours until then", f"{statistics.median(spent):.2f} s", "-", True)


def changes(active: int, place: Path) -> None:
    """Measure how long a change is under way while so many batches are active."""
    terminal = watch()
    terminal.wait_for(f"/{BATCHES:,}".encode())
    terminal.pump(3)
    began = len(terminal.output)
    words = (sys.executable, __file__, "write", active, SECONDS, place)
    writer = subprocess.Popen([str(word) for word in words])
    cpu, since = terminal.cpu_seconds(), time.monotonic()
    while writer.poll() is None:
        terminal.pump(0.1)
    share = (terminal.cpu_seconds() - cpu) / (time.monotonic() - since)
    terminal.pump(2)
    delays, after, written = [], [], []
    top = batch_id(TOP)[:8].encode()
    seen = float("inf")  # a change is on the screen with the one after it, at the latest
    for line in reversed(place.read_text().splitlines()):
        expected, handed, recorded_at = line.split()
        # Other rows show numbers as well.
        found = re.compile(rb"%b.{0,160}? %b\b" % (top, expected.encode()), re.DOTALL).search(
            terminal.output, began
        )
        if found:
            seen = min(seen, terminal.moment_of(found.end()))
        if seen < float("inf"):
            delays.append(seen - float(handed))
            after.append(seen - float(recorded_at))
            written.append(float(recorded_at) - float(handed))
    terminal.close()
    print(f"{active:,} active batches: {len(delays)} changes seen")
    report("  CPU of watch at 5,000 events/s", f"{share:.0%} of a core", "-", True)
    if not delays:
        report("  written to on another's screen", "never", "<= 300 ms", False)
        return
    for name, times, target in (
        ("handed over to recorded", written, None),
        ("recorded to on another's screen", after, 0.3),
        ("handed over to on another's screen", delays, 0.3),
    ):
        slow = percentile(times, 0.99)
        figure = f"{slow * 1000:.0f} ms ({statistics.median(times) * 1000:.0f} ms)"
        wanted = "-" if target is None else f"<= {target * 1000:.0f} ms"
        report(f"  {name}, p99 (p50)", figure, wanted, target is None or slow <= target)


def main() -> None:
    if sys.argv[1:2] == ["write"]:
        asyncio.run(write(int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
        return
    with deployment.servers() as servers, TemporaryDirectory() as folder:
        os.environ["BCS_REDIS_URL"] = servers.redis.url
        os.environ["BCS_DATABASE_URL"] = servers.postgres.url
        asyncio.run(migrate(servers.postgres.url))
        asyncio.run(fill(servers))
        start()
        for active in FEWEST:
            changes(active, Path(folder) / str(active))


if __name__ == "__main__":
    main()

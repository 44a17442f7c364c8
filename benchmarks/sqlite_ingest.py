"""Ingest into SQLite as a whole process, beside `executemany` of the same step rows."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import envelopes, report

from engine import Event, parse
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.clock import to_microseconds
from engine.models import COMPLETED, RegistrationFact, StepFact

ROUNDS = 5
START = datetime(2026, 2, 3, 8, tzinfo=UTC)
RESULTS = (b"spellcheck.phase.completed", b"essay.nlp.completed", b"aifeedback", b"registered")


def ingest(feed: Path, database: Path) -> tuple[float, dict[str, int]]:
    """Run the command and return its wall seconds and its counts."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(feed.parent / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation is compiled
    start = time.perf_counter()
    command = ["-m", "bcs_tui", "ingest", str(feed), "--sqlite-path", str(database), "--json"]
    done = subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, env=environment
    )
    return time.perf_counter() - start, json.loads(done.stdout)


def step_rows(lines: list[bytes]) -> list[tuple[object, ...]]:
    """Return what the events say of steps, a row each, in their order."""
    rows: list[tuple[object, ...]] = []
    batch_id = ""
    for line in lines:
        event = parse(line)
        for fact in event.facts if isinstance(event, Event) else ():
            batch_id = fact.batch_id or batch_id
            if isinstance(fact, StepFact):
                moment = to_microseconds(fact.time)
                key = (batch_id, fact.essay_id, fact.step)
                rows.append((*key, fact.outcome, moment, fact.event_id, fact.metadata))
    return rows


def raw_rate(rows: list[tuple[object, ...]], target: Path) -> float:
    """Return the rows per second of one transaction that writes nothing but the rows."""
    database = sqlite3.connect(target)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(
        "CREATE TABLE steps (batch_id TEXT, essay_id TEXT, step TEXT, outcome INTEGER,"
        " time_us INTEGER, event_id TEXT, metadata TEXT,"
        " PRIMARY KEY (batch_id, essay_id, step)) WITHOUT ROWID"
    )
    start = time.perf_counter()
    with database:
        database.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    rate = len(rows) / (time.perf_counter() - start)
    database.close()
    return rate


async def add_batch(repository: SqliteBatchStateRepository, essays: int) -> str:
    """Record a batch of so many essays, all with a result; return its id."""
    batch_id = f"batch of {essays}"
    essay_ids = tuple(f"00000000-0000-4000-8000-{number:012}" for number in range(essays))
    await repository.record([RegistrationFact(batch_id, essays, essay_ids, START)])
    for first in range(0, essays, 5000):
        page = essay_ids[first : first + 5000]
        await repository.record(
            [StepFact(batch_id, essay_id, "nlp", COMPLETED, START) for essay_id in page]
        )
    return batch_id


async def summary_seconds(path: Path, sizes: tuple[int, ...]) -> list[float]:
    """Return the median seconds of a summary of a batch of each size.

    All are in one database and take turns: what it costs to wake the thread of a database
    depends on where the system lets it run, and differs more between two than the sizes do.
    """
    repository = await SqliteBatchStateRepository.open(path)
    batches = {size: await add_batch(repository, size) for size in sizes}
    costs: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(400):
        for size in sizes if number % 2 else reversed(sizes):
            start = time.perf_counter()
            record = await repository.batch_record(batches[size])
            costs[size].append(time.perf_counter() - start)
            assert record.counts["nlp"] == [size, 0]
    await repository.aclose()
    return [statistics.median(costs[size]) for size in sizes]


def main() -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        feed = place / "feed.jsonl"
        lines = [line for line in envelopes(batches=3000) if any(kind in line for kind in RESULTS)]
        feed.write_bytes(b"\n".join(lines) + b"\n")
        rows = step_rows(lines)
        ingest(feed, place / "first.db")  # compiles
        ratios, rates = [], []
        for number in range(ROUNDS):
            seconds, counts = ingest(feed, place / f"{number}.db")
            rates.append(counts["read"] / seconds)
            ratios.append(rates[-1] / raw_rate(rows, place / f"raw{number}.db"))
        rate, ratio = statistics.median(rates), statistics.median(ratios)
        report("SQLite ingest, whole process, events/s", f"{rate:,.0f}", "-", True)
        report("  / executemany of the step rows", f"{ratio:.2f}", ">= 0.25", ratio >= 0.25)
        small, large = asyncio.run(summary_seconds(place / "two.db", (1_000, 100_000)))
        report("summary, 100,000 essays", f"{large * 1e3:.3f} ms", "<= 1 ms", large <= 1e-3)
        report("  / summary of 1,000 essays", f"{large / small:.2f}", "about 1", large / small < 2)


if __name__ == "__main__":
    main()

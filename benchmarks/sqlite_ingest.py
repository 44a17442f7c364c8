"""Ingest into SQLite as a whole process, beside `executemany` of the step rows it leaves."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import envelopes, report

from engine.backends.sqlite import SqliteBatchStateRepository
from engine.models import COMPLETED, RegistrationFact, StepFact
from engine.models import BatchRecord as _Record
from datetime import UTC, datetime

ROUNDS = 5
START = datetime(2026, 2, 3, 8, tzinfo=UTC)


def ingest(feed: Path, database: Path) -> tuple[float, dict[str, int]]:
    """Run the command and return its wall seconds and its counts."""
    start = time.perf_counter()
    command = ["-m", "bcs_tui", "ingest", str(feed), "--sqlite-path", str(database), "--json"]
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - start, json.loads(done.stdout)


def raw_rate(source: Path, target: Path) -> float:
    """Return the rows per second of one transaction that writes the same step rows."""
    with sqlite3.connect(source) as database:
        rows = database.execute("SELECT * FROM steps").fetchall()
        (schema,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'steps'").fetchone()
    database = sqlite3.connect(target)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(schema)
    marks = ", ".join("?" * len(rows[0]))
    start = time.perf_counter()
    with database:
        database.executemany(f"INSERT INTO steps VALUES ({marks})", rows)
    rate = len(rows) / (time.perf_counter() - start)
    database.close()
    return rate


async def summary_seconds(path: Path, essays: int) -> float:
    """Return the median seconds of a summary of one batch of so many essays."""
    repository = await SqliteBatchStateRepository.open(path)
    essay_ids = tuple(f"00000000-0000-4000-8000-{number:012}" for number in range(essays))
    await repository.record([RegistrationFact("one", essays, essay_ids, START)])
    for first in range(0, essays, 5000):
        page = essay_ids[first : first + 5000]
        await repository.record(
            [StepFact("one", essay_id, "nlp", COMPLETED, START) for essay_id in page]
        )
    costs = []
    for _ in range(200):
        start = time.perf_counter()
        record: _Record = await repository.batch_record("one")
        costs.append(time.perf_counter() - start)
        assert record.counts["nlp"] == [essays, 0]
    await repository.aclose()
    return statistics.median(costs)


def main() -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        feed = place / "feed.jsonl"
        lines = envelopes(batches=500)
        feed.write_bytes(b"\n".join(lines) + b"\n")
        ratios, rates = [], []
        for number in range(ROUNDS):
            database = place / f"{number}.db"
            seconds, counts = ingest(feed, database)
            rates.append(counts["read"] / seconds)
            ratios.append(rates[-1] / raw_rate(database, place / f"raw{number}.db"))
        rate, ratio = statistics.median(rates), statistics.median(ratios)
        report("SQLite ingest, whole process, events/s", f"{rate:,.0f}", "-", True)
        report("  / executemany of the step rows", f"{ratio:.2f}", ">= 0.25", ratio >= 0.25)
        small = asyncio.run(summary_seconds(place / "small.db", 1_000))
        large = asyncio.run(summary_seconds(place / "large.db", 100_000))
        report("summary, 100,000 essays", f"{large * 1e3:.3f} ms", "<= 1 ms", large <= 1e-3)
        report("  / summary of 1,000 essays", f"{large / small:.2f}", "about 1", large / small < 2)


if __name__ == "__main__":
    main()

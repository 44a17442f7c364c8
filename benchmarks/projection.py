"""What a view costs when little changed, and what an essay costs in memory."""

from __future__ import annotations

import gc
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from measure import report

from engine.models import COMPLETED, BatchRecord, StepFact
from engine.projection import Projection
from engine.repository import BatchColumns, Change

STEPS = ("spellcheck", "cj_assessment", "nlp", "ai_feedback")
START = datetime(2026, 2, 3, 8, tzinfo=UTC)


def view_cost(batches: int, changed: int) -> float:
    """Return the median seconds of a view of which so many batches changed."""
    projection = Projection()
    projection.load(
        BatchRecord(
            f"batch-{number:06}",
            expected=100,
            seen=100,
            first_at=START,
            last_at=START,
            counts={step: [50, 1] for step in STEPS},
        )
        for number in range(batches)
    )
    now = START + timedelta(minutes=1)
    projection.rows(now)
    costs = []
    for round_number in range(50):
        now += timedelta(milliseconds=33)
        projection.apply(
            [
                Change(
                    StepFact(
                        f"batch-{(round_number * changed + number) % batches:06}",
                        f"essay-{round_number}",
                        "nlp",
                        COMPLETED,
                        now,
                        detail=1,
                    ),
                    0,
                    0,
                )
                for number in range(changed)
            ]
        )
        start = time.perf_counter()
        projection.rows(now)
        costs.append(time.perf_counter() - start)
    return sorted(costs)[len(costs) // 2]


def resident_bytes() -> int:
    """Return the memory this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def memory_per_essay(essays: int) -> float:
    """Return the bytes that an essay of four steps costs while its batch is open."""
    gc.collect()
    before = resident_bytes()
    projection = Projection()
    projection.load([BatchRecord("one", expected=essays)])
    projection.open(BatchColumns(BatchRecord("one"), [], {}))
    for number in range(essays):
        essay_id = f"00000000-0000-4000-8000-{number:012}"
        projection.apply(
            [
                Change(StepFact("one", essay_id, step, COMPLETED, START), 0, int(not place))
                for place, step in enumerate(STEPS)
            ]
        )
    gc.collect()
    return (resident_bytes() - before) / essays


def main() -> None:
    seconds = view_cost(batches=10_000, changed=20)
    spent = seconds * 1000
    report("view, 10,000 batches, 20 changed", f"{spent:.2f} ms", "<= 5 ms", spent <= 5)
    used = memory_per_essay(1_000_000)
    report("memory of an open essay, 4 steps, 1 M", f"{used:.0f} B", "<= 400 B", used <= 400)


if __name__ == "__main__":
    main()

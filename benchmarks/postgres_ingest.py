"""Recording into PostgreSQL, beside a raw binary COPY of the same step rows into a twin table.

Everything is durable (fsync on). Each round records and copies the same chunks in turn.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeAlias

import asyncpg
from measure import report

from engine.backends.postgres import PostgresBatchStateRepository
from engine.backends.postgres_schema import migrate
from engine.models import COMPLETED, Fact, RegistrationFact, StepFact
from engine.servers import PrivatePostgres

START = datetime(2026, 2, 3, 8, tzinfo=UTC)
STEPS = ("spellcheck", "nlp", "cj_assessment", "ai_feedback")
METADATA = '{"completion_status": "success", "status": "completed", "processing_duration_ms": 1581}'
COLUMNS = (
    "batch_id", "essay_id", "step", "outcome", "happened_at", "event_id", "detail", "metadata"
)  # fmt: skip
PER_BATCH = 250
ROUNDS = 5
_numbers = count()

Batch: TypeAlias = tuple[str, tuple[str, ...]]
"""A batch's id and those of its essays."""


def batches(number: int) -> list[Batch]:
    """Return so many new batches: their ids and those of their essays."""
    found = []
    for _ in range(number):
        one = next(_numbers)
        essays = tuple(f"{place:08x}-{one:04x}-4952-8d4f-{one:012x}" for place in range(PER_BATCH))
        found.append((f"{one:08x}-b247-4158-a83b-ba51bea27dc0", essays))
    return found


def registrations(known: list[Batch]) -> list[Fact]:
    return [RegistrationFact(name, len(essays), essays, START) for name, essays in known]


def results(known: list[Batch], step: str) -> list[StepFact]:
    """Return a result of each essay, round robin over the batches, as events come in."""
    moment = START + timedelta(seconds=1)
    return [
        StepFact(
            name,
            essays[place],
            step,
            COMPLETED,
            moment + timedelta(microseconds=next(_numbers)),
            f"{next(_numbers):08x}-8d00-4455-86f9-78ed61dc3adc",
            2,
            METADATA,
        )
        for place in range(PER_BATCH)
        for name, essays in known
    ]


def chunks(facts: list[StepFact], size: int) -> list[list[StepFact]]:
    return [facts[first : first + size] for first in range(0, len(facts), size)]


def rows_of(facts: list[StepFact]) -> list[tuple[object, ...]]:
    return [
        (
            fact.batch_id,
            fact.essay_id,
            fact.step,
            fact.outcome,
            fact.time,
            fact.event_id,
            fact.detail,
            fact.metadata,
        )
        for fact in facts
    ]


async def timed(work: Awaitable[object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


async def ratio(url: str, size: int) -> tuple[float, float]:
    """Return the medians of facts/s and of the ratio to COPY, in chunks of a size."""
    repository = await PostgresBatchStateRepository.open(url)
    raw = await asyncpg.connect(url)
    await raw.execute("DROP TABLE IF EXISTS twin")
    await raw.execute("CREATE TABLE twin (LIKE bcs.essay_steps INCLUDING ALL)")
    rates, ratios = [], []
    for _ in range(ROUNDS):
        known = batches(20)
        await repository.record(registrations(known))
        facts = [fact for step in STEPS for fact in results(known, step)]
        ours, limit = 0.0, 0.0
        for place, chunk in enumerate(chunks(facts, size)):
            rows = rows_of(chunk)
            for turn in (place, place + 1):  # interleaved: the machine is not ours alone
                if turn % 2:
                    copy = raw.copy_records_to_table("twin", records=rows, columns=COLUMNS)
                    limit += await timed(copy)
                else:
                    ours += await timed(repository.record(chunk))
        rates.append(len(facts) / ours)
        ratios.append(limit / ours)
    await repository.aclose()
    await raw.close()
    return statistics.median(rates), statistics.median(ratios)


async def cost(repository: PostgresBatchStateRepository, known: list[Batch], step: str) -> float:
    """Return the median seconds of a chunk of 1000 results."""
    fed = chunks(results(known, step), 1000)
    return statistics.median([await timed(repository.record(chunk)) for chunk in fed])


async def growth(url: str) -> float:
    """Return the cost of a result when 200,000 essays are known, over that of the first 1,000."""
    repository = await PostgresBatchStateRepository.open(url)
    known = batches(4)
    await repository.record(registrations(known))
    few = statistics.median([await cost(repository, known, step) for step in STEPS])
    while len(known) * PER_BATCH < 200_000:
        more = batches(20)
        await repository.record(registrations(more))
        await repository.record(results(more, STEPS[0]))
        known += more
    # Of batches from all times: most are no longer known to the process and read again.
    many = [known[place :: len(known) // 4][:4] for place in range(5, 85, 10)]
    costs = [await cost(repository, some, step) for some in many for step in STEPS[1:]]
    await repository.aclose()
    return statistics.median(costs) / few


async def main() -> None:
    with PrivatePostgres() as server:
        await migrate(server.url)
        for size in (1000, 5000):
            rate, part = await ratio(server.url, size)
            report(f"PostgreSQL, chunks of {size}, facts/s", f"{rate:,.0f}", "-", True)
            report("  / binary COPY into a twin", f"{part:.2f}", ">= 0.6", part >= 0.6)
        grown = await growth(server.url)
        report("cost, 200,000 known essays / 1,000", f"{grown:.2f}", "about 1", grown < 1.5)


if __name__ == "__main__":
    asyncio.run(main())

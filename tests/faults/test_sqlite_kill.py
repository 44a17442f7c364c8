"""`kill -9` at any moment: every acknowledged chunk is there afterwards, and nothing else moves."""

from __future__ import annotations

import os
import random
import selectors
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import engine
from engine.backends.sqlite import SqliteBatchStateRepository
from engine.models import EssaysFact, Fact, RegistrationFact, StepFact, count_step, merge_steps

CHUNKS, CHUNK = 40, 50
ROUNDS = 20

INGEST = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sqlite_kill import chunk, order
from engine.backends.sqlite import SqliteBatchStateRepository

async def ingest(path, seed):
    os.write(1, b"ready\\n")
    repository = await SqliteBatchStateRepository.open(path)
    for number in order(seed):
        await repository.record(chunk(number))
        os.write(1, b"%d\\n" % number)
    await repository.aclose()

asyncio.run(ingest(sys.argv[2], int(sys.argv[3])))
"""


def chunk(number: int) -> list[Fact]:
    """The same facts for the same number: registrations, results, some without their batch."""
    chances = random.Random(number)
    moment = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=number)
    facts: list[Fact] = [RegistrationFact("b1", number, (f"e{number}",), moment)]
    for position in range(CHUNK - 2):
        essay_id = f"e{chances.randrange(60)}"
        batch_id = chances.choice(["b1", "b2", "b3", ""])
        facts.append(
            StepFact(
                batch_id,
                essay_id,
                chances.choice(["spellcheck", "nlp", "ai_feedback"]),
                chances.choice([1, 2, 2]),
                moment + timedelta(milliseconds=position),
                f"event-{number}-{position}",
                1,
                '{"text": "' + "x" * chances.randrange(600) + '"}',
            )
        )
    facts.append(EssaysFact("b2", (f"e{number}",), moment, f"file{number}.txt"))
    return facts


def order(seed: int) -> list[int]:
    return random.Random(seed).sample(range(CHUNKS), CHUNKS)


def run_and_kill(path: Path, seed: int) -> set[int]:
    """Ingest in another process, kill it at a random moment, return what it acknowledged."""
    chances = random.Random(seed)
    arguments = [sys.executable, "-c", INGEST, str(Path(__file__).parent), str(path), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(Path(engine.__file__).parents[1])}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, bufsize=0, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        said = b""
        acknowledged = chances.choice([0, 0, chances.randrange(CHUNKS)])
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while said.count(b"\n") < acknowledged and selector.select(60):
                said += child.stdout.read(1)
        moment = time.monotonic() + chances.uniform(0, 0.03)
        while time.monotonic() < moment:
            pass
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
    whole = said[: said.rfind(b"\n") + 1]
    return {int(line) for line in whole.split()}


async def check(repository: SqliteBatchStateRepository, acknowledged: set[int]) -> None:
    """Nothing acknowledged is missing, and the counters are those of the essays."""
    kept = {
        (record.batch_id, essay.essay_id): essay
        for record in await repository.summaries()
        for essay in await repository.essays(record.batch_id)
    }
    for fact in (fact for number in acknowledged for fact in chunk(number)):
        if isinstance(fact, StepFact):
            if fact.batch_id:
                best = kept[fact.batch_id, fact.essay_id].steps[fact.step]
                assert merge_steps(best, fact) == best
        elif isinstance(fact, EssaysFact | RegistrationFact):
            assert all((fact.batch_id, essay_id) in kept for essay_id in fact.essay_ids)
    for record in await repository.summaries():
        essays = [essay for (home, _), essay in kept.items() if home == record.batch_id]
        counts: dict[str, list[int]] = {}
        for essay in essays:
            for step, fact in essay.steps.items():
                count_step(counts, step, 0, fact.outcome)
        assert (record.seen, record.counts) == (len(essays), counts)


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    answer: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return answer


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    truth = await ingested(tmp_path / "truth.db")
    acknowledged: set[int] = set()
    path = tmp_path / "none.db"
    for seed in range(ROUNDS):
        if seed % 4 == 0:
            path, acknowledged = tmp_path / f"{seed}.db", set()
        acknowledged |= run_and_kill(path, seed)
        if not path.exists():
            assert not acknowledged
            continue
        assert integrity(path) == "ok", f"seed {seed}"
        async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
            await check(repository, acknowledged)
        if seed % 4 == 3:
            assert await ingested(path) == truth, f"seed {seed}"


async def ingested(path: Path) -> list[object]:
    """Ingest everything, then again, which changes nothing; return what is known then."""
    async with aclosing(await SqliteBatchStateRepository.open(path)) as repository:
        for number in range(CHUNKS):
            await repository.record(chunk(number))
        before = await everything(repository)
        for number in order(99):
            recorded = await repository.record(chunk(number))
            assert not any(recorded.news)
            assert not recorded.changes
        assert await everything(repository) == before
        return before


async def everything(repository: SqliteBatchStateRepository) -> list[object]:
    records = await repository.summaries()
    return [(record, await repository.essays(record.batch_id)) for record in records]

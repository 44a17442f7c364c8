"""`kill -9` of us at any moment: what was acknowledged is in PostgreSQL, and nothing else moves."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from servers import new_database
from test_sqlite_kill import CHUNKS, chunk, everything, order

import engine
from engine.backends.mock import MockBatchStateRepository
from engine.backends.postgres import PostgresBatchStateRepository

pytestmark = pytest.mark.slow

ROUNDS = 6

INGEST = """
import asyncio, os, sys
from test_sqlite_kill import chunk, order
from engine.backends.postgres import PostgresBatchStateRepository

async def ingest(url, seed):
    repository = await PostgresBatchStateRepository.open(url)
    os.write(1, b"ready\\n")
    for number in order(seed):
        await repository.record(chunk(number))
        os.write(1, b"%d\\n" % number)

asyncio.run(ingest(os.environ["URL"], int(sys.argv[1])))
"""


def run_and_kill(url: str, seed: int) -> set[int]:
    """Ingest in another process, kill it at a random moment, return what it acknowledged."""
    folders = (Path(engine.__file__).parents[1], Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "URL": url}
    command = [sys.executable, "-c", INGEST, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).uniform(0, 0.2))
        child.kill()
        said = child.stdout.read()
    return set(map(int, said[: said.rfind(b"\n") + 1].split()))


async def test_nothing_acknowledged_is_lost_and_nothing_counts_twice() -> None:
    url = await new_database()
    truth = MockBatchStateRepository()
    for number in range(CHUNKS):
        await truth.record(chunk(number))
    acknowledged: set[int] = set()
    for seed in range(ROUNDS):
        acknowledged |= run_and_kill(url, seed)
        async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
            for number in acknowledged:
                assert not any((await repository.record(chunk(number))).news), f"seed {seed}"
    assert acknowledged
    async with aclosing(await PostgresBatchStateRepository.open(url)) as repository:
        for number in order(99):
            await repository.record(chunk(number))
        assert await everything(repository) == await everything(truth)

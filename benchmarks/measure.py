"""What the benchmarks share: real envelopes in many copies, and a table of results."""

from __future__ import annotations

import gc
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random

from bcs_tui.__main__ import COLLECT_AFTER

VECTOR = Path(__file__).parent.parent / "tests" / "vectors" / "comprehensive_batch.jsonl"
gc.set_threshold(*COLLECT_AFTER)  # as the command line does
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def envelopes(batches: int) -> list[bytes]:
    """Return the events of the real batch, once for each of so many batches of other ids."""
    lines = VECTOR.read_bytes().splitlines()
    copies: list[bytes] = []
    for seed in range(batches):
        random = Random(seed)
        ids: dict[bytes, bytes] = {}

        def other(match: re.Match[bytes], random: Random = random, ids: dict = ids) -> bytes:
            known = ids.get(match.group())
            if known is None:
                fresh = uuid.UUID(int=random.getrandbits(128), version=4)
                known = ids[match.group()] = str(fresh).encode()
            return known

        copies += [_UUID.sub(other, line) for line in lines]
    return copies


def best(work: Callable[[], object], rounds: int = 5) -> float:
    """Return the seconds of the fastest of several rounds."""
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def report(name: str, measured: str, target: str, good: bool) -> None:
    """Print one line of the table."""
    print(f"{name:<44} {measured:>26}  {target:>22}  {'ok' if good else 'FALLS SHORT'}", flush=True)

"""Parse and apply real envelopes in memory, beside msgspec's bare decoding of the same lines."""

from __future__ import annotations

import asyncio

import msgspec
from measure import best, envelopes, report

from engine import Event, parse
from engine.backends.mock import MockBatchStateRepository

CHUNK = 1000


def main() -> None:
    lines = envelopes(batches=150)

    def bare() -> None:
        for line in lines:
            msgspec.json.decode(line)

    async def apply() -> None:
        repository = MockBatchStateRepository()
        for start in range(0, len(lines), CHUNK):
            events = map(parse, lines[start : start + CHUNK])
            await repository.record(
                [fact for event in events if isinstance(event, Event) for fact in event.facts]
            )

    ratios, rates = [], []
    for _ in range(5):  # interleaved, so that both see the same machine
        reference = best(bare, rounds=1)
        ours = best(lambda: asyncio.run(apply()), rounds=1)
        ratios.append(reference / ours)
        rates.append(len(lines) / ours)
    ratio, rate = sorted(ratios)[2], sorted(rates)[2]
    size = sum(map(len, lines)) / len(lines)
    print(f"{len(lines)} envelopes of {size:.0f} bytes on average")
    report("parse + apply, events/s", f"{rate:,.0f}", ">= 100,000", rate >= 100_000)
    report("  / msgspec bare decode", f"{ratio:.2f}", ">= 0.35", ratio >= 0.35)


if __name__ == "__main__":
    main()

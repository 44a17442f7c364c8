"""Many simulated batches at once: who gets which plot, who begins when, all in one stream."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

from engine.feeds.simulation.batch import SimulatedBatch
from engine.feeds.simulation.life import Life, Timed
from engine.feeds.simulation.plot import Plot, World

FIRST_DAY = datetime(2026, 2, 3, 8, tzinfo=UTC)
"""When generated recordings begin unless told otherwise."""

_ARRIVAL_SECONDS = 25.0
_PIPELINES = ("comprehensive",) * 6 + ("ai_feedback", "ai_feedback", "cj_assessment", "nlp")

# What stands on the first screen, worst included, and how many minutes ago it began.
_CAST = (
    ("stalled", 26.0),
    ("critical", 17.0),
    ("failures", 45.0),
    ("clean", 3.2),
    ("whole", 14.5),
    ("denied", 7.0),
    ("pending", 5.0),
    ("whole", 6.1),
    ("clean", 38.0),
    ("straggler", 8.4),
    ("clean", 1.6),
    ("second_run", 21.0),
    ("clean", 4.7),
    ("whole", 13.2),
    ("retry", 19.0),
    ("clean", 0.8),
    ("failures", 5.4),
    ("rejected", 9.0),
    ("clean", 2.4),
    ("clean", 31.0),
    ("whole", 6.8),
    ("whole", 12.4),
    ("clean", 0.3),
    ("clean", 3.9),
)
_PERCENT = {
    "pending": 1,
    "denied": 2,
    "critical": 2,
    "stalled": 2,
    "retry": 5,
    "rejected": 5,
    "second_run": 9,
    "straggler": 10,
    "failures": 14,
    "clean": 50,
}
_KINDS = tuple(kind for kind, percent in _PERCENT.items() for _ in range(percent))


def live(seed: int, world: World, batches: int, essays: tuple[int, int]) -> Iterator[Timed]:
    """Yield the events of a fleet without end, in the order of time.

    So many batches began before 0, the origin of the world, and are at different stages
    then; others follow for ever.
    """
    casting = Random(f"fleet {seed}")
    cast = [_CAST[place % len(_CAST)] for place in range(batches)]
    known = [
        (kind, -60.0 * minutes * (1.0 if place < len(_CAST) else casting.uniform(1.0, 2.0)))
        for place, (kind, minutes) in enumerate(cast)
    ]
    lives = [
        _life(seed, number, world, kind, begins, essays)
        for number, (kind, begins) in enumerate(known)
    ]
    lives.sort(key=lambda life: life.begins)
    return _merged(_then(lives, seed, world, essays, casting))


def _then(
    lives: list[Life], seed: int, world: World, essays: tuple[int, int], casting: Random
) -> Iterator[Life]:
    yield from lives
    at = 0.0
    for number in count(len(lives)):
        at += _ARRIVAL_SECONDS * casting.uniform(0.2, 1.8)
        yield _life(seed, number, world, casting.choice(_KINDS), at, essays)


def generate(
    seed: int = 1,
    batches: int = 50,
    start: datetime = FIRST_DAY,
    span: timedelta = timedelta(hours=8),
    essays: tuple[int, int] = (6, 16),
) -> Iterator[bytes]:
    """Yield the envelopes of a recorded day, the same ones for the same arguments.

    Args:
        seed: Which day it is.
        batches: How many batches there are.
        start: When the first begins.
        span: How long after it the last begins.
        essays: The smallest and the largest number of essays in a batch.
    """
    casting = Random(f"day {seed}")
    world = World(start, outage_every=7200.0)
    seconds = span.total_seconds()
    begins = [0.0, *sorted(casting.uniform(0, seconds) for _ in range(batches - 1))]
    # Every kind of trouble comes up once, whatever the dice say.
    kinds = list(reversed(_PERCENT))[:batches]
    kinds += [casting.choice(_KINDS) for _ in range(batches - len(kinds))]
    casting.shuffle(kinds)
    lives = (
        _life(seed, number, world, kind, at, essays)
        for number, (kind, at) in enumerate(zip(kinds, begins, strict=True))
    )
    return (raw for _, raw in _merged(lives))


def _life(
    seed: int, number: int, world: World, kind: str, begins: float, essays: tuple[int, int]
) -> Life:
    rng = Random(f"batch {seed}/{number}")
    size = rng.randint(*essays)
    return Life(SimulatedBatch(rng, size), _plot(rng, kind, size), world, begins)


def _plot(rng: Random, kind: str, size: int) -> Plot:
    """Return what happens to a batch of a kind."""
    pipeline = rng.choice(_PIPELINES)
    some = tuple(rng.sample(range(size), min(size - 1, rng.randint(1, 3))))
    match kind:
        case "whole":
            return Plot()
        case "failures":
            return Plot(failing={"spellcheck": some[:1], "nlp": some[1:]})
        case "straggler":
            return Plot((pipeline,), straggler=True)
        case "rejected":
            return Plot((pipeline,), rejected=1)
        case "stalled":
            return Plot(stalls_in="ai_feedback")
        case "critical":
            return Plot(critical_in=rng.choice(("spellcheck", "cj_assessment")))
        case "denied":
            return Plot(denied=True)
        case "pending":
            return Plot(uploads=size // 2)
        case "second_run":
            return Plot(("nlp", "comprehensive"))
        case "retry":
            return Plot(("ai_feedback", "ai_feedback"), failing={"spellcheck": some[:1]})
        case _:
            return Plot((pipeline,))


def _merged(lives: Iterable[Life]) -> Iterator[Timed]:
    """Merge lives, given in the order of their beginnings, into one stream."""
    upcoming = iter(lives)
    following = next(upcoming, None)
    running: list[tuple[float, int, bytes, Iterator[Timed]]] = []
    for number in count():
        if following and (not running or following.begins <= running[0][0]):
            events = following.events()
            following = next(upcoming, None)
        elif running:
            at, _, raw, events = heapq.heappop(running)
            yield at, raw
        else:
            return
        told = next(events, None)
        if told:
            heapq.heappush(running, (told[0], number, told[1], events))

"""What is decided beforehand: the plot of a batch, and the world it lives in."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec


class World(msgspec.Struct, frozen=True):
    """What all batches have in common.

    `rate` is how many simulated seconds pass in a second of event time. In every
    `outage_every` simulated seconds, the provider of the language model is overloaded once.
    """

    origin: datetime
    rate: float = 1.0
    outage_every: float = 1200.0

    def moment(self, at: float) -> datetime:
        """Return the event time of a simulated moment."""
        return self.origin + timedelta(microseconds=round(at / self.rate * 1_000_000))

    def is_overloaded(self, at: float) -> bool:
        """Tell whether the provider turns requests away: for 4 minutes, 10 minutes before 0."""
        return (at + 600) % self.outage_every < 240


class Plot(msgspec.Struct, frozen=True):
    """What will happen to a batch.

    Args:
        pipelines: The pipelines that are requested, one after the other.
        denied: The first request is refused.
        uploads: So many essays are uploaded, and nothing follows; `None` for all.
        rejected: So many uploads are refused.
        failing: Numbers of essays that fail in the first run, by phase.
        straggler: One essay takes very long.
        stalls_in: A phase that stops in the middle without a word.
        critical_in: A phase in which everything fails.
    """

    pipelines: tuple[str, ...] = ("comprehensive",)
    denied: bool = False
    uploads: int | None = None
    rejected: int = 0
    failing: dict[str, tuple[int, ...]] = {}
    straggler: bool = False
    stalls_in: str = ""
    critical_in: str = ""

"""Misbehaviour on request: what a feed does to events that real ones do, too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from random import Random

from engine.clock import rfc3339
from engine.feeds.simulation.batch import new_uuid

_FARTHEST = 30
_REPUBLISHED_AFTER = timedelta(seconds=90)


class Chaos:
    """Mistreats envelopes, the same way for the same seed and envelopes.

    Args:
        duplicates: The share of envelopes that come twice, byte for byte.
        reorder: The share that come late, behind up to 30 others.
        drop: The share that never come.
        skew_seconds: By how much, at most, the clock of each service is off.
        republish: The share that come again in a new envelope: another `event_id`, a later
            time, the same payload.
        seed: Which of the many ways to do that.
    """

    def __init__(
        self,
        duplicates: float = 0.0,
        reorder: float = 0.0,
        drop: float = 0.0,
        skew_seconds: float = 0.0,
        republish: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.duplicates = duplicates
        self.reorder = reorder
        self.drop = drop
        self.skew_seconds = skew_seconds
        self.republish = republish
        self._seed = seed
        self._rng = Random(f"chaos {seed}")
        self._count = 0
        self._late: list[tuple[int, bytes]] = []

    def apply(self, envelopes: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what is left of the envelopes."""
        for raw in envelopes:
            yield from self.mistreat(raw)
        yield from self.rest()

    def mistreat(self, raw: bytes) -> list[bytes]:
        """Return what comes out now that one envelope went in: none, one, or several."""
        self._count += 1
        out = self._due()
        if self._happens(self.drop):
            return out
        if self.skew_seconds:
            raw = self._skewed(raw)
        copies = [raw]
        if self._happens(self.duplicates):
            copies.append(raw)
        if self._happens(self.republish):
            copies.append(self._republished(raw))
        for copy in copies:
            if self._happens(self.reorder):
                self._late.append((self._count + self._rng.randint(1, _FARTHEST), copy))
            else:
                out.append(copy)
        return out

    def rest(self) -> list[bytes]:
        """Return what is still held back."""
        held = [raw for _, raw in sorted(self._late, key=lambda entry: entry[0])]
        self._late.clear()
        return held

    def _due(self) -> list[bytes]:
        due = [raw for until, raw in self._late if until <= self._count]
        if due:
            self._late = [entry for entry in self._late if entry[0] > self._count]
        return due

    def _happens(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share

    def _skewed(self, raw: bytes) -> bytes:
        """Shift the times of an envelope by what its service's clock is off."""
        envelope = json.loads(raw)
        service = Random(f"clock {self._seed} {envelope['source_service']}")
        off = timedelta(seconds=service.uniform(-self.skew_seconds, self.skew_seconds))
        for holder, key in ((envelope, "event_timestamp"), (envelope["data"], "timestamp")):
            if key in holder:
                holder[key] = rfc3339(datetime.fromisoformat(holder[key]) + off)
        return json.dumps(envelope).encode()

    def _republished(self, raw: bytes) -> bytes:
        envelope = json.loads(raw)
        later = datetime.fromisoformat(envelope["event_timestamp"]) + _REPUBLISHED_AFTER
        envelope |= {"event_id": new_uuid(self._rng), "event_timestamp": rfc3339(later)}
        return json.dumps(envelope).encode()

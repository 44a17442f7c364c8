"""Counts of batches whose counters prove nothing: their essays are read for them.

While somebody watches, that is not done for every listing: counts are kept, and each batch is
counted anew when its turn comes, so many essays at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from engine.backends.redis_audit import claims_of_summary
from engine.backends.redis_rows import EssayRow
from engine.models import BatchRecord, count_step, is_aggregate

RECOUNT_SECONDS: Final = 5.0
"""How old counts are at least when they are counted anew."""

TURN_SECONDS: Final = 2.0
"""How often some batches have their turn."""

LASTING_SECONDS: Final = 4.0
"""For how long a stored summary has to say other numbers until it is called a contradiction."""

_ESSAYS_PER_TURN: Final = 10_000
_BATCHES_PER_TURN: Final = 500


class _Contradiction(NamedTuple):
    """A stored summary that says other numbers, and when that was seen first."""

    summary: bytes
    since: float


class _Counted(NamedTuple):
    moment: float
    seen: int
    counts: dict[str, list[int]]
    unread: int
    unread_results: dict[str, int]
    contradiction: _Contradiction | None
    is_disputed: bool


class Counts:
    """The counts of batches in doubt, the oldest first.

    Args:
        monotonic: The time by which turns are taken.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._kept: dict[str, _Counted] = {}
        self._turn = -TURN_SECONDS

    def __contains__(self, batch_id: str) -> bool:
        return batch_id in self._kept

    def keep(self, record: BatchRecord, summary: bytes | None) -> None:
        """Keep what was counted just now.

        A summary that contradicts the count disputes it if it goes on to do so: a service that
        is at work writes first a document, and then the summary.
        """
        now = self._monotonic()
        before = self._kept.pop(record.batch_id, None)
        found = None
        if summary and _contradicts(summary, record):
            last = before.contradiction if before else None
            found = last if last and last.summary == summary else _Contradiction(summary, now)
        record.is_disputed = found is not None and now - found.since >= LASTING_SECONDS
        counts = {step: list(pair) for step, pair in record.counts.items()}
        self._kept[record.batch_id] = _Counted(
            now,
            record.seen,
            counts,
            record.unread,
            dict(record.unread_results),
            found,
            record.is_disputed,
        )

    def recall(self, record: BatchRecord) -> None:
        """Set the counts of a record to those kept."""
        kept = self._kept[record.batch_id]
        record.seen = kept.seen
        record.is_disputed = kept.is_disputed
        record.counts = {step: list(pair) for step, pair in kept.counts.items()}
        record.unread, record.unread_results = kept.unread, dict(kept.unread_results)

    def forget(self, batch_ids: Iterable[str]) -> None:
        """Forget the counts of batches that are gone, or whose counters prove theirs."""
        for batch_id in batch_ids:
            self._kept.pop(batch_id, None)

    def next_turn(self, found: Mapping[str, Collection[str]]) -> list[str]:
        """Return the batches to count now: first those never counted, then the oldest counts.

        Args:
            found: Essays of batches that only another service may know.
        """
        now = self._monotonic()
        if now - self._turn < TURN_SECONDS:
            return []
        self._turn = now
        turn: list[str] = []
        essays = 0
        for batch_id, size in self._waiting(found, now - RECOUNT_SECONDS):
            turn.append(batch_id)
            essays += size
            if essays >= _ESSAYS_PER_TURN or len(turn) >= _BATCHES_PER_TURN:
                break
        return turn

    def _waiting(
        self, found: Mapping[str, Collection[str]], counted_before: float
    ) -> Iterable[tuple[str, int]]:
        for batch_id, essays in found.items():
            if batch_id not in self._kept:
                yield batch_id, len(essays)
        for batch_id, kept in self._kept.items():
            if kept.moment > counted_before:
                return
            yield batch_id, max(kept.seen, len(found.get(batch_id, ())))


def _contradicts(summary: bytes, record: BatchRecord) -> bool:
    return any(
        told not in (None, known)
        for claim in claims_of_summary(summary)
        for told, known in (
            (claim.completed, record.counts.get(claim.step, (0, 0))[0]),
            (claim.total, record.total),
        )
    )


def count_rows(record: BatchRecord, rows: Iterable[EssayRow]) -> None:
    """Set the counts of a record to those of the essays."""
    record.seen, record.counts = 0, {}
    record.unread, record.unread_results = 0, {}
    for row in rows:
        if not is_aggregate(record.batch_id, row.essay_id):
            record.seen += 1
            for fact in row.document.steps.values():
                count_step(record.counts, fact.step, 0, fact.outcome)
            if row.trouble:
                record.count_unread(row.document.steps.values())

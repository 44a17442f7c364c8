"""The repository in memory: for demos, replays and tests; equal to the real ones.

Like Redis it forgets: an essay expires `ttl_days` after the last write that changed it, a
batch's own facts after the last write to the batch. Nothing survives the process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from engine.clock import Clock
from engine.errors import NotFound
from engine.models import (
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
    EssayState,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
    count_step,
    earlier,
    is_aggregate,
    merge_steps,
    milestone,
    same_content,
)
from engine.repository import BatchColumns, BatchStateRepository, Change, DeadLetter, Recorded

_SECONDS_PER_DAY = 86_400.0


class _Batch:
    """One batch: its record, its essays, the uploads it has counted, when parts expire."""

    __slots__ = ("deadline", "essay_deadlines", "essays", "generation", "record", "uploads")

    def __init__(self, record: BatchRecord, generation: int) -> None:
        self.record = record
        self.essays: dict[str, EssayState] = {}
        self.uploads: set[tuple[str, str]] = set()
        self.essay_deadlines: dict[str, float] = {}
        self.deadline = 0.0
        self.generation = generation

    def copy(self, generation: int) -> _Batch:
        """Return a batch that can be changed without changing this one; essays are shared."""
        other = _Batch(self.record.copy(), generation)
        other.essays = self.essays.copy()
        other.uploads = self.uploads.copy()
        other.essay_deadlines = self.essay_deadlines.copy()
        other.deadline = self.deadline
        return other


class Checkpoint(msgspec.Struct, frozen=True):
    """The whole state of a mock repository at one moment; batches are shared, not copied."""

    batches: dict[str, _Batch]
    homes: dict[str, tuple[str, ...]]
    homeless: dict[str, dict[str, StepFact]]


class MockBatchStateRepository(BatchStateRepository):
    """Keeps facts in dictionaries. Every chunk is applied without a pause: it is atomic."""

    name = "mock"

    def __init__(self, clock: Clock | None = None, ttl_days: float = 7) -> None:
        super().__init__(clock)
        self._ttl_seconds = ttl_days * _SECONDS_PER_DAY
        self._batches: dict[str, _Batch] = {}
        self._homes: dict[str, tuple[str, ...]] = {}
        self._homeless: dict[str, dict[str, StepFact]] = {}
        self._homeless_deadlines: dict[str, float] = {}
        self._dead_letters: dict[tuple[str, str, str], DeadLetter] = {}
        self._generation = 0
        self._next_sweep = 0.0

"""The repository in memory: for demos, replays and tests; equal to the real ones.

Like Redis it forgets: an essay expires `ttl_days` after the last write that changed it, a
batch's own facts after the last write that changed the batch. Nothing survives the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import nsmallest

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
    absorb_milestone,
    absorb_registration,
    absorb_upload,
    count_step,
    is_aggregate,
    merge_steps,
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


class _Homeless(msgspec.Struct, frozen=True):
    """The results of an essay that name no batch, by step, and when they expire."""

    steps: dict[str, StepFact]
    deadline: float


class Checkpoint(msgspec.Struct, frozen=True):
    """The state of a mock repository at one moment; unchanged batches are shared."""

    batches: dict[str, _Batch]
    homes: dict[str, tuple[str, ...]]
    homeless: dict[str, _Homeless]


class MockBatchStateRepository(BatchStateRepository):
    """Keeps facts in dictionaries. A chunk is applied without a pause, so it is atomic."""

    name = "mock"

    def __init__(self, clock: Clock | None = None, ttl_days: float = 7) -> None:
        super().__init__(clock)
        self._ttl_seconds = ttl_days * _SECONDS_PER_DAY
        self._batches: dict[str, _Batch] = {}
        self._homes: dict[str, tuple[str, ...]] = {}
        self._homeless: dict[str, _Homeless] = {}
        self._dead_letters: dict[tuple[str, str, str], DeadLetter] = {}
        self._generation = 0
        self._deadline = 0.0
        self._next_sweep = 0.0

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing, idempotent, in any order."""
        self._sweep()
        self._deadline = self.clock.monotonic() + self._ttl_seconds
        news: list[bool] = []
        changes: list[Change] = []
        for fact in facts:
            if isinstance(fact, StepFact):
                if fact.batch_id:
                    news.append(self._step(self._batch(fact.batch_id), fact, changes))
                else:
                    news.append(self._homeless_step(fact, changes))
            else:
                news.append(self._other(fact, changes))
        return Recorded(news, changes)

    def _batch(self, batch_id: str) -> _Batch:
        """Return a batch that may be changed: new, or copied if a checkpoint shares it."""
        batch = self._batches.get(batch_id)
        if batch is None:
            batch = self._batches[batch_id] = _Batch(BatchRecord(batch_id), self._generation)
            batch.deadline = self._deadline
        elif batch.generation != self._generation:
            batch = self._batches[batch_id] = batch.copy(self._generation)
        return batch

    def _step(self, batch: _Batch, fact: StepFact, changes: list[Change]) -> bool:
        """Merge one result; tell whether it is news."""
        record = batch.record
        if fact.detail:
            record.saw(fact.time)
        essay = batch.essays.get(fact.essay_id)
        new = essay is None
        if essay is None:
            essay = self._add_essay(batch, fact.essay_id, fact.time)
        old = essay.steps.get(fact.step)
        winner = fact if old is None else merge_steps(old, fact)
        created_at = min(essay.created_at, fact.time)
        if winner is not old or created_at is not essay.created_at:
            batch.essays[fact.essay_id] = EssayState(
                essay.essay_id,
                created_at,
                {**essay.steps, fact.step: winner},
                essay.file_name,
                essay.file_name_at,
            )
        news = old is None or not same_content(old, winner)
        if news:
            before = old.outcome if old else 0
            batch.essay_deadlines[fact.essay_id] = batch.deadline = self._deadline
            counted = not is_aggregate(batch.record.batch_id, fact.essay_id)
            if counted:
                count_step(record.counts, fact.step, before, winner.outcome)
                changes.append(Change(fact if winner is fact else winner, before, int(new)))
        if new:
            self._take_home(batch, fact.essay_id, changes)
        return news

    def _add_essay(self, batch: _Batch, essay_id: str, moment: datetime) -> EssayState:
        """Make an essay known to a batch."""
        essay = batch.essays[essay_id] = EssayState(essay_id, moment, {})
        batch.essay_deadlines[essay_id] = batch.deadline = self._deadline
        batch_id = batch.record.batch_id
        if not is_aggregate(batch_id, essay_id):
            batch.record.seen += 1
        homes = self._homes.get(essay_id, ())
        if batch_id not in homes:
            self._homes[essay_id] = (*homes, batch_id)
        return essay

    def _take_home(self, batch: _Batch, essay_id: str, changes: list[Change]) -> None:
        """Let earlier results that named no batch take effect in a batch that knows the essay."""
        homeless = self._homeless.get(essay_id)
        if homeless:
            for fact in homeless.steps.values():
                homed = msgspec.structs.replace(fact, batch_id=batch.record.batch_id)
                self._step(batch, homed, changes)

    def _homeless_step(self, fact: StepFact, changes: list[Change]) -> bool:
        """Keep a result that names no batch and let it take effect where its essay is known."""
        kept = self._homeless.get(fact.essay_id)
        steps = kept.steps if kept else {}
        old = steps.get(fact.step)
        winner = fact if old is None else merge_steps(old, fact)
        self._homeless[fact.essay_id] = _Homeless({**steps, fact.step: winner}, self._deadline)
        for batch_id in self._homes.get(fact.essay_id, ()):
            homed = msgspec.structs.replace(fact, batch_id=batch_id)
            self._step(self._batch(batch_id), homed, changes)
        return old is None or not same_content(old, winner)

    def _other(
        self, fact: EssaysFact | RegistrationFact | PhaseFact | BatchFact, changes: list[Change]
    ) -> bool:
        """Merge a fact about a batch; tell whether it is news."""
        batch = self._batch(fact.batch_id)
        behind: list[Change] = []
        new_essays = 0
        if isinstance(fact, EssaysFact | RegistrationFact):
            batch.record.saw(fact.time)
            new_essays = self._tie(batch, fact.essay_ids, fact.time, behind)
        if isinstance(fact, EssaysFact):
            news = self._name_file(batch, fact) or new_essays > 0
        elif isinstance(fact, RegistrationFact):
            news = absorb_registration(batch.record, fact) or new_essays > 0
        elif isinstance(fact, BatchFact) and fact.status in CONTENT:
            news = _count_upload(batch, fact)
        else:
            news = absorb_milestone(batch.record, fact)
        if news:
            batch.deadline = self._deadline
            changes.append(Change(fact, 0, new_essays))
        changes += behind
        return news

    def _tie(
        self, batch: _Batch, essay_ids: Iterable[str], moment: datetime, changes: list[Change]
    ) -> int:
        """Make essays known to a batch and return how many of them were not."""
        known = batch.essays
        seen = batch.record.seen
        for essay_id in essay_ids:
            essay = known.get(essay_id)
            if essay is None:
                self._add_essay(batch, essay_id, moment)
                self._take_home(batch, essay_id, changes)
            elif moment < essay.created_at:
                known[essay_id] = msgspec.structs.replace(essay, created_at=moment)
        return batch.record.seen - seen

    def _name_file(self, batch: _Batch, fact: EssaysFact) -> bool:
        """Note the file an essay came from; the newest name wins."""
        if not fact.file_name:
            return False
        changed = False
        for essay_id in fact.essay_ids:
            essay = batch.essays[essay_id]
            if (fact.time, fact.file_name) > (essay.file_name_at, essay.file_name):
                changed = changed or fact.file_name != essay.file_name
                batch.essays[essay_id] = msgspec.structs.replace(
                    essay, file_name=fact.file_name, file_name_at=fact.time
                )
                batch.essay_deadlines[essay_id] = self._deadline
        return changed

    async def load_batch(self, batch_id: str) -> BatchColumns:
        """Return a batch with the outcomes of all of its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        self._sweep()
        batch = self._batches.get(batch_id)
        if batch is None:
            raise NotFound(f"no batch {batch_id!r} in {self.name}")
        essay_ids = [name for name in batch.essays if not is_aggregate(batch_id, name)]
        outcomes = {step: bytearray(len(essay_ids)) for step in batch.record.counts}
        for position, essay_id in enumerate(essay_ids):
            for step, fact in batch.essays[essay_id].steps.items():
                outcomes[step][position] = fact.outcome
        return BatchColumns(batch.record.copy(), essay_ids, outcomes)

    async def summaries(
        self, batch_ids: Sequence[str] | None = None, *, after: str = "", limit: int = 1000
    ) -> list[BatchRecord]:
        """Return batches in the order of their ids."""
        self._sweep()
        names: Iterable[str] = self._batches if batch_ids is None else set(batch_ids)
        page = nsmallest(limit, (name for name in names if name > after and name in self._batches))
        return [self._batches[name].record.copy() for name in page]

    async def essays(
        self,
        batch_id: str,
        essay_ids: Sequence[str] | None = None,
        *,
        after: str = "",
        limit: int = 1000,
    ) -> list[EssayState]:
        """Return essays of a batch in the order of their ids; none for an unknown batch."""
        self._sweep()
        batch = self._batches.get(batch_id)
        if batch is None:
            return []
        names: Iterable[str] = set(essay_ids or ())
        if essay_ids is None:
            names = (name for name in batch.essays if not is_aggregate(batch_id, name))
        page = nsmallest(limit, (name for name in names if name > after and name in batch.essays))
        return [batch.essays[name] for name in page]

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""
        for letter in letters:
            self._dead_letters.setdefault((letter.source, letter.position, letter.sha256), letter)

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival."""
        return list(self._dead_letters.values())[after : after + limit]

    async def aclose(self) -> None:
        """Nothing to give back."""

    def checkpoint(self) -> Checkpoint:
        """Return the present state; batches are copied only when they change afterwards."""
        self._generation += 1
        return Checkpoint(self._batches.copy(), self._homes.copy(), self._homeless.copy())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back (or forth) to a checkpoint; dead letters stay."""
        self._generation += 1
        self._batches = checkpoint.batches.copy()
        self._homes = checkpoint.homes.copy()
        self._homeless = checkpoint.homeless.copy()

    def _sweep(self) -> None:
        """Forget what has expired, looking only when something may have."""
        now = self.clock.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + self._ttl_seconds
        for batch_id in list(self._batches):
            self._sweep_batch(batch_id, now)
        for essay_id, kept in list(self._homeless.items()):
            if kept.deadline <= now:
                del self._homeless[essay_id]
            else:
                self._next_sweep = min(self._next_sweep, kept.deadline)

    def _sweep_batch(self, batch_id: str, now: float) -> None:
        """Forget a batch, or those of its essays that have expired."""
        batch = self._batches[batch_id]
        expired = [name for name, at in batch.essay_deadlines.items() if at <= now]
        if expired:
            batch = self._batch(batch_id)
        for essay_id in expired:
            self._forget_essay(batch, essay_id)
        if batch.deadline <= now:
            del self._batches[batch_id]
        else:
            deadlines = batch.essay_deadlines.values()
            self._next_sweep = min(self._next_sweep, batch.deadline, *deadlines)

    def _forget_essay(self, batch: _Batch, essay_id: str) -> None:
        essay = batch.essays.pop(essay_id)
        del batch.essay_deadlines[essay_id]
        batch_id = batch.record.batch_id
        homes = tuple(home for home in self._homes.get(essay_id, ()) if home != batch_id)
        if homes:
            self._homes[essay_id] = homes
        else:
            self._homes.pop(essay_id, None)
        if not is_aggregate(batch_id, essay_id):
            batch.record.seen -= 1
            for step, fact in essay.steps.items():
                count_step(batch.record.counts, step, fact.outcome, 0)


def _count_upload(batch: _Batch, fact: BatchFact) -> bool:
    """Count an upload once; tell whether it is news."""
    upload = (fact.status, fact.value)
    if upload in batch.uploads:
        return False
    batch.uploads.add(upload)
    absorb_upload(batch.record, fact)
    return True

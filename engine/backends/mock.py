"""The repository in memory: for demos, replays and tests; equal to the real ones.

Like Redis it forgets: an essay expires `ttl_days` after the last write that changed it, a
batch's own facts after the last write that changed the batch. Nothing survives the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import nsmallest
from math import inf

import msgspec

from engine.clock import Clock
from engine.errors import NotFound
from engine.models import (
    BEGINNING,
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
    EssayState,
    Fact,
    Homeless,
    PhaseFact,
    RegistrationFact,
    StepFact,
    absorb_milestone,
    absorb_registration,
    absorb_upload,
    count_step,
    is_aggregate,
    merge_homeless,
    merge_steps,
    same_content,
)
from engine.repository import (
    BatchColumns,
    BatchStateRepository,
    Change,
    DeadLetter,
    Recorded,
    dated,
)

_SECONDS_PER_DAY = 86_400.0


class _Essay:
    """One essay: its results by step, and when it expires; the pseudo essay is not counted."""

    __slots__ = (
        "counted", "created_at", "deadline", "file_name", "file_name_at", "generation", "steps",
    )  # fmt: skip

    def __init__(self, created_at: datetime, counted: bool, generation: int) -> None:
        self.created_at = created_at
        self.counted = counted
        self.generation = generation
        self.steps: dict[str, StepFact] = {}
        self.file_name = ""
        self.file_name_at = BEGINNING
        self.deadline = 0.0

    def copy(self, generation: int) -> _Essay:
        """Return an essay that can be changed without changing this one."""
        other = _Essay(self.created_at, self.counted, generation)
        other.steps = self.steps.copy()
        other.file_name, other.file_name_at = self.file_name, self.file_name_at
        other.deadline = self.deadline
        return other


class _Batch:
    """One batch: its record, its essays, the uploads it has counted, when it expires."""

    __slots__ = ("deadline", "essays", "generation", "record", "uploads")

    def __init__(self, record: BatchRecord, generation: int) -> None:
        self.record = record
        self.essays: dict[str, _Essay] = {}
        self.uploads: set[tuple[str, str]] | None = None  # until there is one
        self.deadline = 0.0
        self.generation = generation

    def copy(self, generation: int) -> _Batch:
        """Return a batch that can be changed without changing this one; essays are shared."""
        other = _Batch(self.record.copy(), generation)
        other.essays = self.essays.copy()
        other.uploads = self.uploads and self.uploads.copy()
        other.deadline = self.deadline
        return other


class _Homeless(msgspec.Struct, frozen=True):
    """The results of an essay that name no batch, by step, and when they expire."""

    steps: dict[str, Homeless]
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
        self._faded: set[str] = set()

    def keep_everything(self) -> None:
        """Forget nothing that is recorded from now on: a recording is history already."""
        self._ttl_seconds = inf

    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing, idempotent, in any order."""
        self._sweep()
        self._deadline = self.clock.monotonic() + self._ttl_seconds
        news: list[bool] = []
        changes: list[Change] = []
        known, generation = self._batches.get, self._generation
        for fact in facts:
            if not isinstance(fact, StepFact):
                news.append(self._other(fact, changes))
            elif fact.batch_id:
                batch = known(fact.batch_id)
                if batch is None or batch.generation != generation:
                    batch = self._batch(fact.batch_id)
                news.append(self._step(batch, fact, changes))
            else:
                news.append(self._homeless_step(fact, changes))
        faded, self._faded = sorted(self._faded), set()
        return Recorded(news, changes, faded)

    def _batch(self, batch_id: str) -> _Batch:
        """Return a batch that may be changed: new, or copied if a checkpoint shares it."""
        batch = self._batches.get(batch_id)
        if batch is None:
            batch = self._batches[batch_id] = _Batch(BatchRecord(batch_id), self._generation)
            batch.deadline = self._deadline
        elif batch.generation != self._generation:
            batch = self._batches[batch_id] = batch.copy(self._generation)
        return batch

    def _essay(self, batch: _Batch, essay_id: str) -> _Essay | None:
        """Return a known essay that may be changed: copied if a checkpoint shares it."""
        essay = batch.essays.get(essay_id)
        if essay is not None and essay.generation != self._generation:
            essay = batch.essays[essay_id] = essay.copy(self._generation)
        return essay

    def _step(self, batch: _Batch, fact: StepFact, changes: list[Change]) -> bool:
        """Merge one result; tell whether it is news."""
        record = batch.record
        time, step = fact.time, fact.step
        grew = fact.detail and record.saw(time)
        essay = batch.essays.get(fact.essay_id)
        new = essay is None
        if essay is None:
            essay = self._add_essay(batch, fact.essay_id, time)
        else:
            if essay.generation != self._generation:
                essay = batch.essays[fact.essay_id] = essay.copy(self._generation)
            if time < essay.created_at:
                essay.created_at = time
        old = essay.steps.get(step)
        if old is None:
            news = True
            essay.steps[step] = fact
        elif merge_steps(old, fact) is fact:
            news = not same_content(old, fact)
            essay.steps[step] = fact
        else:
            news = False
        if news:
            essay.deadline = batch.deadline = self._deadline
        if news and essay.counted:
            before = 0 if old is None else old.outcome
            if before != fact.outcome or not before:
                count_step(record.counts, step, before, fact.outcome)
            changes.append(Change(fact, before, 1 if new else 0))
        elif grew:
            changes.append(dated(record.batch_id, fact.time))
        if new:
            self._take_home(batch, fact.essay_id, changes)
        return news

    def _add_essay(self, batch: _Batch, essay_id: str, moment: datetime) -> _Essay:
        """Make an essay known to a batch."""
        batch_id = batch.record.batch_id
        counted = not is_aggregate(batch_id, essay_id)
        essay = batch.essays[essay_id] = _Essay(moment, counted, self._generation)
        essay.deadline = batch.deadline = self._deadline
        if counted:
            batch.record.seen += 1
        homes = self._homes.get(essay_id, ())
        if batch_id not in homes:
            self._homes[essay_id] = (*homes, batch_id)
        return essay

    def _take_home(self, batch: _Batch, essay_id: str, changes: list[Change]) -> None:
        """Let earlier results that named no batch take effect in a batch that knows the essay."""
        homeless = self._homeless.get(essay_id)
        if homeless:
            essay = batch.essays[essay_id]
            for kept in homeless.steps.values():
                essay.created_at = min(essay.created_at, kept.earliest)
                homed = msgspec.structs.replace(kept.fact, batch_id=batch.record.batch_id)
                self._step(batch, homed, changes)
                for moment in (kept.first, kept.last):
                    if moment and batch.record.saw(moment):
                        changes.append(dated(batch.record.batch_id, moment))

    def _homeless_step(self, fact: StepFact, changes: list[Change]) -> bool:
        """Keep a result that names no batch and let it take effect where its essay is known."""
        kept = self._homeless.get(fact.essay_id)
        steps = kept.steps if kept else {}
        old = steps.get(fact.step)
        merged = merge_homeless(old, fact)
        self._homeless[fact.essay_id] = _Homeless({**steps, fact.step: merged}, self._deadline)
        for batch_id in self._homes.get(fact.essay_id, ()):
            homed = msgspec.structs.replace(fact, batch_id=batch_id)
            self._step(self._batch(batch_id), homed, changes)
        return old is None or not same_content(old.fact, merged.fact)

    def _other(
        self, fact: EssaysFact | RegistrationFact | PhaseFact | BatchFact, changes: list[Change]
    ) -> bool:
        """Merge a fact about a batch; tell whether it is news."""
        batch = self._batch(fact.batch_id)
        behind: list[Change] = []
        new_essays = 0
        grew = False
        if isinstance(fact, EssaysFact):
            grew = batch.record.saw(fact.time)
            new_essays = self._tie(batch, fact.essay_ids, fact.time, behind)
            news = self._name_file(batch, fact) or new_essays > 0
        elif isinstance(fact, RegistrationFact):
            grew = batch.record.saw(fact.time)
            new_essays = self._tie(batch, fact.essay_ids, fact.time, behind)
            news = absorb_registration(batch.record, fact) or new_essays > 0
        elif isinstance(fact, BatchFact) and fact.status in CONTENT:
            news = _count_upload(batch, fact)
        else:
            news = absorb_milestone(batch.record, fact)
        if news:
            batch.deadline = self._deadline
            changes.append(Change(fact, 0, new_essays))
        elif grew and fact.time:
            changes.append(dated(fact.batch_id, fact.time))
        changes += behind
        return news

    def _tie(
        self, batch: _Batch, essay_ids: Iterable[str], moment: datetime, changes: list[Change]
    ) -> int:
        """Make essays known to a batch and return how many of them were not."""
        seen = batch.record.seen
        for essay_id in essay_ids:
            essay = batch.essays.get(essay_id)
            if essay is None:
                self._add_essay(batch, essay_id, moment)
                self._take_home(batch, essay_id, changes)
            elif moment < essay.created_at:
                if essay.generation != self._generation:
                    essay = batch.essays[essay_id] = essay.copy(self._generation)
                essay.created_at = moment
        return batch.record.seen - seen

    def _name_file(self, batch: _Batch, fact: EssaysFact) -> bool:
        """Note the file an essay came from; the newest name wins."""
        if not fact.file_name:
            return False
        changed = False
        for essay_id in fact.essay_ids:
            essay = self._essay(batch, essay_id)
            if essay and (fact.time, fact.file_name) > (essay.file_name_at, essay.file_name):
                if fact.file_name != essay.file_name:
                    changed = True
                    essay.deadline = self._deadline
                essay.file_name, essay.file_name_at = fact.file_name, fact.time
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
        essay_ids = [name for name, essay in batch.essays.items() if essay.counted]
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
            names = (name for name, essay in batch.essays.items() if essay.counted)
        page = nsmallest(limit, (name for name in names if name > after and name in batch.essays))
        return [
            EssayState(
                name, essay.created_at, essay.steps.copy(), essay.file_name, essay.file_name_at
            )
            for name, essay in ((name, batch.essays[name]) for name in page)
        ]

    async def uploads(self, batch_id: str) -> list[tuple[str, str]]:
        """Return the uploads that a batch has counted, in order."""
        self._sweep()
        batch = self._batches.get(batch_id)
        return sorted(batch.uploads or ()) if batch else []

    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""
        for letter in letters:
            self._dead_letters.setdefault((letter.source, letter.position, letter.sha256), letter)

    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival."""
        return list(self._dead_letters.values())[after : after + limit]

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are kept, without reading them."""
        return len(self._dead_letters)

    async def aclose(self) -> None:
        """Nothing to give back."""

    def checkpoint(self) -> Checkpoint:
        """Return the present state; batches are copied only when they change afterwards."""
        self._generation += 1
        return Checkpoint(self._batches.copy(), self._homes.copy(), self._homeless.copy())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back (or forth) to a checkpoint; dead letters stay."""
        self._generation += 1
        self._next_sweep = 0.0
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
        if batch.deadline <= now:
            self._faded.add(batch_id)
            for essay_id in batch.essays:
                self._leave_home(batch_id, essay_id)
            del self._batches[batch_id]
            return
        expired = [name for name, essay in batch.essays.items() if essay.deadline <= now]
        if expired:
            self._faded.add(batch_id)
            batch = self._batch(batch_id)
        for essay_id in expired:
            essay = batch.essays.pop(essay_id)
            self._leave_home(batch_id, essay_id)
            if essay.counted:
                batch.record.seen -= 1
                for step, fact in essay.steps.items():
                    count_step(batch.record.counts, step, fact.outcome, 0)
        deadlines = (essay.deadline for essay in batch.essays.values())
        self._next_sweep = min(self._next_sweep, batch.deadline, *deadlines)

    def _leave_home(self, batch_id: str, essay_id: str) -> None:
        """Forget that a batch knows an essay."""
        homes = tuple(home for home in self._homes.get(essay_id, ()) if home != batch_id)
        if homes:
            self._homes[essay_id] = homes
        else:
            self._homes.pop(essay_id, None)


def _count_upload(batch: _Batch, fact: BatchFact) -> bool:
    """Count an upload once; tell whether it is news."""
    upload = (fact.status, fact.value)
    if batch.uploads is None:
        batch.uploads = set()
    elif upload in batch.uploads:
        return False
    batch.uploads.add(upload)
    absorb_upload(batch.record, fact)
    return True

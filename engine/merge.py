"""The merge of a chunk of facts into what is known of the batches and essays it touches.

Written once for every backend that loads rows or documents, merges them in memory and writes
back what has changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from engine.models import (
    BEGINNING,
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
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
    milestone,
    same_content,
)
from engine.repository import Change, Recorded, dated

Slot: TypeAlias = tuple[Any, str]
"""The key of an essay and the name of a step."""

Identity: TypeAlias = tuple[str, str, str, str]
"""What makes a milestone: phase, status, value, run."""

Upload: TypeAlias = tuple[Any, str, str]
"""The key of a batch, `provisioned` or `rejected`, and the id of the upload."""


class KnownEssay(msgspec.Struct, gc=False):
    """An essay as the backend has it; `key` and `batch_key` are whatever it goes by there."""

    key: Any
    batch_key: Any
    essay_id: str
    created_at: datetime
    file_name: str = ""
    file_name_at: datetime = BEGINNING


class KnownBatch:
    """A batch as the backend has it; `complete` when no essay of it is missing here."""

    __slots__ = ("complete", "essays", "key", "record")

    def __init__(self, key: Hashable, record: BatchRecord, complete: bool) -> None:
        self.key: Any = key
        self.record = record
        self.essays: dict[str, KnownEssay] = {}
        self.complete = complete


class Touched:
    """Everything that a chunk is about, as the backend knows it, and what became of it.

    The backend fills `batches` with the essays that the chunk names, `steps` with their
    results, `homes` with the batches of every essay whose result names none, `homeless` with
    kept results of those and of essays that a batch may not know yet, and `uploads`.
    """

    def __init__(self, batches: Mapping[str, KnownBatch]) -> None:
        self.batches = batches
        self.steps: dict[Slot, StepFact] = {}
        self.homes: dict[str, list[str]] = {}
        self.homeless: dict[str, dict[str, Homeless]] = defaultdict(dict)
        self.uploads: set[Upload] = set()
        self.changed_essays: dict[Any, KnownEssay] = {}
        self.changed_steps: dict[Slot, StepFact] = {}
        self.changed_homeless: dict[tuple[str, str], Homeless] = {}
        self.changed_marks: set[tuple[str, Identity]] = set()
        self.new_uploads: list[Upload] = []

    def key_for(self, batch: KnownBatch, essay_id: str) -> Any:
        """Return the key of an essay that the backend does not have."""
        return batch.key, essay_id

    def add_essay(self, batch: KnownBatch, essay_id: str, created_at: datetime) -> KnownEssay:
        """Add an essay that the backend does not have."""
        essay = KnownEssay(self.key_for(batch, essay_id), batch.key, essay_id, created_at)
        batch.essays[essay_id] = essay
        self.changed_essays[essay.key] = essay
        homes = self.homes.get(essay_id)
        if homes is not None:
            homes.append(batch.record.batch_id)
        return essay


class Named:
    """What a chunk names: the results and essays of each batch, results of none, uploads."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.results: dict[str, list[StepFact]] = defaultdict(list)
        self.listed: dict[str, set[str]] = defaultdict(set)
        self.homeless: list[StepFact] = []
        self.uploads: list[BatchFact] = []
        results = self.results
        for fact in facts:
            if type(fact) is StepFact:
                if fact.batch_id:
                    results[fact.batch_id].append(fact)
                else:
                    self.homeless.append(fact)
            elif type(fact) is EssaysFact or type(fact) is RegistrationFact:
                self.listed[fact.batch_id].update(fact.essay_ids)
            else:
                self.listed[fact.batch_id].update(())
                if type(fact) is BatchFact and fact.status in CONTENT:
                    self.uploads.append(fact)

    def batch_ids(self) -> list[str]:
        """Return the batches, each once."""
        return list(self.results | self.listed)

    def missing(self, batch: KnownBatch) -> set[str]:
        """Return the essays of a batch that are not among the known ones."""
        batch_id, essays = batch.record.batch_id, batch.essays
        missing = {
            fact.essay_id for fact in self.results.get(batch_id, ()) if fact.essay_id not in essays
        }
        return missing | (self.listed.get(batch_id, set()) - essays.keys())


class Merge:
    """Facts are taken one after the other, so that each is news or not by what was before."""

    def __init__(self, touched: Touched) -> None:
        self._touched = touched
        self._changes: list[Change] = []
        self.dating: list[StepFact] = []
        """Results that made an essay known, or moved a date of it or of its batch."""

    def apply(self, facts: Sequence[Fact]) -> Recorded:
        """Merge facts and tell what was new and what changed."""
        batches = self._touched.batches
        news: list[bool] = []
        for fact in facts:
            if type(fact) is StepFact:
                if fact.batch_id:
                    news.append(self._step(batches[fact.batch_id], fact))
                else:
                    news.append(self._homeless_step(fact))
            else:
                news.append(self._other(fact))
        return Recorded(news, self._changes)

    def _step(self, batch: KnownBatch, fact: StepFact) -> bool:
        """Merge one result; tell whether it is news."""
        touched, record = self._touched, batch.record
        essay_id, step, time = fact.essay_id, fact.step, fact.time
        first, last = record.first_at, record.last_at
        within = first is not None and last is not None and first <= time <= last
        grew = dates = not within and fact.detail and record.saw(time)
        essay = batch.essays.get(essay_id)
        new = essay is None
        if essay is None:
            essay = self._add_essay(batch, essay_id, time)
            dates = True
        elif time < essay.created_at:
            self._date(essay, time)
            dates = True
        if dates:
            self.dating.append(fact)
        slot = (essay.key, step)
        old = touched.steps.get(slot)
        if old is None:
            winner, before, news = fact, 0, True
        else:
            winner, before = merge_steps(old, fact), old.outcome
            news = not same_content(old, winner)
        if winner is not old:
            touched.steps[slot] = touched.changed_steps[slot] = winner
        if news and not is_aggregate(record.batch_id, essay_id):
            count_step(record.counts, step, before, winner.outcome)
            self._changes.append(Change(winner, before, int(new)))
        elif grew:
            self._changes.append(dated(record.batch_id, time))
        if new:
            self._take_home(batch, essay)
        return news

    def _homeless_step(self, fact: StepFact) -> bool:
        """Keep a result that names no batch and let it take effect where its essay is known."""
        touched = self._touched
        essay_id, step = fact.essay_id, fact.step
        kept = touched.homeless[essay_id]
        old = kept.get(step)
        merged = kept[step] = merge_homeless(old, fact)
        if old is None or merged != old:
            touched.changed_homeless[essay_id, step] = merged
        for batch_id in touched.homes[essay_id]:
            homed = msgspec.structs.replace(fact, batch_id=batch_id)
            self._step(touched.batches[batch_id], homed)
        return old is None or not same_content(old.fact, merged.fact)

    def _take_home(self, batch: KnownBatch, essay: KnownEssay) -> None:
        """Let earlier results that named no batch take effect in a batch that knows the essay."""
        for kept in self._touched.homeless.get(essay.essay_id, {}).values():
            self._date(essay, min(essay.created_at, kept.earliest))
            self._step(batch, msgspec.structs.replace(kept.fact, batch_id=batch.record.batch_id))
            for moment in (kept.first, kept.last):
                if moment and batch.record.saw(moment):
                    self._changes.append(dated(batch.record.batch_id, moment))

    def _add_essay(self, batch: KnownBatch, essay_id: str, moment: datetime) -> KnownEssay:
        """Make an essay known to a batch."""
        if not is_aggregate(batch.record.batch_id, essay_id):
            batch.record.seen += 1
        return self._touched.add_essay(batch, essay_id, moment)

    def _date(self, essay: KnownEssay, created_at: datetime) -> None:
        essay.created_at = created_at
        self._touched.changed_essays[essay.key] = essay

    def _other(self, fact: EssaysFact | RegistrationFact | PhaseFact | BatchFact) -> bool:
        """Merge a fact about a batch; tell whether it is news."""
        batch = self._touched.batches[fact.batch_id]
        place = len(self._changes)
        new_essays = 0
        grew = False
        if type(fact) is EssaysFact or type(fact) is RegistrationFact:
            grew = batch.record.saw(fact.time)
            new_essays = self._tie(batch, fact.essay_ids, fact.time)
        if type(fact) is EssaysFact:
            news = self._name_file(batch, fact) or new_essays > 0
        elif type(fact) is RegistrationFact:
            news = absorb_registration(batch.record, fact) or new_essays > 0
        elif type(fact) is BatchFact and fact.status in CONTENT:
            news = self._count_upload(batch, fact)
        else:
            news = self._mark(batch.record, fact)
        if news:
            # Results that found their batch only now stand behind what caused it.
            self._changes.insert(place, Change(fact, 0, new_essays))
        elif grew and fact.time:
            self._changes.append(dated(fact.batch_id, fact.time))
        return news

    def _tie(self, batch: KnownBatch, essay_ids: Iterable[str], moment: datetime) -> int:
        """Make essays known to a batch and return how many of them were not."""
        seen = batch.record.seen
        for essay_id in essay_ids:
            essay = batch.essays.get(essay_id)
            if essay is None:
                self._take_home(batch, self._add_essay(batch, essay_id, moment))
            elif moment < essay.created_at:
                self._date(essay, moment)
        return batch.record.seen - seen

    def _name_file(self, batch: KnownBatch, fact: EssaysFact) -> bool:
        """Note the file an essay came from; the newest name wins."""
        changed = False
        for essay_id in fact.essay_ids if fact.file_name else ():
            essay = batch.essays[essay_id]
            if (fact.time, fact.file_name) > (essay.file_name_at, essay.file_name):
                changed = changed or fact.file_name != essay.file_name
                essay.file_name, essay.file_name_at = fact.file_name, fact.time
                self._touched.changed_essays[essay.key] = essay
        return changed

    def _count_upload(self, batch: KnownBatch, fact: BatchFact) -> bool:
        """Count an upload once; tell whether it is news."""
        upload = (batch.key, fact.status, fact.value)
        if upload in self._touched.uploads:
            return False
        self._touched.uploads.add(upload)
        self._touched.new_uploads.append(upload)
        absorb_upload(batch.record, fact)
        return True

    def _mark(self, record: BatchRecord, fact: PhaseFact | BatchFact) -> bool:
        """Keep a milestone; tell whether it is news."""
        news = absorb_milestone(record, fact)
        if news:
            self._touched.changed_marks.add((record.batch_id, milestone(fact).identity))
        return news

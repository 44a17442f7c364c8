"""The merge of one chunk of facts into the rows that it touches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from engine.backends.sqlite_known import Known, KnownBatch, KnownEssay
from engine.backends.sqlite_rows import Rows
from engine.models import (
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
    Fact,
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


def record_chunk(connection: sqlite3.Connection, known: Known, facts: Sequence[Fact]) -> Recorded:
    """Merge a chunk of facts inside the open transaction."""
    rows = Rows(connection, known)
    rows.load(facts)
    recorded = _Merge(rows).apply(facts)
    rows.write()
    return recorded


class _Merge:
    """Facts are taken one after the other, so that each is news or not by what was before."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._changes: list[Change] = []

    def apply(self, facts: Sequence[Fact]) -> Recorded:
        """Merge facts and tell what was new and what changed."""
        batches = self._rows.batches
        news: list[bool] = []
        for fact in facts:
            if isinstance(fact, StepFact):
                if fact.batch_id:
                    news.append(self._step(batches[fact.batch_id], fact))
                else:
                    news.append(self._homeless_step(fact))
            else:
                news.append(self._other(fact))
        return Recorded(news, self._changes)

    def _step(self, batch: KnownBatch, fact: StepFact) -> bool:
        """Merge one result; tell whether it is news."""
        rows = self._rows
        grew = fact.detail and batch.record.saw(fact.time)
        essay = batch.essays.get(fact.essay_id)
        new = essay is None
        if essay is None:
            essay = self._add_essay(batch, fact.essay_id, fact.time)
        elif fact.time < essay.created_at:
            self._date(essay, fact.time)
        slot = (essay.key, fact.step)
        old = rows.steps.get(slot)
        winner = fact if old is None else merge_steps(old, fact)
        if winner is not old:
            rows.steps[slot] = rows.changed_steps[slot] = winner
        news = old is None or not same_content(old, winner)
        if news and not is_aggregate(batch.record.batch_id, fact.essay_id):
            before = old.outcome if old else 0
            count_step(batch.record.counts, fact.step, before, winner.outcome)
            self._changes.append(Change(winner, before, int(new)))
        elif grew:
            self._changes.append(dated(batch.record.batch_id, fact.time))
        if new:
            self._take_home(batch, essay)
        return news

    def _homeless_step(self, fact: StepFact) -> bool:
        """Keep a result that names no batch and let it take effect where its essay is known."""
        rows = self._rows
        kept = rows.homeless[fact.essay_id]
        old = kept.get(fact.step)
        merged = kept[fact.step] = merge_homeless(old, fact)
        if merged != old:
            rows.changed_homeless.add((fact.essay_id, fact.step))
        for batch_id in rows.homes[fact.essay_id]:
            homed = msgspec.structs.replace(fact, batch_id=batch_id)
            self._step(rows.batches[batch_id], homed)
        return old is None or not same_content(old.fact, merged.fact)

    def _take_home(self, batch: KnownBatch, essay: KnownEssay) -> None:
        """Let earlier results that named no batch take effect in a batch that knows the essay."""
        for kept in self._rows.homeless.get(essay.essay_id, {}).values():
            self._date(essay, min(essay.created_at, kept.earliest))
            self._step(batch, msgspec.structs.replace(kept.fact, batch_id=batch.record.batch_id))
            for moment in (kept.first, kept.last):
                if moment and batch.record.saw(moment):
                    self._changes.append(dated(batch.record.batch_id, moment))

    def _add_essay(self, batch: KnownBatch, essay_id: str, moment: datetime) -> KnownEssay:
        """Make an essay known to a batch."""
        if not is_aggregate(batch.record.batch_id, essay_id):
            batch.record.seen += 1
        return self._rows.add_essay(batch, essay_id, moment)

    def _date(self, essay: KnownEssay, created_at: datetime) -> None:
        essay.created_at = created_at
        self._rows.changed_essays[essay.key] = essay

    def _other(self, fact: EssaysFact | RegistrationFact | PhaseFact | BatchFact) -> bool:
        """Merge a fact about a batch; tell whether it is news."""
        batch = self._rows.batches[fact.batch_id]
        place = len(self._changes)
        new_essays = 0
        grew = False
        if isinstance(fact, EssaysFact | RegistrationFact):
            grew = batch.record.saw(fact.time)
            new_essays = self._tie(batch, fact.essay_ids, fact.time)
        if isinstance(fact, EssaysFact):
            news = self._name_file(batch, fact) or new_essays > 0
        elif isinstance(fact, RegistrationFact):
            news = absorb_registration(batch.record, fact) or new_essays > 0
        elif isinstance(fact, BatchFact) and fact.status in CONTENT:
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
                self._rows.changed_essays[essay.key] = essay
        return changed

    def _count_upload(self, batch: KnownBatch, fact: BatchFact) -> bool:
        """Count an upload once; tell whether it is news."""
        upload = (batch.key, fact.status, fact.value)
        if upload in self._rows.uploads:
            return False
        self._rows.uploads.add(upload)
        self._rows.new_uploads.append(upload)
        absorb_upload(batch.record, fact)
        return True

    def _mark(self, record: BatchRecord, fact: PhaseFact | BatchFact) -> bool:
        """Keep a milestone; tell whether it is news."""
        news = absorb_milestone(record, fact)
        if news:
            self._rows.changed_marks.add((record.batch_id, milestone(fact).identity))
        return news

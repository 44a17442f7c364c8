"""The rows that one chunk of facts touches: loaded before the merge, written back after it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from engine.backends.sqlite_bulk import insert, replace
from engine.backends.sqlite_known import (
    Known,
    load_essays,
    optional_microseconds,
    optional_time,
    select_in,
    step_from,
)
from engine.clock import from_microseconds, to_microseconds
from engine.merge import Identity, KnownBatch, KnownEssay, Slot, Touched
from engine.models import (
    BEGINNING,
    CONTENT,
    BatchFact,
    EssaysFact,
    Fact,
    Homeless,
    RegistrationFact,
    StepFact,
)


class Rows(Touched):
    """What the database knows of everything that a chunk is about, and what became of it."""

    def __init__(self, connection: sqlite3.Connection, known: Known) -> None:
        self._connection = connection
        self._known = known
        self._names = known.refresh(connection)
        super().__init__(known.batches)
        self._before: dict[str, tuple[tuple[Any, ...], dict[str, list[int]]]] = {}
        self._first_new_essay = known.next_essay_key
        self._old_steps: frozenset[Slot] = frozenset()
        self._old_homeless: frozenset[tuple[str, str]] = frozenset()

    def load(self, facts: Sequence[Fact]) -> None:
        """Load what the facts are about."""
        wanted: dict[str, set[str]] = defaultdict(set)
        homeless: set[str] = set()
        for fact in facts:
            if type(fact) is StepFact:
                if fact.batch_id:
                    wanted[fact.batch_id].add(fact.essay_id)
                else:
                    homeless.add(fact.essay_id)
            elif isinstance(fact, EssaysFact | RegistrationFact):
                wanted[fact.batch_id].update(fact.essay_ids)
            else:
                wanted[fact.batch_id].update(())
        self._load_homes(homeless, wanted)
        new = self._known.load_batches(self._connection, wanted)
        for batch_id, essay_ids in wanted.items():
            batch = self.batches[batch_id]
            load_essays(self._connection, batch, essay_ids)
            columns = () if batch_id in new else _columns(batch)
            self._before[batch_id] = (columns, batch.record.copy().counts)
            homeless |= essay_ids - batch.essays.keys()
        self._load_homeless(homeless)
        self._load_steps(facts)
        self._load_uploads(facts)
        self._old_steps = frozenset(self.steps)
        self._old_homeless = frozenset(
            (essay_id, step) for essay_id, kept in self.homeless.items() for step in kept
        )

    def key_for(self, batch: KnownBatch, essay_id: str) -> int:
        """Return the key of an essay that the database does not have."""
        return self._known.take_essay_key()

    def _load_homes(self, essay_ids: Iterable[str], wanted: dict[str, set[str]]) -> None:
        """Find the batches of essays whose results name none."""
        self.homes = {essay_id: [] for essay_id in essay_ids}
        sql = (
            "SELECT essay_id, batch_id FROM essays JOIN batches USING (batch_key)"
            " WHERE essay_id IN ({}) ORDER BY essay_key"
        )
        for essay_id, batch_id in select_in(self._connection, sql, self.homes):
            self.homes[essay_id].append(batch_id)
            wanted[batch_id].add(essay_id)

    def _load_homeless(self, essay_ids: Iterable[str]) -> None:
        """Load kept results of essays that get one more, or that a batch may not know yet."""
        sql = "SELECT * FROM homeless_steps WHERE essay_id IN ({})"
        for row in select_in(self._connection, sql, essay_ids):
            essay_id, step = row[0], self._names.names[row[1]]
            self.homeless[essay_id][step] = Homeless(
                step_from("", essay_id, step, row[2:7]),
                from_microseconds(row[7]),
                optional_time(row[8]),
                optional_time(row[9]),
            )

    def _load_steps(self, facts: Iterable[Fact]) -> None:
        """Load the results that the chunk may replace."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for fact in facts:
            if type(fact) is not StepFact:
                continue
            homes = (fact.batch_id,) if fact.batch_id else self.homes[fact.essay_id]
            for batch_id in homes:
                essay = self.batches[batch_id].essays.get(fact.essay_id)
                if essay is not None:
                    wanted[fact.step].add(essay.key)
        sql = (
            "SELECT essay_key, outcome, time_us, event_id, detail, metadata FROM steps"
            " WHERE essay_key IN (SELECT value FROM json_each(?)) AND step_key = ?"
        )
        for step, keys in wanted.items():
            parameters = (json.dumps(list(keys)), self._names.keys.get(step))
            for row in self._connection.execute(sql, parameters):
                self.steps[row[0], step] = step_from("", "", step, row[1:])

    def _load_uploads(self, facts: Iterable[Fact]) -> None:
        """Load which of the uploads have been counted."""
        wanted: dict[tuple[int, str], list[str]] = defaultdict(list)
        for fact in facts:
            if isinstance(fact, BatchFact) and fact.status in CONTENT:
                wanted[self.batches[fact.batch_id].key, fact.status].append(fact.value)
        sql = "SELECT * FROM uploads WHERE batch_key = ? AND status = ? AND value IN ({})"
        for (key, status), values in wanted.items():
            self.uploads.update(select_in(self._connection, sql, values, key, status))

    def write(self) -> None:
        """Write what the merge has changed."""
        self._write_essays()
        self._write_steps()
        self._write_homeless()
        connection = self._connection
        replace(connection, "milestones", map(self._milestone_row, self.changed_marks))
        insert(connection, "uploads", self.new_uploads)
        batches: list[tuple[Any, ...]] = []
        counters: list[tuple[int, ...]] = []
        for batch_id, (columns, counts) in self._before.items():
            batch = self.batches[batch_id]
            if _columns(batch) != columns:
                batches.append(_columns(batch))
            for step, pair in batch.record.counts.items():
                if counts.get(step) != pair:
                    counters.append((batch.key, self._key_of(step), *pair))
        replace(connection, "batches", batches)
        replace(connection, "counters", counters)

    def _write_essays(self) -> None:
        changed = self.changed_essays.values()
        first = self._first_new_essay
        insert(self._connection, "essays", [_essay_row(one) for one in changed if one.key >= first])
        replace(self._connection, "essays", (_essay_row(one) for one in changed if one.key < first))

    def _write_steps(self) -> None:
        keys = {step: self._key_of(step) for step in {step for _, step in self.changed_steps}}
        rows = [
            (
                key,
                keys[step],
                fact.outcome,
                to_microseconds(fact.time),
                fact.event_id,
                fact.detail,
                fact.metadata,
            )
            for (key, step), fact in self.changed_steps.items()
        ]
        old = self.changed_steps.keys() & self._old_steps
        if old:
            places = {(key, keys[step]) for key, step in old}
            replace(self._connection, "steps", [row for row in rows if row[:2] in places])
            rows = [row for row in rows if row[:2] not in places]
        rows.sort(key=itemgetter(0))
        insert(self._connection, "steps", rows)

    def _write_homeless(self) -> None:
        new: list[tuple[Any, ...]] = []
        old: list[tuple[Any, ...]] = []
        for place in self.changed_homeless:
            (old if place in self._old_homeless else new).append(self._homeless_row(place))
        insert(self._connection, "homeless_steps", new)
        replace(self._connection, "homeless_steps", old)

    def _key_of(self, step: str) -> int:
        return self._names.add(self._connection, step)

    def _homeless_row(self, place: tuple[str, str]) -> tuple[Any, ...]:
        essay_id, step = place
        kept = self.homeless[essay_id][step]
        time = kept.fact.time
        time_us = to_microseconds(time)
        # The times of a result that is the only one of its step are one and the same.
        earliest_us = time_us if kept.earliest is time else to_microseconds(kept.earliest)
        first_us = time_us if kept.first is time else optional_microseconds(kept.first)
        last_us = time_us if kept.last is time else optional_microseconds(kept.last)
        return (
            essay_id,
            self._key_of(step),
            kept.fact.outcome,
            time_us,
            kept.fact.event_id,
            kept.fact.detail,
            kept.fact.metadata,
            earliest_us,
            first_us,
            last_us,
        )

    def _milestone_row(self, place: tuple[str, Identity]) -> tuple[Any, ...]:
        batch = self.batches[place[0]]
        mark = batch.record.milestones[place[1]]
        return (batch.key, *mark.identity, optional_microseconds(mark.time))


_BEGINNING_US = to_microseconds(BEGINNING)


def _essay_row(essay: KnownEssay) -> tuple[Any, ...]:
    return (
        essay.key,
        essay.batch_key,
        essay.essay_id,
        to_microseconds(essay.created_at),
        essay.file_name,
        _BEGINNING_US if essay.file_name_at is BEGINNING else to_microseconds(essay.file_name_at),
    )


def _columns(batch: KnownBatch) -> tuple[Any, ...]:
    """Return the row of a batch."""
    record = batch.record
    return (
        batch.key,
        record.batch_id,
        record.expected,
        record.seen,
        record.owner,
        to_microseconds(record.owner_at),
        optional_microseconds(record.first_at),
        optional_microseconds(record.last_at),
        record.provisioned,
        record.rejected,
    )

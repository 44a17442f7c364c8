"""The rows that one chunk of facts touches: loaded before the merge, written back after it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from engine.backends.sqlite_bulk import insert, replace
from engine.backends.sqlite_file import id_number
from engine.backends.sqlite_known import (
    Known,
    load_essays,
    optional_microseconds,
    optional_time,
    select_in,
    step_from,
)
from engine.clock import EPOCH, MICROSECOND, from_microseconds, to_microseconds
from engine.merge import Identity, KnownBatch, KnownEssay, Named, Slot, Touched
from engine.models import (
    BEGINNING,
    BatchFact,
    Fact,
    Homeless,
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
        self._homeless_keys: dict[tuple[str, str], int] = {}

    def load(self, facts: Sequence[Fact]) -> None:
        """Load what the facts are about."""
        named = Named(facts)
        wanted = {
            batch_id: {fact.essay_id for fact in results}
            for batch_id, results in named.results.items()
        }
        for batch_id, essay_ids in named.listed.items():
            wanted.setdefault(batch_id, set()).update(essay_ids)
        homeless = {fact.essay_id for fact in named.homeless}
        self._load_homes(homeless, wanted)
        new = self._known.load_batches(self._connection, wanted)
        for batch_id, essay_ids in wanted.items():
            batch = self.batches[batch_id]
            load_essays(self._connection, batch, essay_ids)
            columns = () if batch_id in new else _columns(batch)
            counts = {step: list(pair) for step, pair in batch.record.counts.items()}
            self._before[batch_id] = (columns, counts)
            homeless |= essay_ids - batch.essays.keys()
        self._load_homeless(homeless)
        self._load_steps(named)
        self._load_uploads(named.uploads)
        self._old_steps = frozenset(self.steps)

    def key_for(self, batch: KnownBatch, essay_id: str) -> int:
        """Return the key of an essay that the database does not have."""
        return self._known.take_essay_key()

    def _load_homes(self, essay_ids: Iterable[str], wanted: dict[str, set[str]]) -> None:
        """Find the batches of essays whose results name none."""
        self.homes = {essay_id: [] for essay_id in essay_ids}
        sql = (
            "SELECT essay_id, batch_id FROM essays JOIN batches USING (batch_key)"
            " WHERE id_number IN ({}) ORDER BY essay_key"
        )
        numbers = map(id_number, self.homes)
        for essay_id, batch_id in select_in(self._connection, sql, numbers):
            if essay_id in self.homes:
                self.homes[essay_id].append(batch_id)
                wanted.setdefault(batch_id, set()).add(essay_id)

    def _load_homeless(self, essay_ids: Iterable[str]) -> None:
        """Load kept results of essays that get one more, or that a batch may not know yet."""
        sql = "SELECT * FROM homeless_steps WHERE id_number IN ({})"
        for row in select_in(self._connection, sql, map(id_number, essay_ids)):
            essay_id, step = row[2], self._names.names[row[3]]
            self._homeless_keys[essay_id, step] = row[0]
            self.homeless[essay_id][step] = Homeless(
                step_from("", essay_id, step, row[4:9]),
                from_microseconds(row[9]),
                optional_time(row[10]),
                optional_time(row[11]),
            )

    def _load_steps(self, named: Named) -> None:
        """Load the results that the chunk may replace."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for batch_id, results in named.results.items():
            essays = self.batches[batch_id].essays
            for fact in results if essays else ():
                if (essay := essays.get(fact.essay_id)) is not None:
                    wanted[fact.step].add(essay.key)
        for fact in named.homeless:
            for batch_id in self.homes[fact.essay_id]:
                wanted[fact.step].add(self.batches[batch_id].essays[fact.essay_id].key)
        sql = (
            "SELECT essay_key, outcome, time_us, event_id, detail, metadata FROM steps"
            " WHERE essay_key IN (SELECT value FROM json_each(?)) AND step_key = ?"
        )
        for step, keys in wanted.items():
            parameters = (json.dumps(list(keys)), self._names.keys.get(step))
            for row in self._connection.execute(sql, parameters):
                self.steps[row[0], step] = step_from("", "", step, row[1:])

    def _load_uploads(self, uploads: Iterable[BatchFact]) -> None:
        """Load which of the uploads have been counted."""
        wanted: dict[tuple[int, str], list[str]] = defaultdict(list)
        for fact in uploads:
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
                (fact.time - EPOCH) // MICROSECOND,
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
        steps = {step: self._key_of(step) for step in {step for _, step in self.changed_homeless}}
        rows = [
            (self._homeless_keys.get(place), *_homeless_columns(kept, steps[place[1]]))
            for place, kept in self.changed_homeless.items()
        ]
        # Those without a key are new, and are given the next ones.
        new = sorted((row for row in rows if row[0] is None), key=itemgetter(1))
        insert(self._connection, "homeless_steps", new)
        replace(self._connection, "homeless_steps", (row for row in rows if row[0] is not None))

    def _key_of(self, step: str) -> int:
        return self._names.add(self._connection, step)

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
        id_number(essay.essay_id),
    )


def _homeless_columns(kept: Homeless, step_key: int) -> tuple[Any, ...]:
    """Return the row of a kept result, behind its key."""
    fact = kept.fact
    time = fact.time
    time_us = to_microseconds(time)
    # The times of a result that is the only one of its step are one and the same.
    return (
        id_number(fact.essay_id),
        fact.essay_id,
        step_key,
        fact.outcome,
        time_us,
        fact.event_id,
        fact.detail,
        fact.metadata,
        time_us if kept.earliest is time else to_microseconds(kept.earliest),
        time_us if kept.first is time else optional_microseconds(kept.first),
        time_us if kept.last is time else optional_microseconds(kept.last),
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

"""The rows that one chunk of facts touches: loaded before the merge, written back after it."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from engine.backends.sqlite_known import (
    Known,
    load_essays,
    optional_microseconds,
    optional_time,
    select_in,
    step_from,
)
from engine.clock import from_microseconds, to_microseconds
from engine.merge import Identity, KnownBatch, KnownEssay, Touched
from engine.models import (
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
        step_rows = (
            (key, *self._step_columns(step, fact))
            for (key, step), fact in self.changed_steps.items()
        )
        self._replace("essays", map(_essay_row, self.changed_essays.values()))
        self._replace("steps", sorted(step_rows))
        self._replace("milestones", map(self._milestone_row, self.changed_marks))
        self._replace("uploads", self.new_uploads)
        self._replace("homeless_steps", map(self._homeless_row, self.changed_homeless))
        batches: list[tuple[Any, ...]] = []
        counters: list[tuple[int, ...]] = []
        for batch_id, (columns, counts) in self._before.items():
            batch = self.batches[batch_id]
            if _columns(batch) != columns:
                batches.append(_columns(batch))
            for step, pair in batch.record.counts.items():
                if counts.get(step) != pair:
                    counters.append((batch.key, self._key_of(step), *pair))
        self._replace("batches", batches)
        self._replace("counters", counters)

    def _replace(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ",".join("?" * _WIDTHS[table])
        self._connection.executemany(f"REPLACE INTO {table} VALUES ({marks})", rows)

    def _key_of(self, step: str) -> int:
        return self._names.add(self._connection, step)

    def _step_columns(self, step: str, fact: StepFact) -> tuple[Any, ...]:
        return (
            self._key_of(step),
            fact.outcome,
            to_microseconds(fact.time),
            fact.event_id,
            fact.detail,
            fact.metadata,
        )

    def _homeless_row(self, place: tuple[str, str]) -> tuple[Any, ...]:
        essay_id, step = place
        kept = self.homeless[essay_id][step]
        return (
            essay_id,
            *self._step_columns(step, kept.fact),
            to_microseconds(kept.earliest),
            optional_microseconds(kept.first),
            optional_microseconds(kept.last),
        )

    def _milestone_row(self, place: tuple[str, Identity]) -> tuple[Any, ...]:
        batch = self.batches[place[0]]
        mark = batch.record.milestones[place[1]]
        return (batch.key, *mark.identity, optional_microseconds(mark.time))


_WIDTHS: Final = {
    "batches": 10,
    "essays": 6,
    "steps": 7,
    "counters": 4,
    "milestones": 6,
    "uploads": 3,
    "homeless_steps": 10,
}


def _essay_row(essay: KnownEssay) -> tuple[Any, ...]:
    return (
        essay.key,
        essay.batch_key,
        essay.essay_id,
        to_microseconds(essay.created_at),
        essay.file_name,
        to_microseconds(essay.file_name_at),
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

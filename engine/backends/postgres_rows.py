"""The rows that one chunk of facts touches: loaded before the merge, written back after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from engine.backends.postgres_known import (
    Batch,
    Known,
    aware,
    columns_of,
    optional,
    original,
    step_from,
    stored,
)
from engine.backends.postgres_phases import publish_outcomes
from engine.backends.postgres_session import Connection
from engine.backends.postgres_tables import (
    BATCHES,
    COUNTERS,
    ESSAYS,
    HOMELESS,
    MILESTONES,
    STEPS,
    UPLOADS,
    Row,
    insert,
    upsert,
)
from engine.merge import Identity, KnownBatch, Named, Touched
from engine.models import BatchFact, Fact, Homeless, StepFact


class Rows(Touched):
    """What the database knows of everything that a chunk is about, and what became of it."""

    def __init__(self, connection: Connection, known: Known) -> None:
        super().__init__(known.batches)
        self._connection = connection
        self._known = known
        self._before: dict[str, tuple[Row, dict[str, list[int]]]] = {}
        self._masks: dict[str, dict[str, int]] = {}
        self._kept: set[tuple[str, str]] = set()  # results without a batch that are there
        self.changed_batches: set[str] = set()

    async def load(self, facts: Sequence[Fact]) -> None:
        """Load what the facts are about."""
        named = Named(facts)
        if named.homeless:
            await self._load_homes(named)
        batch_ids = named.batch_ids()
        new = await self._known.load_batches(self._connection, batch_ids)
        batches = [self._known.batches[batch_id] for batch_id in batch_ids]
        await self._known.load_essays(
            self._connection,
            [(batch, named.missing(batch)) for batch in batches if not batch.complete],
        )
        homeless = {fact.essay_id for fact in named.homeless}
        for batch in batches:
            batch_id = batch.record.batch_id
            self._masks[batch.key] = batch.masks
            columns = () if batch_id in new else _columns(batch)
            self._before[batch_id] = (columns, batch.record.copy().counts)
            homeless |= named.missing(batch)
        if homeless:
            await self._load_homeless(homeless)
        await self._load_steps(named.results)
        await self._load_uploads(named.uploads)

    def key_for(self, batch: KnownBatch, essay_id: str) -> tuple[str, str]:
        """Return the key of an essay that the database does not have."""
        return batch.key, stored(essay_id)

    async def _load_homes(self, named: Named) -> None:
        """Find the batches of essays whose results name none."""
        self.homes = {fact.essay_id: [] for fact in named.homeless}
        sql = "SELECT essay_id, batch_id FROM bcs.essays WHERE essay_id = ANY($1::text[])"
        for row in await self._connection.fetch(sql, list(map(stored, self.homes))):
            self.homes[original(row[0])].append(original(row[1]))
        for fact in named.homeless:
            for batch_id in self.homes[fact.essay_id]:
                named.results[batch_id].append(fact)

    async def _load_homeless(self, essay_ids: Iterable[str]) -> None:
        """Load kept results of essays that get one more, or that a batch may not know yet."""
        sql = "SELECT * FROM bcs.homeless_steps WHERE essay_id = ANY($1::text[])"
        for row in await self._connection.fetch(sql, list(map(stored, essay_ids))):
            essay_id, step = original(row[0]), original(row[1])
            self._kept.add((essay_id, step))
            self.homeless[essay_id][step] = Homeless(
                step_from("", essay_id, step, row[2:7]),
                aware(row[7]),
                optional(row[8]),
                optional(row[9]),
            )

    async def _load_steps(self, results: Mapping[str, Iterable[StepFact]]) -> None:
        """Load the results that the chunk may replace."""
        wanted: set[tuple[str, str, str]] = set()
        known_step = self._known.step
        for batch_id, facts in results.items():
            batch = self._known.batches[batch_id]
            masks = batch.masks
            for fact in facts:
                mask = masks.get(fact.essay_id)
                if mask:
                    bit, name = known_step(fact.step)
                    if mask & bit:
                        wanted.add((batch.key, stored(fact.essay_id), name))
        if wanted:
            for row in await self._connection.fetch(_STEPS, *columns_of(sorted(wanted))):
                step = original(row[2])
                self.steps[(row[0], row[1]), step] = step_from("", "", step, row[3:])

    async def _load_uploads(self, facts: Iterable[BatchFact]) -> None:
        """Load which of the uploads have been counted."""
        wanted = {
            (self.batches[fact.batch_id].key, fact.status, stored(fact.value)) for fact in facts
        }
        if wanted:
            found = await self._connection.fetch(_UPLOADS, *columns_of(sorted(wanted)))
            for key, status, value in found:
                self.uploads.add((key, status, original(value)))

    async def write(self) -> None:
        """Write what the merge has changed."""
        await self._write_essays()
        await self._write_steps()
        connection = self._connection
        uploads = [(key, status, stored(value)) for key, status, value in self.new_uploads]
        await insert(connection, UPLOADS, uploads)
        await upsert(connection, MILESTONES, [*map(self._milestone_row, self.changed_marks)])
        new = sorted(self.changed_homeless.keys() - self._kept)
        await insert(connection, HOMELESS, [*map(self._homeless_row, new)])
        changed = sorted(self.changed_homeless.keys() & self._kept)
        await upsert(connection, HOMELESS, [*map(self._homeless_row, changed)])
        await self._write_records()
        self.changed_batches.update(key for key, _, _ in self.new_uploads)
        self.changed_batches.update(stored(batch_id) for batch_id, _ in self.changed_marks)
        records = {batch_id: self.batches[batch_id].record for batch_id, _ in self.changed_marks}
        await publish_outcomes(connection, records, self.changed_marks)

    async def _write_essays(self) -> None:
        new: list[Row] = []
        changed: list[Row] = []
        for essay in self.changed_essays.values():
            masks = self._masks[essay.batch_key]
            row = (*essay.key, essay.created_at, stored(essay.file_name), essay.file_name_at)
            if essay.essay_id in masks:
                changed.append(row)
            else:
                masks[essay.essay_id] = 0
                new.append(row)
        self.changed_batches.update(essay.batch_key for essay in self.changed_essays.values())
        await insert(self._connection, ESSAYS, sorted(new))
        await upsert(self._connection, ESSAYS, changed)

    async def _write_steps(self) -> None:
        new: list[Row] = []
        changed: list[Row] = []
        known_step = self._known.step
        for ((key, essay_key), step), fact in self.changed_steps.items():
            masks = self._masks[key]
            mask, (bit, name) = masks[fact.essay_id], known_step(step)
            row = (key, essay_key, name, *_result(fact))
            if mask & bit:
                changed.append(row)
            else:
                masks[fact.essay_id] = mask | bit
                new.append(row)
        self.changed_batches.update(key for (key, _), _ in self.changed_steps)
        await insert(self._connection, STEPS, sorted(new))
        await upsert(self._connection, STEPS, changed)

    async def _write_records(self) -> None:
        batches: list[Row] = []
        counters: list[Row] = []
        for batch_id, (columns, counts) in self._before.items():
            batch = self._known.batches[batch_id]
            now = _columns(batch)
            if now != columns:
                batches.append(now)
            for step, pair in batch.record.counts.items():
                if counts.get(step) != pair:
                    counters.append((batch.key, self._known.step(step)[1], *pair))
        self.changed_batches.update(row[0] for row in (*batches, *counters))
        await upsert(self._connection, COUNTERS, counters)
        await upsert(self._connection, BATCHES, batches)

    def _homeless_row(self, place: tuple[str, str]) -> Row:
        essay_id, step = place
        kept = self.homeless[essay_id][step]
        times = (kept.earliest, kept.first, kept.last)
        return (stored(essay_id), stored(step), *_result(kept.fact), *times)

    def _milestone_row(self, place: tuple[str, Identity]) -> Row:
        batch = self.batches[place[0]]
        mark = batch.record.milestones[place[1]]
        return (batch.key, *map(stored, mark.identity), mark.time)


# OFFSET 0 keeps the planner from reading a whole table where a chunk names many rows.
_STEPS: Final = """
SELECT step.* FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (batch_id, essay_id, step)
CROSS JOIN LATERAL (
    SELECT batch_id, essay_id, step, outcome, happened_at, event_id, detail, metadata
    FROM bcs.essay_steps AS found
    WHERE found.batch_id = wanted.batch_id AND found.essay_id = wanted.essay_id
        AND found.step = wanted.step OFFSET 0
) AS step
"""

_UPLOADS: Final = """
SELECT upload.* FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (batch_id, status, value)
CROSS JOIN LATERAL (
    SELECT batch_id, status, value FROM bcs.uploads AS found
    WHERE found.batch_id = wanted.batch_id AND found.status = wanted.status
        AND found.value = wanted.value OFFSET 0
) AS upload
"""


def _result(fact: StepFact) -> Row:
    return fact.outcome, fact.time, stored(fact.event_id), fact.detail, stored(fact.metadata)


def _columns(batch: Batch) -> Row:
    """Return the row of a batch."""
    record = batch.record
    return (
        batch.key,
        record.expected,
        record.seen,
        stored(record.owner),
        record.owner_at,
        record.first_at,
        record.last_at,
        record.provisioned,
        record.rejected,
    )

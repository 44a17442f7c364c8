"""What the writer knows of the database, so that it asks only for what it cannot know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engine.backends.postgres_session import Connection
from engine.merge import KnownBatch, KnownEssay
from engine.models import BatchRecord, Milestone, StepFact

_MOST_ESSAYS: Final = 100_000
_MOST_BATCHES: Final = 5_000


class Batch(KnownBatch):
    """A batch as the database has it.

    `masks` has a bit for every step that the database has of an essay: what is not there need
    not be looked for.
    """

    __slots__ = ("masks",)

    def __init__(self, record: BatchRecord, complete: bool) -> None:
        super().__init__(stored(record.batch_id), record, complete)
        self.masks: dict[str, int] = {}


class Known:
    """Batches and essays seen lately; forgotten when another process wrote."""

    def __init__(self) -> None:
        self._version = -1
        self._steps: dict[str, tuple[int, str]] = {}
        self.batches: dict[str, Batch] = {}

    def refresh(self, version: int) -> None:
        """Keep what is known only if the transaction before this version was our own."""
        if version != self._version + 1:
            self.batches.clear()
        self._version = version
        essays = sum(len(batch.essays) for batch in self.batches.values())
        while self.batches and (essays > _MOST_ESSAYS or len(self.batches) > _MOST_BATCHES):
            oldest = self.batches.pop(next(iter(self.batches)))
            essays -= len(oldest.essays)

    def step(self, step: str) -> tuple[int, str]:
        """Return the bit that stands for a step in a mask, and its name as it is stored."""
        found = self._steps.get(step)
        if found is None:
            found = self._steps[step] = (1 << len(self._steps), stored(step))
        return found

    async def load_batches(self, connection: Connection, batch_ids: Iterable[str]) -> set[str]:
        """Make batches known; return those that are not in the database yet."""
        missing: list[str] = []
        for batch_id in batch_ids:
            batch = self.batches.pop(batch_id, None)
            if batch is None:
                missing.append(batch_id)
            else:
                self.batches[batch_id] = batch  # used lately: forgotten last
        records = await load_records(connection, missing) if missing else {}
        for batch_id in missing:
            record = records.get(batch_id)
            self.batches[batch_id] = Batch(record or BatchRecord(batch_id), record is None)
        return {batch_id for batch_id in missing if batch_id not in records}

    async def load_essays(
        self, connection: Connection, wanted: Iterable[tuple[Batch, Iterable[str]]]
    ) -> None:
        """Make those of the essays known that the database has."""
        missing = [
            (batch.key, stored(essay_id)) for batch, essay_ids in wanted for essay_id in essay_ids
        ]
        if not missing:
            return
        for row in await connection.fetch(_ESSAYS, *columns_of(missing)):
            batch_id, essay_id = original(row[0]), original(row[1])
            batch = self.batches[batch_id]
            batch.essays[essay_id] = KnownEssay(
                (row[0], row[1]), row[0], essay_id, aware(row[2]), original(row[3]), aware(row[4])
            )
            batch.masks[essay_id] = sum(self.step(original(step))[0] for step in row[5])


# OFFSET 0 keeps the planner from reading a whole table where a chunk names many rows.
_ESSAYS: Final = """
SELECT essay.* FROM unnest($1::text[], $2::text[]) AS wanted (batch_id, essay_id)
CROSS JOIN LATERAL (
    SELECT batch_id, essay_id, created_at, file_name, file_name_at, ARRAY(
        SELECT step FROM bcs.essay_steps AS step
        WHERE step.batch_id = found.batch_id AND step.essay_id = found.essay_id
    ) FROM bcs.essays AS found
    WHERE found.batch_id = wanted.batch_id AND found.essay_id = wanted.essay_id OFFSET 0
) AS essay
"""


async def load_records(connection: Connection, batch_ids: Sequence[str]) -> dict[str, BatchRecord]:
    """Return the records of those batches that the database has, by their ids."""
    names = [stored(batch_id) for batch_id in batch_ids]
    sql = (
        "SELECT batch_id, expected, seen, owner, owner_at, first_at, last_at, provisioned, rejected"
        " FROM bcs.batches WHERE batch_id = ANY($1::text[])"
    )
    records = {
        row[0]: BatchRecord(
            original(row[0]),
            row[1],
            row[2],
            original(row[3]),
            aware(row[4]),
            optional(row[5]),
            optional(row[6]),
            row[7],
            row[8],
        )
        for row in await connection.fetch(sql, names)
    }
    sql = "SELECT batch_id, step, completed, failed FROM bcs.counters WHERE batch_id = ANY($1)"
    for key, step, completed, failed in await connection.fetch(sql, names):
        records[key].counts[original(step)] = [completed, failed]
    sql = (
        "SELECT batch_id, phase, status, value, run, happened_at FROM bcs.milestones"
        " WHERE batch_id = ANY($1)"
    )
    for key, *words, moment in await connection.fetch(sql, names):
        phase, status, value, run = map(original, words)
        mark = Milestone(phase, status, value, run, optional(moment))
        records[key].milestones[mark.identity] = mark
    return {record.batch_id: record for record in records.values()}


def stored(text: str) -> str:
    """Return text as the database can hold it: without NUL, in the same order."""
    if "\x00" in text or "\x01" in text:
        return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")
    return text


def original(text: str) -> str:
    """Return the text that was stored."""
    if "\x01" in text:
        return text.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")
    return text


def aware(moment: datetime) -> datetime:
    """Return a moment in UTC; the driver gives those at infinity no zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def optional(moment: datetime | None) -> datetime | None:
    """Return a moment in UTC, or `None` for an unknown one."""
    return None if moment is None else aware(moment)


def columns_of(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as columns, which is how a statement takes many of them at once."""
    return list(zip(*rows, strict=True))


def step_from(batch_id: str, essay_id: str, step: str, columns: Sequence[Any]) -> StepFact:
    """Return the fact that a row of a step stands for."""
    outcome, moment, event_id, detail, metadata = columns
    return StepFact(
        batch_id,
        essay_id,
        step,
        outcome,
        aware(moment),
        original(event_id),
        detail,
        original(metadata),
    )

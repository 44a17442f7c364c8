"""One chunk of facts: what it touches is read, or known from before; then it is merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from engine.backends.redis_batch import decode_batch
from engine.backends.redis_decode import Unreadable
from engine.backends.redis_homeless import Kept, tie
from engine.backends.redis_rows import (
    BatchWrite,
    CachedBatch,
    EssayRow,
    upload_name,
    writes_of,
)
from engine.backends.redis_store import Store
from engine.merge import KnownBatch, KnownEssay, Touched
from engine.models import (
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
    Fact,
    RegistrationFact,
    StepFact,
)

ESSAYS_PER_READ: Final = 500

Trouble: TypeAlias = tuple[str, bytes, str]
"""A key, what stands there, and why it cannot be read."""


class Known:
    """Batches of late, with their essays: a write proves whether they are still right.

    Args:
        most_essays: Beyond so many, batches that were not used for long are forgotten.
    """

    def __init__(self, most_essays: int = 50_000) -> None:
        self._most_essays = most_essays
        self._batches: dict[str, CachedBatch] = {}

    def take(self, batch_id: str) -> CachedBatch | None:
        """Take a batch out: while it is being changed it is nobody else's."""
        return self._batches.pop(batch_id, None)

    def put(self, batches: Iterable[CachedBatch]) -> None:
        """Put batches (back), as the ones used last."""
        for batch in batches:
            self._batches[batch.record.batch_id] = batch
        essays = sum(len(batch.rows) + 1 for batch in self._batches.values())
        for batch_id in list(self._batches):
            if essays <= self._most_essays:
                break
            essays -= len(self._batches.pop(batch_id).rows) + 1


class Chunk(Touched):
    """What the server has of everything that a chunk is about, and what became of it."""

    def __init__(self, store: Store, known: Known) -> None:
        self._store = store
        self._known = known
        self.cached: dict[str, CachedBatch] = {}
        super().__init__(self.cached)
        self.troubled: list[Trouble] = []
        self.foreign: set[str] = set()

    async def load(
        self,
        facts: Sequence[Fact],
        wanted: dict[str, set[str]],
        homeless: dict[str, Kept],
        homes: dict[str, list[str]],
    ) -> None:
        """Read what the facts are about, as far as it is not known.

        Args:
            facts: The chunk.
            wanted: The essays that it names, by batch.
            homeless: What was kept of essays whose results name no batch.
            homes: The batches that know those essays.
        """
        self.homes = {essay_id: list(batch_ids) for essay_id, batch_ids in homes.items()}
        self.homeless.update({essay_id: dict(kept) for essay_id, kept in homeless.items()})
        await self._load_batches(wanted)
        await self._load_essays(wanted)
        await self._tie(wanted, homeless)
        await self._load_uploads(facts)
        for fact in facts:
            if type(fact) is StepFact:
                step = fact.step
                for batch_id in (fact.batch_id,) if fact.batch_id else homes[fact.essay_id]:
                    row = self.cached[batch_id].rows.get(fact.essay_id)
                    old = None if row is None else row.document.result(step)
                    if old is not None:
                        self.steps[row, step] = old

    def key_for(self, batch: KnownBatch, essay_id: str) -> Any:
        """Return the row of an essay that we do not count yet; others may have written it."""
        rows = self.cached[batch.record.batch_id].rows
        row = rows.get(essay_id)
        if row is None:
            row = rows[essay_id] = EssayRow(batch.record.batch_id, essay_id, None, None)
        return row

    def add_essay(self, batch: KnownBatch, essay_id: str, created_at: datetime) -> KnownEssay:
        """Add an essay that we do not count yet."""
        essay = super().add_essay(batch, essay_id, created_at)
        essay.created_at = min(created_at, essay.key.document.created_at)
        for step, fact in essay.key.document.steps.items():
            self.steps.setdefault((essay.key, step), fact)
            if fact.detail:
                batch.record.saw(fact.time)
        return essay

    async def _load_batches(self, wanted: Iterable[str]) -> None:
        missing: list[str] = []
        for batch_id in wanted:
            batch = self._known.take(batch_id)
            if batch is None:
                missing.append(batch_id)
            else:
                self.cached[batch_id] = batch
        read, troubled = await read_batches(self._store, missing)
        self.cached.update(read)
        self.troubled += troubled

    async def _load_essays(self, wanted: dict[str, set[str]]) -> None:
        """Read documents and copies of essays that are not known."""
        commands: list[tuple[Any, ...]] = []
        parts: list[tuple[CachedBatch, list[str]]] = []
        for batch_id, essay_ids in wanted.items():
            batch = self.cached[batch_id]
            missing = sorted(essay_ids - batch.rows.keys())
            for start in range(0, len(missing), ESSAYS_PER_READ):
                part = missing[start : start + ESSAYS_PER_READ]
                parts.append((batch, part))
                commands += read_essays(batch, part)
        replies = iter(await self._store.send(commands))
        for (batch, part), raws, copies in zip(parts, replies, replies, strict=True):
            batch_id = batch.record.batch_id
            for essay_id, raw, copy in zip(part, raws, copies, strict=True):
                if raw is None and copy is None:
                    continue
                row = EssayRow(batch_id, essay_id, raw, copy, unread=True)
                batch.add(row)
                if not row.in_step:
                    self.foreign.add(batch_id)
                    if row.trouble and raw is not None:
                        key = batch.keys.essay_prefix + essay_id
                        self.troubled.append((key, raw, row.trouble))

    async def _tie(self, wanted: dict[str, set[str]], homeless: dict[str, Kept]) -> None:
        """Say which essays the batches will know, and find results that waited for it."""
        pairs = [
            (batch_id, essay_id)
            for batch_id, essay_ids in wanted.items()
            for essay_id in essay_ids - self.cached[batch_id].essays.keys()
        ]
        for essay_id, kept in (await tie(self._store, pairs)).items():
            # Those of this chunk were noted before; here they come one after the other.
            if essay_id not in homeless:
                self.homeless[essay_id] = kept

    async def _load_uploads(self, facts: Iterable[Fact]) -> None:
        """Read which of the uploads have been counted."""
        missing: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for fact in facts:
            if type(fact) is BatchFact and fact.status in CONTENT:
                upload = (fact.status, fact.value)
                if upload in self.cached[fact.batch_id].uploads:
                    self.uploads.add((fact.batch_id, *upload))
                else:
                    missing[fact.batch_id].add(upload)
        asked = [(batch_id, sorted(uploads)) for batch_id, uploads in missing.items()]
        replies = await self._store.send(
            [
                (
                    "SMISMEMBER",
                    self.cached[batch_id].keys.uploads,
                    *(upload_name(*upload) for upload in uploads),
                )
                for batch_id, uploads in asked
            ]
        )
        for (batch_id, uploads), found in zip(asked, replies, strict=True):
            for upload, counted in zip(uploads, found, strict=True):
                if counted:
                    self.uploads.add((batch_id, *upload))
                    self.cached[batch_id].uploads.add(upload)

    def writes(self, now: str) -> list[BatchWrite]:
        """Return the writes that keep what the merge has changed."""
        rows: dict[str, dict[EssayRow, None]] = {batch_id: {} for batch_id in self.cached}
        for essay in self.changed_essays.values():
            document = essay.key.document
            document.created_at = essay.created_at
            document.file_name, document.file_name_at = essay.file_name, essay.file_name_at
            rows[essay.batch_key][essay.key] = None
        for (row, _), fact in self.changed_steps.items():
            row.document.put(fact)
            rows[fact.batch_id][row] = None
        for batch_id in self.foreign:
            batch = self.cached[batch_id]
            for row in batch.rows.values():
                if not row.in_step and row.essay_id in batch.essays:
                    rows[batch_id][row] = None
        uploads: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for batch_id, status, value in self.new_uploads:
            uploads[batch_id].append((status, value))
        marked = {batch_id for batch_id, _ in self.changed_marks}
        return [
            write
            for batch_id, batch in self.cached.items()
            for write in writes_of(
                batch, rows[batch_id], uploads[batch_id], batch_id in marked, now
            )
        ]


async def read_batches(
    store: Store, batch_ids: Sequence[str]
) -> tuple[dict[str, CachedBatch], list[Trouble]]:
    """Return batches with their own records and no essays, and which records are no such."""
    batches: dict[str, CachedBatch] = {}
    troubled: list[Trouble] = []
    names = [store.keys.of(batch_id) for batch_id in batch_ids]
    raws = await store.send([("GET", keys.batch) for keys in names])
    for batch_id, keys, raw in zip(batch_ids, names, raws, strict=True):
        record = BatchRecord(batch_id)
        if raw is not None:
            try:
                record = decode_batch(batch_id, raw)
            except Unreadable as error:
                troubled.append((keys.batch, raw, str(error)))
        batches[batch_id] = CachedBatch(keys, record, raw)
    return batches, troubled


def essays_by_batch(facts: Iterable[Fact], homes: dict[str, list[str]]) -> dict[str, set[str]]:
    """Return the essays that facts name, by batch."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        if type(fact) is StepFact:
            for batch_id in (fact.batch_id,) if fact.batch_id else homes[fact.essay_id]:
                wanted[batch_id].add(fact.essay_id)
        elif type(fact) is EssaysFact or type(fact) is RegistrationFact:
            wanted[fact.batch_id].update(fact.essay_ids)
        else:
            wanted[fact.batch_id].update(())
    return wanted


def read_essays(batch: CachedBatch, essay_ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the commands that read documents and copies of essays."""
    prefix = batch.keys.essay_prefix
    return [
        ("MGET", *(prefix + essay_id for essay_id in essay_ids)),
        ("HMGET", batch.keys.essays, *essay_ids),
    ]

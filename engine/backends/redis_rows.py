"""Essays and batches as they are loaded for a chunk, and the writes that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from engine.backends.redis_batch import Delta, changes_of, delta_of, encode_batch, phase_outcomes
from engine.backends.redis_decode import Unreadable, decode, glance
from engine.backends.redis_document import Document, encode
from engine.backends.redis_keys import BatchKeys
from engine.backends.redis_scripts import ABSENT, SAME
from engine.merge import KnownBatch, KnownEssay
from engine.models import BatchRecord, aggregate_essay_id

ESSAYS_AT_ONCE: Final = 250
"""Essays in one write: about a millisecond of the server's time."""


class EssayRow:
    """An essay with the bytes that were found: of its document, and of our copy of it.

    The counters of the batch count what the copy says. Where the document says the same, what
    its steps have moved since is all that changes; else `counted` is what the copy said when it
    was read, and `None` without copy.

    Args:
        batch_id: The batch.
        essay_id: The essay.
        raw: The document in the services' key.
        copy: Our copy of it.
        unread: Leave what stands as we left it unread, as long as that will do.
    """

    __slots__ = ("copy", "counted", "document", "essay_id", "raw", "trouble")

    def __init__(
        self,
        batch_id: str,
        essay_id: str,
        raw: bytes | None,
        copy: bytes | None,
        *,
        unread: bool = False,
    ) -> None:
        self.essay_id = essay_id
        self.raw = raw
        self.copy = copy
        self.trouble = ""
        self.counted: dict[str, int] | None = None
        if unread and raw is not None and raw == copy:
            document = glance(batch_id, essay_id, raw)
            if document is not None:
                self.document = document
                return
        self.document = Document(essay_id)
        if raw is not None:
            try:
                self.document = decode(batch_id, essay_id, raw)
                self.trouble = self.document.damage
            except Unreadable as error:
                self.trouble = str(error)
        if copy is not None:
            if copy == raw and not self.trouble:
                return
            kept = decode(batch_id, essay_id, copy)
            self.counted = kept.outcomes()
            if raw is None or (self.trouble and not self.document.damage):
                self.document = kept
            else:
                self.document.absorb(kept)

    @property
    def in_step(self) -> bool:
        """Whether the document is as we left it."""
        return self.raw is not None and self.raw == self.copy


class CachedBatch(KnownBatch):
    """A batch with what was read of it: its own record, and some of its essays."""

    __slots__ = ("keys", "raw", "rows", "uploads")

    def __init__(self, keys: BatchKeys, record: BatchRecord, raw: bytes | None) -> None:
        super().__init__(record.batch_id, record, complete=False)
        self.keys = keys
        self.raw = raw
        self.rows: dict[str, EssayRow] = {}
        self.uploads: set[tuple[str, str]] = set()

    def add(self, row: EssayRow) -> None:
        """Take over an essay that was read; one without a copy of ours is still new to us."""
        self.rows[row.essay_id] = row
        if row.copy is not None:
            document = row.document
            self.essays[row.essay_id] = KnownEssay(
                row,
                self.key,
                row.essay_id,
                document.created_at,
                document.file_name,
                document.file_name_at,
            )


class BatchWrite(msgspec.Struct):
    """One step of writing: all of it or nothing, and only onto what was read.

    `after` is `None` when the batch's own record stays as it is. `essays` and their bytes
    belong to each other; `groups` tells how many of them, in their order, change what.
    """

    batch: CachedBatch
    before: bytes | None
    after: bytes | None
    uploads: Sequence[str]
    phases: Sequence[str]
    essays: Sequence[tuple[EssayRow, bytes]]
    groups: Sequence[tuple[int, Delta]]


def writes_of(
    batch: CachedBatch,
    rows: Iterable[EssayRow],
    uploads: Sequence[tuple[str, str]],
    marks: bool,
    now: str,
) -> Iterator[BatchWrite]:
    """Yield the writes that bring a batch up to what is known, the batch's own record first.

    Args:
        batch: The batch, merged.
        rows: The essays that changed.
        uploads: Uploads that are counted now.
        marks: Whether milestones have changed.
        now: The time of the change.
    """
    batch_id = batch.record.batch_id
    after: bytes | None = encode_batch(batch.record)
    if after == batch.raw:
        after = None
    phases: list[str] = []
    if marks:
        for phase, word in phase_outcomes(batch.record).items():
            phases += (phase, word)
    waiting = iter(rows)
    first = True
    while part := list(islice(waiting, ESSAYS_AT_ONCE)):
        yield _write(batch, batch_id, after if first else None, uploads, phases, part, now)
        uploads, phases, first = (), [], False
    if first and (after is not None or uploads or phases):
        yield _write(batch, batch_id, after, uploads, phases, [], now)


def _write(
    batch: CachedBatch,
    batch_id: str,
    after: bytes | None,
    uploads: Sequence[tuple[str, str]],
    phases: Sequence[str],
    rows: Sequence[EssayRow],
    now: str,
) -> BatchWrite:
    grouped: dict[Delta, list[tuple[EssayRow, bytes]]] = {}
    aggregate = aggregate_essay_id(batch_id)
    for row in rows:
        document = row.document
        counted = row.essay_id != aggregate
        if row.in_step:
            delta = changes_of(tuple(document.moves)) if counted else ()
        else:
            delta = delta_of(row.counted, document.outcomes(), counted)
        grouped.setdefault(delta, []).append((row, encode(document, now)))
    return BatchWrite(
        batch,
        batch.raw,
        after,
        [upload_name(*upload) for upload in uploads],
        phases,
        [essay for part in grouped.values() for essay in part],
        [(len(part), delta) for delta, part in grouped.items() if delta],
    )


def settle(write: BatchWrite) -> None:
    """Note that a write was made."""
    for row, raw in write.essays:
        row.raw = row.copy = raw
        row.document.moves = []
        row.trouble = row.document.damage = ""
    if write.after is not None:
        write.batch.raw = write.after


def upload_name(status: str, value: str) -> str:
    """Return the member of a batch's set that stands for a counted upload."""
    return f"{status}:{value}"


def upload_of(name: str) -> tuple[str, str]:
    """Return the upload that a member of the set stands for."""
    status, _, value = name.partition(":")
    return status, value


def arguments_of(write: BatchWrite, ttl: int, token: str) -> list[str | bytes | int]:
    """Return keys and arguments of the writing script, after their number."""
    names = write.batch.keys
    prefix = names.essay_prefix
    listed: list[str | bytes | int] = [*names.fixed]
    listed += [prefix + row.essay_id for row, _ in write.essays]
    expected = write.batch.record.expected
    arguments: list[str | bytes | int] = [
        len(listed),
        *listed,
        ttl,
        token,
        "" if expected is None else expected,
        ABSENT if write.before is None else write.before,
        "" if write.after is None else write.after,
        len(write.uploads),
        len(write.phases),
        *write.uploads,
        *write.phases,
    ]
    for row, raw in write.essays:
        before = ABSENT if row.raw is None else row.raw
        copy = SAME if row.raw == row.copy else ABSENT if row.copy is None else row.copy
        arguments += (row.essay_id, before, copy, raw)
    for count, delta in write.groups:
        arguments += (count, len(delta))
        for pair in delta:
            arguments += pair
    return arguments

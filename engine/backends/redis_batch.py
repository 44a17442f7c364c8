"""What is stored of a batch beside its essays: our record of it, and the index that counts.

The record is a JSON text, compared and set as a whole. The index is a hash that scripts bump;
with the published summary it proves whether the counts are those of the essays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, TypeAlias

import msgspec

from engine.backends.redis_decode import Unreadable
from engine.clock import from_microseconds, to_microseconds
from engine.models import COMPLETED, FAILED, SUCCESSFUL, BatchRecord, Milestone

UNVERIFIED: Final = "not yet compared with all keys"
"""Why counts cannot be trusted to which nobody but us has contributed: something of others,
from before us, may be missing in them."""

COMPLETED_FIELD: Final = "c:"
FAILED_FIELD: Final = "f:"


class _Stored(msgspec.Struct, omit_defaults=True):
    expected: int | None = None
    owner: str = ""
    owner_at: int | None = None
    first_at: int | None = None
    last_at: int | None = None
    provisioned: int = 0
    rejected: int = 0
    milestones: list[tuple[str, str, str, str, int | None]] = msgspec.field(default_factory=list)


_decoder = msgspec.json.Decoder(_Stored)


def encode_batch(record: BatchRecord) -> bytes:
    """Return what is stored of a batch beside its essays and counts."""
    stored = _Stored(
        record.expected,
        record.owner,
        to_microseconds(record.owner_at) if record.owner else None,
        _stamp(record.first_at),
        _stamp(record.last_at),
        record.provisioned,
        record.rejected,
        [(*mark.identity, _stamp(mark.time)) for mark in record.milestones.values()],
    )
    return msgspec.json.encode(stored)


def decode_batch(batch_id: str, raw: bytes) -> BatchRecord:
    """Return a batch without its counts.

    Raises:
        Unreadable: The bytes are not what we write.
    """
    try:
        stored = _decoder.decode(raw)
        record = BatchRecord(
            batch_id,
            stored.expected,
            owner=stored.owner,
            first_at=_time(stored.first_at),
            last_at=_time(stored.last_at),
            provisioned=stored.provisioned,
            rejected=stored.rejected,
        )
        if stored.owner_at is not None:
            record.owner_at = from_microseconds(stored.owner_at)
        for phase, status, value, run, at in stored.milestones:
            mark = Milestone(phase, status, value, run, _time(at))
            record.milestones[mark.identity] = mark
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise Unreadable(f"not the record of a batch: {error}") from None
    return record


class Index(msgspec.Struct, frozen=True):
    """The counts of a batch and the proof that they are right.

    `chain` names the time since which no other service has written; `born` is the chain that
    began with the batch itself; `verified` means that the keys were looked through within it.
    `until` is in milliseconds of the server's clock, `entries` counts the pseudo essay too.
    """

    entries: int
    seen: int
    counts: dict[str, list[int]]
    summary: bytes | None
    until: int
    chain: str
    born: str
    verified: bool
    expected: int | None

    def doubt(self, summary: bytes | None, now: int) -> str:
        """Return why the counts cannot be trusted; empty if they can."""
        if self.summary is None:
            return "no counters of ours prove its counts"
        if self.summary != summary:
            return "another service has written it"
        if now >= self.until:
            return "its essays have begun to expire"
        if not self.verified:
            return UNVERIFIED if self.chain == self.born else f"{UNVERIFIED} since others wrote it"
        return ""


def decode_index(fields: Mapping[bytes, bytes]) -> Index:
    """Return an index; that of a batch without one counts nothing and proves nothing."""
    counts: dict[str, list[int]] = {}
    for name, value in fields.items():
        kind = name[:2]
        if kind in (b"c:", b"f:"):
            pair = counts.setdefault(_step_of(name[2:]), [0, 0])
            pair[kind == b"f:"] = int(value)
    return Index(
        int(fields.get(b"e", 0)),
        int(fields.get(b"n", 0)),
        counts,
        fields.get(b"sum"),
        int(fields.get(b"until", 0)),
        fields.get(b"chain", b"").decode(),
        fields.get(b"born", b"").decode(),
        fields.get(b"ok") == b"1",
        int(fields[b"x"]) if b"x" in fields else None,
    )


@lru_cache(maxsize=4096)
def _step_of(quoted_name: bytes) -> str:
    """Return the step that a field of the index counts."""
    step: str = json.loads(b'"' + quoted_name + b'"')
    return step


Delta: TypeAlias = tuple[tuple[str, int], ...]


def delta_of(before: Mapping[str, int] | None, after: Mapping[str, int], counted: bool) -> Delta:
    """Return what an essay changes in the counters of its batch.

    Args:
        before: Its outcomes as they are counted now; `None` if the essay is not.
        after: Its outcomes from now on: of the same steps, and perhaps of more.
        counted: Whether it is an essay, and not the pseudo essay.
    """
    if not counted:
        return (("e", 1),) if before is None else ()
    if before is None:
        return (
            ("e", 1),
            ("n", 1),
            *changes_of(tuple([(step, None, after[step]) for step in after])),
        )
    return changes_of(
        tuple(
            [
                (step, before.get(step), outcome)
                for step, outcome in after.items()
                if before.get(step) != outcome
            ]
        )
    )


@lru_cache(maxsize=4096)
def changes_of(moves: tuple[tuple[str, int | None, int], ...]) -> Delta:
    """Return how steps that move from one outcome to another change the counters."""
    changes: list[tuple[str, int]] = []
    for step, old, new in moves:
        name = quoted(step)[1:-1]
        changes.append((COMPLETED_FIELD + name, (new == COMPLETED) - (old == COMPLETED)))
        failed = (new == FAILED) - (old == FAILED)
        if failed:
            changes.append((FAILED_FIELD + name, failed))
    return tuple(changes)


def phase_outcomes(record: BatchRecord) -> dict[str, str]:
    """Return what the services' hash says of each phase whose outcome is known."""
    newest: dict[str, Milestone] = {}
    for mark in record.milestones.values():
        if mark.phase and mark.status not in ("started", "skipped", "reported"):
            old = newest.get(mark.phase)
            if old is None or (mark.when, mark.identity) > (old.when, old.identity):
                newest[mark.phase] = mark
    return {
        phase: "completed" if mark.status == SUCCESSFUL else "failed"
        for phase, mark in newest.items()
    }


def add_stored_phases(record: BatchRecord, stored: Mapping[bytes, bytes]) -> None:
    """Add what only the services' hash knows of phases; it has no times, so it is the oldest."""
    ours = phase_outcomes(record) if stored else {}
    for name, value in stored.items():
        phase, word = name.decode(errors="replace"), value.decode(errors="replace")
        if phase and ours.get(phase) != word and word in ("completed", "failed"):
            status = SUCCESSFUL if word == "completed" else "failed"
            mark = Milestone(phase, status, "", "", None)
            record.milestones.setdefault(mark.identity, mark)


def _stamp(moment: datetime | None) -> int | None:
    return None if moment is None else to_microseconds(moment)


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)

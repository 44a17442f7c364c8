"""Entries of a stream as envelopes: the event's bytes stand in one field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from engine.feeds.messages import envelope
from engine.feeds.port import Envelope

Entry: TypeAlias = tuple[bytes, list[bytes] | None]
"""The id of an entry, and its fields and values in turn; nothing of a trimmed one."""

FIELD: Final = b"data"

MOST_DELIVERIES: Final = 5
"""An entry that was delivered so often and never recorded is handed on as a dead letter."""


def envelope_of(entry_id: bytes, fields: Sequence[bytes], deliveries: int) -> Envelope:
    """Return the envelope of an entry, refused if there have been too many deliveries before."""
    if deliveries >= MOST_DELIVERIES:
        return _poison(entry_id, fields, deliveries)
    if fields[0] == FIELD:
        return envelope(fields[1], entry_id.decode())
    return _in_another_field(entry_id, fields)


def _poison(entry_id: bytes, fields: Sequence[bytes], deliveries: int) -> Envelope:
    raw = fields[1] if fields[0] == FIELD else b"\n".join(fields)
    why = f"delivered {deliveries} times and never recorded: it may be what stops the recording"
    return Envelope(raw, entry_id.decode(), refusal=("poison", why))


def _in_another_field(entry_id: bytes, fields: Sequence[bytes]) -> Envelope:
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == FIELD:
            return envelope(value, entry_id.decode())
    names = ", ".join(name.decode(errors="backslashreplace") for name in fields[:20:2])
    why = f"the entry has no field {FIELD.decode()}; it has {names}"
    return Envelope(b"\n".join(fields), entry_id.decode(), refusal=("no_data", why))

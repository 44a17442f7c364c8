"""Envelopes of real services, decoded, checked and turned into facts (wire.md section 3).

`parse` is total: any bytes become an `Event`, an `Ignored` or a `Rejected`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from engine.models import Fact


class Event(msgspec.Struct, frozen=True, gc=False):
    """A progress event: its facts are what it makes us remember.

    `time` is the payload's own time, else the envelope's.
    """

    event_id: str
    event_type: str
    time: datetime
    facts: tuple[Fact, ...]


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A valid envelope that carries no progress, or one of an unknown type."""

    event_type: str
    time: datetime | None
    known: bool


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are no usable event: a reason code, a message and the field, if any.

    `reason` is a code of faults.md section 4: `json`, `not_utf8`, `not_object`, `too_large`,
    `depth`, `number`, `nul`, `missing`, `type`, `status`, `length`, `identifier`,
    `id_has_separator`, `timestamp`, `range`, `metadata`, `version`, `truncated_line`.
    """

    reason: str
    message: str
    field: str = ""


def parse(raw: bytes) -> Event | Ignored | Rejected:
    """Decode one envelope; never raises."""
    raise NotImplementedError

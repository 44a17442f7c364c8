"""Envelopes of messages that come whole, as from Redis: those too long are cut for keeping."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from engine.feeds.port import MAX_EVENT_BYTES, Envelope

_KEPT_BYTES: Final = 64 * 1024


def envelope(raw: bytes, position: str) -> Envelope:
    """Return the envelope of a message."""
    if len(raw) <= MAX_EVENT_BYTES:
        return Envelope(raw, position)
    return Envelope(raw[:_KEPT_BYTES], position, len(raw), sha256(raw).hexdigest())

"""Decoding a chunk: what its envelopes say, and which of them cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from engine.events import Event, Ignored, Rejected, parse
from engine.feeds.port import Envelope

_CUT_OFF: Final = frozenset({"json", "not_utf8"})
"""The reasons for which half a line is refused."""


class Decoded(msgspec.Struct, gc=False):
    """A chunk as it is recorded.

    `parsed` has an entry for each envelope. `refused` are the envelopes of the rejected ones
    among them, in order: of the others nothing is needed any more.
    """

    parsed: list[Event | Ignored | Rejected]
    refused: list[Envelope]


def decode(chunk: Sequence[Envelope]) -> Decoded:
    """Decode every envelope of a chunk."""
    parsed = [
        _unusual(envelope)
        if envelope.oversize or envelope.truncated or envelope.refusal
        else parse(envelope.raw)
        for envelope in chunk
    ]
    refused = [
        envelope for envelope, event in zip(chunk, parsed, strict=True) if type(event) is Rejected
    ]
    return Decoded(parsed, refused)


def _unusual(envelope: Envelope) -> Event | Ignored | Rejected:
    """Judge an envelope that its feed refuses, or that may not be whole.

    The last line of a file can be whole all the same.
    """
    if envelope.refusal:
        return Rejected(*envelope.refusal)
    if envelope.oversize:
        return Rejected("too_large", f"{envelope.oversize} bytes in one envelope")
    event = parse(envelope.raw)
    if envelope.truncated and isinstance(event, Rejected) and event.reason in _CUT_OFF:
        return Rejected("truncated_line", "the source ends in the middle of a line")
    return event

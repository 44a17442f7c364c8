"""What may come in: ids that keys can bear, objects of a size that every store keeps."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

MAX_ID_LENGTH: Final = 128
MAX_METADATA_BYTES: Final = 64 * 1024
MAX_METADATA_NODES: Final = 2000
MAX_METADATA_DEPTH: Final = 16
_HARMLESS: Final = {str, float, bool, type(None)}
MAX_INTEGER: Final = 2**63 - 1
"""The largest integer that every store keeps exactly."""


class Refused(Exception):
    """An envelope cannot be used: a reason code, a message for a person, the field."""

    def __init__(self, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field


_accepted: dict[str, str] = {}
accepted: Final = _accepted.get
"""Returns an id that was found safe before: `accepted(text) or identifier(text, field)` spares
a call where every event passes."""
_MOST_ACCEPTED: Final = 200_000
_FORBIDDEN: Final = frozenset("*?[]\\{}")


def identifier(text: str, field: str) -> str:
    """Return an id that is safe as part of a key; the same object for the same id.

    Raises:
        Refused: The id is empty, too long, or has characters that keys cannot bear.
    """
    known = _accepted.get(text)
    if known is not None:
        return known
    if not 0 < len(text) <= MAX_ID_LENGTH:
        raise Refused("length", f"{len(text)} characters; 1 to {MAX_ID_LENGTH} are allowed", field)
    if ":" in text:
        raise Refused("id_has_separator", "an id must not contain ':'", field)
    unsafe = not text.isprintable() or text != text.strip() or not _FORBIDDEN.isdisjoint(text)
    if unsafe or not unicodedata.is_normalized("NFC", text):
        raise Refused("identifier", "an id has characters that ids must not have", field)
    if len(_accepted) >= _MOST_ACCEPTED:
        _accepted.clear()
    _accepted[text] = text
    return text


def identifiers(texts: Sequence[str], field: str) -> tuple[str, ...]:
    """Return ids in their order, each once; usually all of them are known already."""
    known = tuple([accepted(text) or identifier(text, field) for text in texts])
    return known if len(set(known)) == len(known) else tuple(dict.fromkeys(known))


def bounded_object(value: dict[str, Any] | None, field: str) -> dict[str, Any] | None:
    """Return an open-ended object if its size is bounded, `None` for none or an empty one.

    Raises:
        Refused: It has more values or levels than any real one, or a number that not every
            store can keep.
    """
    if not value:
        return None
    if len(value) <= MAX_METADATA_NODES and _HARMLESS.issuperset(map(type, value.values())):
        return value  # as nearly always: a few words, nothing inside
    nodes = 0
    level: list[Any] = [value]
    for _ in range(MAX_METADATA_DEPTH):
        below: list[Any] = []
        for node in level:
            inner = node.values() if type(node) is dict else node
            nodes += len(inner)
            kinds = set(map(type, inner))
            if int in kinds and not all(map(_fits, inner)):
                raise Refused("number", "an integer of more than 64 bits", field)
            if dict in kinds or list in kinds:
                below += [deeper for deeper in inner if type(deeper) in (dict, list)]
        if not below and nodes <= MAX_METADATA_NODES:
            return value
        level = below
    raise Refused("metadata", "too many values, or nested too deeply", field)


def _fits(value: Any) -> bool:
    return type(value) is not int or -MAX_INTEGER <= value <= MAX_INTEGER

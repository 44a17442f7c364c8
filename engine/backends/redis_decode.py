"""From stored bytes to the document of an essay, whoever wrote them; see `wire.md` of the services.

Text that is our own takes a short way. Everything else is cut into its members without being
interpreted, so that integers of any size, NaN and forms of numbers come through as they are.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache, partial
from json.decoder import JSONDecoder
from typing import Final
from zlib import crc32

import msgspec

from engine.backends.redis_document import UNDATED, Document, outline_of
from engine.clock import from_microseconds
from engine.models import BEGINNING, COMPLETED, FAILED, LISTED, THIN, StepFact
from engine.repository import failed_in_metadata

LARGEST_DOCUMENT: Final = 4 * 1024 * 1024
"""A larger value, in bytes, is no document of an essay."""


class Unreadable(Exception):
    """A stored value is not the document of an essay; the text says why."""


class _Ours(msgspec.Struct, forbid_unknown_fields=True):
    steps: dict[str, tuple[int, int, str, int, int | str]]
    file: tuple[str, int] | None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    completed_steps: list[str]
    step_metadata: dict[str, msgspec.Raw]
    last_updated: str
    bcs_tui: _Ours
    created_at: str = ""


_plain = msgspec.json.Decoder(_Plain)
_ours = msgspec.json.Decoder(_Ours)
_file = msgspec.json.Decoder(tuple[str, int])


def decode(batch_id: str, essay_id: str, raw: bytes) -> Document:
    """Return the document that bytes stand for.

    Raises:
        Unreadable: They are no document at all.
    """
    if len(raw) > LARGEST_DOCUMENT:
        raise Unreadable(f"{len(raw)} bytes are too many for a document")
    document = Document(essay_id)
    try:
        plain = _plain.decode(raw)
        metadata = {step: bytes(text).decode() for step, text in plain.step_metadata.items()}
        created, updated, ours = plain.created_at, plain.last_updated, plain.bcs_tui
        listed = plain.completed_steps
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = _cut(raw)
        listed = _listed(document, members.pop("completed_steps", None))
        metadata = _metadata_of(document, members.pop("step_metadata", None))
        created, updated = (_text(members.pop(name, "")) for name in ("created_at", "last_updated"))
        ours = _ours_of(document, members.pop("bcs_tui", None))
        document.extras = members
    document.created_at = _moment(created) or UNDATED
    _fill(document, batch_id, listed, metadata, ours, (updated, created))
    if document.created_at is UNDATED and document.steps:
        document.created_at = min(fact.time for fact in document.steps.values())
    return document


def glance(batch_id: str, essay_id: str, raw: bytes) -> Document | None:
    """Return the document that we have written, its results unread; `None` if it is not so plain.

    Args:
        batch_id: The batch.
        essay_id: The essay.
        raw: What stands in the services' key and in our copy alike.
    """
    outline = outline_of(raw.decode()) if raw.isascii() else None
    if outline is None or not outline.created:
        return None
    document = Document(
        essay_id,
        _moment_of(outline.created),
        outline.texts,
        partial(decode, batch_id, essay_id, raw),
    )
    if outline.file:
        file_name, at = _file.decode(outline.file)
        document.file_name, document.file_name_at = file_name, _time(at)
    return document


@lru_cache(maxsize=4096)
def _moment_of(created: str) -> datetime:
    return _moment(created) or UNDATED


def _fill(
    document: Document,
    batch_id: str,
    listed: list[str],
    metadata: dict[str, str],
    ours: _Ours,
    dates: tuple[str, str],
) -> None:
    """Add the results: ours as we noted them, others as their metadata tells."""
    steps = document.steps
    for step in listed:
        entry = ours.steps.get(step)
        if step in steps:
            continue
        if entry is not None and entry[0]:
            steps[step] = _noted(batch_id, document.essay_id, step, entry, metadata)
        else:
            found = metadata.get(step)
            moment = _moment(dates[0]) or _moment(dates[1])
            steps[step] = _derived(batch_id, document.essay_id, step, found, moment)
    for step, entry in ours.steps.items():
        if step not in steps:
            steps[step] = _noted(batch_id, document.essay_id, step, entry, metadata)
    document.metadata = metadata
    if ours.file is not None:
        document.file_name, document.file_name_at = ours.file[0], _time(ours.file[1])


def _noted(
    batch_id: str,
    essay_id: str,
    step: str,
    entry: tuple[int, int, str, int, int | str],
    metadata: dict[str, str],
) -> StepFact:
    """Return a result of which we noted everything but, as a rule, the metadata."""
    outcome, time, event_id, detail, exact = entry
    if isinstance(exact, str):
        text = exact  # what the services' member shows instead is kept as it is
    else:
        text = _with_checksum(metadata.get(step, "{}"), exact)
        if text == metadata.get(step):
            del metadata[step]
    return StepFact(batch_id, essay_id, step, outcome, _time(time), event_id, detail, text)


def _with_checksum(found: str, checksum: int) -> str:
    """Return the form of a metadata text that has a checksum; the text itself if none has."""
    if crc32(found.encode()) == checksum:
        return found
    try:
        value = json.loads(found)
    except ValueError:
        return found
    for separators in ((",", ":"), (", ", ": ")):
        text = json.dumps(value, separators=separators)
        if crc32(text.encode()) == checksum:
            return text
    return found if isinstance(value, dict) else "{}"


def _derived(
    batch_id: str, essay_id: str, step: str, found: str | None, updated: datetime | None
) -> StepFact:
    """Return a result that another service wrote, from what its metadata says."""
    try:
        value = json.loads(found or "{}")
    except ValueError:
        value = None  # e.g. an integer of more digits than Python reads
    told = value if isinstance(value, dict) else {}
    text = found if found is not None and value is not None and told is value else "{}"
    moment = _moment(told.get("timestamp"))
    event_id = told.get("event_id")
    return StepFact(
        batch_id,
        essay_id,
        step,
        FAILED if failed_in_metadata(told) else COMPLETED,
        moment or updated or BEGINNING,
        event_id if isinstance(event_id, str) else "",
        LISTED if moment is None else THIN,
        text,
    )


def _listed(document: Document, text: str | None) -> list[str]:
    """Return the steps of a document of another service; what is not one is damage."""
    value = _value(text)
    if value in (None, {}, ""):
        return []  # absent, or what a careless script makes of an empty array
    if isinstance(value, list):
        steps = [step for step in value if isinstance(step, str)]
        if len(steps) == len(value):
            return steps
    else:
        steps = []
    document.damage = "completed_steps is not an array of strings"
    return steps


def _metadata_of(document: Document, text: str | None) -> dict[str, str]:
    value = _value(text)
    if text is not None and isinstance(value, dict):
        return _slices(text)
    if value not in (None, [], ""):
        document.damage = "step_metadata is not an object"
    return {}


def _ours_of(document: Document, text: str | None) -> _Ours:
    if text is not None:
        try:
            return _ours.decode(text)
        except msgspec.DecodeError:
            document.damage = "its member bcs_tui cannot be read"
    return _Ours({})


def _cut(raw: bytes) -> dict[str, str]:
    """Return the members of a JSON object as the text that they are.

    Raises:
        Unreadable: It is no JSON object.
    """
    try:
        return _slices(raw.decode())
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except (ValueError, IndexError):
        raise Unreadable("not a JSON object") from None
    except RecursionError:
        raise Unreadable("nested too deeply") from None


# Only the place where a value ends is wanted, and Python reads no integer of 5,000 digits.
_end_of = JSONDecoder(parse_int=float).raw_decode
_gap = re.compile(r"[ \t\n\r]*").match


def _slices(text: str) -> dict[str, str]:
    members: dict[str, str] = {}
    place = _expect(text, 0, "{")
    if text[place] == "}":
        _expect_end(text, place + 1)
        return members
    while True:
        start = place
        name, place = _end_of(text, start)
        if type(name) is not str or text[start] != '"':
            raise ValueError("a name expected")
        place = _expect(text, place, ":")
        end = _end_of(text, place)[1]
        members[name] = text[place:end]
        place = _skip(text, end)
        if text[place] == "}":
            _expect_end(text, place + 1)
            return members
        place = _expect(text, place, ",")


def _skip(text: str, place: int) -> int:
    gap = _gap(text, place)
    return gap.end() if gap else place


def _expect(text: str, place: int, sign: str) -> int:
    """Return the place behind a sign that must come next, and the gap after it."""
    place = _skip(text, place)
    if text[place] != sign:
        raise ValueError(f"{sign} expected")
    return _skip(text, place + 1)


def _expect_end(text: str, place: int) -> None:
    if _skip(text, place) != len(text):
        raise ValueError("more than one value")


def _value(text: str | None) -> object:
    return None if text is None else _end_of(text, 0)[0]


def _text(text: str) -> str:
    value = _value(text) if text else ""
    return value if isinstance(value, str) and text.startswith('"') else ""


def _moment(text: object) -> datetime | None:
    """Return an aware moment in UTC from what another service wrote; `None` if it is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _time(microseconds: int) -> datetime:
    try:
        return from_microseconds(microseconds)
    except OverflowError:
        return BEGINNING

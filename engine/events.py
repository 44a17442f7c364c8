"""Envelopes of real services, decoded, checked and turned into facts.

`parse` is total: any bytes become an `Event`, an `Ignored` or a `Rejected`. What a payload
means is in `payloads`; this module knows the envelope and what makes bytes unusable. Two
events that share an id but differ in content are two events: what counts is content.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any, Final, Generic, NoReturn, TypeVar

import msgspec

from engine.bounds import MAX_ID_LENGTH, Refused, bounded_object
from engine.feeds.port import MAX_EVENT_BYTES
from engine.models import Fact
from engine.payloads import IGNORED_TYPES, PAYLOADS, Payload

SCHEMA_VERSION: Final = 1
"""The newest envelope version that is understood."""

_EVENT_ID: Final = re.compile(
    r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
)
# Every hexadecimal digit becomes 0 and all else but the dash `?`: half the cost of the pattern.
_OUTLINE: Final = bytes(
    ord("0" if chr(code) in "0123456789abcdefABCDEF" else "-" if code == ord("-") else "?")
    for code in range(256)
)
_USUAL_ID: Final = b"00000000-0000-0000-0000-000000000000"
_PLACE: Final = re.compile(r"\(byte (\d+)\)$")
_NOT_FINITE: Final = re.compile(rb"-?(?:NaN|Infinity)")
_HARD_ESCAPES: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


class Event(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A progress event: its facts are what it makes us remember.

    `time` is the payload's own time, else the envelope's.
    """

    event_id: str
    event_type: str
    time: datetime
    facts: tuple[Fact, ...]


class Ignored(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A valid envelope that carries no progress, or one of an unknown type."""

    event_type: str
    time: datetime | None
    known: bool


class Rejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Bytes that are no usable event: a reason code, a message and the field, if any.

    `reason` is one of `json`, `not_utf8`, `not_object`, `too_large`, `depth`, `number`, `nul`,
    `missing:FIELD`, `type`, `status`, `length`, `identifier`, `id_has_separator`, `timestamp`,
    `range`, `metadata`, `version`; the engine adds `truncated_line`, feeds `poison`, `no_data`.
    """

    reason: str
    message: str
    field: str = ""


_D = TypeVar("_D")


class _Envelope(msgspec.Struct, Generic[_D], gc=False):
    """What surrounds a payload; `time` is its own until it gives way to the payload's."""

    event_id: str
    event_type: str
    source_service: str
    data: _D
    time: datetime | None = msgspec.field(default=None, name="event_timestamp")
    schema_version: int = 1
    run: str = msgspec.field(default="", name="correlation_id")
    metadata: dict[str, Any] | None = None


_any_envelope: Final = msgspec.json.Decoder(_Envelope[msgspec.Raw])


def _tagged(event_type: str, data: Any) -> type[msgspec.Struct]:
    """Return the envelope of one type, for a decoder that tells the types apart itself."""
    members = [
        (
            member.name,
            member.type,
            msgspec.field(default=member.default, name=member.encode_name),
        )
        for member in msgspec.structs.fields(_Envelope[data])
        if member.name != "event_type"
    ]
    return msgspec.defstruct("_Tagged", members, gc=False, tag_field="event_type", tag=event_type)


_KNOWN: Final[dict[type[msgspec.Struct], tuple[str, Payload | None]]] = {
    **{_tagged(name, payload.shape): (name, payload) for name, payload in PAYLOADS.items()},
    **{_tagged(name, msgspec.Raw): (name, None) for name in sorted(IGNORED_TYPES)},
}
_decode: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(reduce(or_, _KNOWN)).decode


def parse(raw: bytes) -> Event | Ignored | Rejected:
    """Decode one envelope; never raises."""
    try:
        if len(raw) > MAX_EVENT_BYTES:
            raise Refused("too_large", f"{len(raw)} bytes; the limit is {MAX_EVENT_BYTES}")
        if not raw.isascii():
            raw.decode()
        try:
            envelope = _decode(raw)
        except msgspec.ValidationError:
            return _unfamiliar(raw)
        event_type, payload = _KNOWN[type(envelope)]
        return _event(raw, envelope, event_type, payload)
    except msgspec.ValidationError:
        return _again(raw)
    except (Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _rejected(raw, error)


def _again(raw: bytes) -> Event | Ignored | Rejected:
    """Decode without guessing what does not have the shape that was guessed.

    Of a member that occurs twice the last counts, but the decoder looks at both: hence the
    detour over plain objects, in which only the last is left.
    """
    try:
        with suppress(msgspec.ValidationError):  # a number that only the first look can name
            plain = msgspec.json.decode(raw)
            if isinstance(plain, dict):
                _check_version(plain.get("schema_version", SCHEMA_VERSION))
                raw = msgspec.json.encode(plain)
        return _unfamiliar(raw)
    except (Refused, msgspec.MsgspecError, RecursionError) as error:
        return _rejected(raw, error)


def _rejected(raw: bytes, error: Exception) -> Rejected:
    """Turn what went wrong into a reason, a message and a field."""
    if isinstance(error, Refused):
        return Rejected(error.reason, error.message, error.field)
    if isinstance(error, msgspec.ValidationError):
        return _explain(str(error))
    if isinstance(error, msgspec.DecodeError):
        place = _PLACE.search(str(error))
        if place and _NOT_FINITE.match(raw, int(place[1])):
            return Rejected("number", "NaN and infinity are no JSON numbers")
        return Rejected("json", str(error))
    if isinstance(error, UnicodeDecodeError):
        return Rejected("not_utf8", f"invalid UTF-8 at byte {error.start}")
    return Rejected("depth", "nested too deeply")


def _unfamiliar(raw: bytes) -> Event | Ignored | Rejected:
    """Decode an envelope of an unknown type, or one whose members or types occur twice."""
    envelope = _any_envelope.decode(raw)
    event_type = envelope.event_type
    payload = PAYLOADS.get(event_type)
    if payload is not None:
        shape = _Envelope[payload.shape]  # type: ignore[name-defined] # known only at run time
        return _event(raw, msgspec.json.decode(raw, type=shape), event_type, payload)
    if event_type in IGNORED_TYPES:
        return _event(raw, envelope, event_type, None)
    _check(raw, envelope)
    if len(event_type) > 200 or not event_type.isprintable():
        raise Refused("identifier", "an event type that cannot be shown", "event_type")
    time = envelope.time
    return Ignored(event_type, checked_time(time, "event_timestamp") if time else None, False)


def _event(raw: bytes, envelope: Any, event_type: str, payload: Payload | None) -> Event | Ignored:
    """Turn a decoded envelope of a known type into an event."""
    _check(raw, envelope)
    time = envelope.time
    if time is not None:
        time = checked_time(time, "event_timestamp")
    if payload is None:
        return Ignored(event_type, time, True)
    data = envelope.data
    own = payload.time_of(data)
    if own is not None:
        time = checked_time(own, "data.timestamp")
    if time is None:
        raise Refused("missing:event_timestamp", "no time anywhere", "event_timestamp")
    envelope.time = time
    facts = payload.facts_of(data, envelope)
    if not facts:
        return Ignored(event_type, time, True)
    return Event(envelope.event_id, event_type, time, facts)


def _check(raw: bytes, envelope: Any) -> None:
    """Refuse what decodes but cannot be trusted, kept or passed on."""
    event_id = envelope.event_id
    if event_id.encode().translate(_OUTLINE) != _USUAL_ID and not _EVENT_ID.fullmatch(event_id):
        raise Refused("identifier", "event_id is not a UUID", "event_id")
    if envelope.schema_version != SCHEMA_VERSION:
        _check_version(envelope.schema_version)
    if len(envelope.run) > MAX_ID_LENGTH:
        raise Refused("length", f"more than {MAX_ID_LENGTH} characters", "correlation_id")
    escape = raw.find(b"\\")
    if escape >= 0 and _HARD_ESCAPES.search(raw, escape):
        _inspect_strings(raw)
    if envelope.metadata:
        bounded_object(envelope.metadata, "metadata")


def _check_version(version: object) -> None:
    """Refuse what another version of the services wrote; its shape may be any."""
    if type(version) is int and version != SCHEMA_VERSION:
        raise Refused(
            "version",
            f"schema version {version}; this bcs-tui knows {SCHEMA_VERSION}",
            "schema_version",
        )


def checked_time(moment: datetime, field: str) -> datetime:
    """Return a moment in UTC; one without a zone is taken as UTC, as deployments mean it.

    Raises:
        Refused: The moment is before 1970 or after 2199.
    """
    if moment.tzinfo is not UTC:
        try:
            aware = moment.tzinfo is not None
            moment = moment.astimezone(UTC) if aware else moment.replace(tzinfo=UTC)
        except OverflowError:
            _out_of_range(field)
    if not 1970 <= moment.year < 2200:
        _out_of_range(field)
    return moment


def _out_of_range(field: str) -> NoReturn:
    raise Refused("range", "a time outside 1970 to 2199", field)


def _inspect_strings(raw: bytes) -> None:
    """Look at every string, also in members that are otherwise passed over.

    Decoding the whole finds lone surrogates; NUL is legal JSON that stores cannot keep.
    """
    pending: list[Any] = [msgspec.json.decode(raw)]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise Refused("nul", "a NUL character in a string")
        elif isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list):
            pending += value


_PATH: Final = re.compile(
    r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL
)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<leaf>[^`]*)`$")


def _explain(message: str) -> Rejected:
    """Turn the decoder's refusal into a reason, a message and a field."""
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    missing = _MISSING.match(what)
    if missing:
        leaf = missing["leaf"]
        return Rejected(f"missing:{leaf}", f"{leaf} is missing", f"{path}.{leaf}".lstrip("."))
    if not path:
        return Rejected("not_object" if what.startswith("Expected `object`") else "json", what)
    if "datetime" in what:
        return Rejected("timestamp", what, path)
    if "out of range" in what or "<=" in what or ">=" in what:
        return Rejected("number", what, path)
    return Rejected("type", what, path)

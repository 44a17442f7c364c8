"""The document of one essay: readable by the services, exact for us, lossless for the unknown.

The services know four members: `completed_steps` (failed ones included), `step_metadata`,
`created_at` and `last_updated`. What our model needs beyond them stands in a fifth, `bcs_tui`:
they keep members that they do not know. What we do not understand is kept as the text that it
was, never decoded and encoded again.
"""

from __future__ import annotations

import codecs
import json
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Final
from zlib import crc32

import msgspec

from engine.clock import to_microseconds
from engine.models import BEGINNING, FAILED, PENDING, EssayState, StepFact, merge_steps

UNDATED: Final = datetime.max.replace(tzinfo=UTC)
"""Stands for the creation of an essay that no document dates: later than every result."""


class Document(msgspec.Struct, gc=False):
    """What is known of an essay.

    `metadata` and `extras` hold JSON text as it was found: of results that others wrote, and
    of members that nobody here knows. `damage` tells what writing the document would lose.
    """

    essay_id: str
    created_at: datetime = UNDATED
    steps: dict[str, StepFact] = msgspec.field(default_factory=dict)
    file_name: str = ""
    file_name_at: datetime = BEGINNING
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    extras: dict[str, str] = msgspec.field(default_factory=dict)
    damage: str = ""
    fragments: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)

    def state(self) -> EssayState:
        """Return what readers are told."""
        created_at = BEGINNING if self.created_at == UNDATED else self.created_at
        return EssayState(
            self.essay_id, created_at, dict(self.steps), self.file_name, self.file_name_at
        )

    def put(self, fact: StepFact) -> None:
        """Take over a result of ours in place of what was there."""
        self.steps[fact.step] = fact
        self.metadata.pop(fact.step, None)
        self.fragments.pop(fact.step, None)

    def absorb(self, other: Document) -> bool:
        """Merge another version of the same essay into this one; tell whether it changed."""
        changed = False
        for step, fact in other.steps.items():
            old = self.steps.get(step)
            if old is None or merge_steps(old, fact) is not old:
                self.put(fact)
                changed = True
        if other.created_at < self.created_at:
            self.created_at = other.created_at
            changed = True
        if (other.file_name_at, other.file_name) > (self.file_name_at, self.file_name):
            self.file_name, self.file_name_at = other.file_name, other.file_name_at
            changed = True
        return changed

    def outcomes(self) -> dict[str, int]:
        """Return what the essay adds to the counts of its batch."""
        return {step: fact.outcome for step, fact in self.steps.items()}


def encode(document: Document, now: str) -> bytes:
    """Return the stored form of a document.

    Args:
        document: What is known.
        now: The time of this change, in the services' form.
    """
    fragments = document.fragments
    listed: list[str] = []
    metadata: list[str] = []
    entries: list[str] = []
    for step, fact in document.steps.items():
        fragment = fragments.get(step)
        if fragment is None:
            fragment = fragments[step] = _fragment(fact, document.metadata.get(step))
        shown, entry = fragment
        entries.append(entry)
        if fact.outcome:
            listed.append(quoted(step))
        if shown:
            metadata.append(shown)
    if document.metadata:
        metadata += [
            f"{quoted(step)}: {text}"
            for step, text in document.metadata.items()
            if step not in document.steps
        ]
    extras = "".join([f", {quoted(name)}: {text}" for name, text in document.extras.items()])
    created = document.created_at
    date = "" if created is UNDATED else f'"created_at": "{created.isoformat()}", '
    at = document.file_name_at
    file = "" if at is BEGINNING else f'"file": [{quoted(document.file_name)}, {_stamp(at)}], '
    return (
        f'{{"completed_steps": [{", ".join(listed)}], "step_metadata": {{{", ".join(metadata)}}}, '
        f'{date}"last_updated": "{now}"{extras}, '
        f'"bcs_tui": {{{file}"steps": {{{", ".join(entries)}}}}}}}'
    ).encode()


def _fragment(fact: StepFact, found: str | None) -> tuple[str, str]:
    """Return a result as a member of `step_metadata` and as one of ours.

    Ours ends with the exact text of the metadata, or, where the services' member has that
    text, with its checksum: another service may write the same value in another form.
    """
    text = fact.metadata
    exact: str | int
    if found is not None:
        shown = found
    elif fact.outcome == FAILED:
        shown = _told_as_failed(text)
    else:
        shown = text
    if not shown.isascii() and found is None:
        shown = shown.encode("ascii", _ESCAPED).decode()
    exact = crc32(text.encode()) if shown == text and fact.outcome else quoted(text)
    name = quoted(fact.step)
    entry = (
        f"{name}: [{fact.outcome}, {_stamp(fact.time)}, {quoted(fact.event_id)}, "
        f"{fact.detail}, {exact}]"
    )
    return ("" if fact.outcome == PENDING and found is None else f"{name}: {shown}"), entry


def _told_as_failed(text: str) -> str:
    """Return metadata from which the services' form says that the step failed."""
    metadata = json.loads(text)
    if metadata.get("completion_status") == "failed":
        return text
    return json.dumps({**metadata, "completion_status": "failed"})


_stamp = to_microseconds


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Write what ASCII lacks as JSON escapes: outside of strings JSON text has none of it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return quoted(part)[1:-1], error.end


_ESCAPED: Final = "bcs_tui.json"
codecs.register_error(_ESCAPED, _escape)

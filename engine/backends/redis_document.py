"""The document of one essay: readable by the services, exact for us, lossless for the unknown.

The services know four members: `completed_steps` (failed ones included), `step_metadata`,
`created_at` and `last_updated`. What our model needs beyond them stands in a fifth, `bcs_tui`:
they keep members that they do not know. What we do not understand is kept as the text that it
was, never decoded and encoded again.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, NamedTuple
from zlib import crc32

from engine.clock import to_microseconds
from engine.models import BEGINNING, FAILED, PENDING, EssayState, StepFact, merge_steps

UNDATED: Final = datetime.max.replace(tzinfo=UTC)
"""Stands for the creation of an essay that no document dates: later than every result."""


class Document:
    """What is known of an essay.

    `metadata` and `extras` hold JSON text as it was found: of results that others wrote, and
    of members that nobody here knows. `damage` tells what writing the document would lose.
    `texts` are the inner texts of `completed_steps`, `step_metadata` and our own results, as
    far as they are known: a further result is only put behind them. `moves` are the steps that
    were put since the document was read or written, with the outcomes before and after.

    Args:
        essay_id: The essay.
        created_at: The oldest time that is known of it.
        texts: The inner texts of what is stored.
        stored: Reads what is stored, once that is needed: most results are new to their essay.
    """

    __slots__ = (
        "_metadata", "_steps", "_stored", "created_at", "damage", "essay_id", "extras",
        "file_name", "file_name_at", "moves", "texts",
    )  # fmt: skip

    def __init__(
        self,
        essay_id: str,
        created_at: datetime = UNDATED,
        texts: tuple[str, str, str] | None = None,
        stored: Callable[[], Document] | None = None,
    ) -> None:
        self.essay_id = essay_id
        self.created_at = created_at
        self.texts = texts
        self._stored = stored
        self._steps: dict[str, StepFact] = {}
        self._metadata: dict[str, str] = {}
        self.file_name = ""
        self.file_name_at = BEGINNING
        self.extras: dict[str, str] = {}
        self.damage = ""
        self.moves: list[tuple[str, int | None, int]] = []

    @property
    def steps(self) -> dict[str, StepFact]:
        """The result of each step that has one."""
        self._read()
        return self._steps

    @property
    def metadata(self) -> dict[str, str]:
        """What others wrote of steps, as text, where ours is another or nothing."""
        self._read()
        return self._metadata

    @metadata.setter
    def metadata(self, texts: dict[str, str]) -> None:
        self._metadata = texts

    def _read(self) -> None:
        if self._stored is not None:
            stored, self._stored = self._stored(), None
            self._steps = {**stored.steps, **self._steps}
            self._metadata = stored.metadata

    def result(self, step: str) -> StepFact | None:
        """Return the result of a step, if it has one."""
        if self._stored is not None and self._may_hold(quoted(step)):
            self._read()
        return self._steps.get(step)

    def _may_hold(self, name: str) -> bool:
        """Whether the name of a step stands anywhere in what is stored."""
        if self.texts is None:
            return True
        listed, metadata, entries = self.texts
        return name in listed or name in metadata or name in entries

    def state(self, trouble: str = "") -> EssayState:
        """Return what readers are told; `trouble` is why there may be more."""
        created_at = BEGINNING if self.created_at == UNDATED else self.created_at
        return EssayState(
            self.essay_id, created_at, dict(self.steps), self.file_name, self.file_name_at, trouble
        )

    def put(self, fact: StepFact) -> None:
        """Take over a result of ours in place of what was there."""
        step = fact.step
        old = self._steps.get(step) if self._stored is None else self.result(step)
        self.moves.append((step, None if old is None else old.outcome, fact.outcome))
        if self.texts is not None:
            if old is None and step not in self._metadata:
                self.texts = _joined(self.texts, _fragment(fact, None))
            else:
                self.texts = None
        self._steps[step] = fact
        if self._metadata:
            self._metadata.pop(step, None)

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
    texts = document.texts
    if texts is None:
        texts = document.texts = _texts(document)
    listed, metadata, entries = texts
    extras = file = ""
    if document.extras:
        extras = "".join([f", {quoted(name)}: {text}" for name, text in document.extras.items()])
    if document.file_name_at is not BEGINNING:
        stamp = to_microseconds(document.file_name_at)
        file = f'"file": [{quoted(document.file_name)}, {stamp}], '
    return (
        f'{{"completed_steps": [{listed}], "step_metadata": {{{metadata}}}, '
        f'{_creation(document.created_at)}"last_updated": "{now}"{extras}, '
        f'"bcs_tui": {{{file}"steps": {{{entries}}}}}}}'
    ).encode()


@lru_cache(maxsize=4096)
def _creation(moment: datetime) -> str:
    return "" if moment == UNDATED else f'"created_at": "{moment.isoformat()}", '


def outline_of(text: str) -> Outline | None:
    """Return the parts of a document that `encode` has written, one without extras.

    No string holds any of the marks that are looked for: quotes inside of strings are escaped.
    Metadata may, so its end is looked for from behind.
    """
    listed = text.find(_AFTER_LISTED)
    updated = text.rfind(', "last_updated": "')
    end = updated if text[updated - 1] == "}" else text.rfind('}, "created_at": "', 0, updated) + 1
    if not text.startswith(_BEFORE_LISTED) or not 0 < listed < end:
        return None
    middle = _MIDDLE.match(text, end)
    if middle is None:
        return None
    texts = (
        text[len(_BEFORE_LISTED) : listed],
        text[listed + len(_AFTER_LISTED) : end - 1],
        text[middle.end() : -3],
    )
    return Outline(texts, middle["created"] or "", middle["file"] or "")


class Outline(NamedTuple):
    """The inner texts of a stored document, when it was created, and its member of the file."""

    texts: tuple[str, str, str]
    created: str
    file: str


_BEFORE_LISTED: Final = '{"completed_steps": ['
_AFTER_LISTED: Final = '], "step_metadata": {'
_MIDDLE: Final = re.compile(
    r', (?:"created_at": "(?P<created>[^"]*)", )?"last_updated": "[^"]*", '
    r'"bcs_tui": \{(?:"file": (?P<file>\["(?:[^"\\]|\\.)*", -?\d+\]), )?"steps": \{'
)


def _texts(document: Document) -> tuple[str, str, str]:
    """Return the inner texts of a document, made of what it holds."""
    texts = ("", "", "")
    for step, fact in document.steps.items():
        texts = _joined(texts, _fragment(fact, document.metadata.get(step)))
    for step, text in document.metadata.items():
        if step not in document.steps:
            texts = _joined(texts, ("", f"{quoted(step)}: {text}", ""))
    return texts


def _joined(texts: tuple[str, str, str], more: tuple[str, str, str]) -> tuple[str, str, str]:
    listed, metadata, entries = texts
    name, shown, entry = more
    return (
        f"{listed}, {name}" if listed and name else listed or name,
        f"{metadata}, {shown}" if metadata and shown else metadata or shown,
        f"{entries}, {entry}" if entries and entry else entries or entry,
    )


def _fragment(fact: StepFact, found: str | None) -> tuple[str, str, str]:
    """Return a result as one of `completed_steps`, of `step_metadata` and of ours.

    Ours ends with the exact text of the metadata, or, where the services' member has that
    text, with its checksum: another service may write the same value in another form.
    """
    text = fact.metadata
    if found is not None:
        shown = found
    elif fact.outcome == FAILED:
        shown = _told_as_failed(text)
    else:
        shown = text
    if found is None and not shown.isascii():
        shown = shown.encode("ascii", _ESCAPED).decode()
    exact = crc32(text.encode()) if shown == text and fact.outcome else quoted(text)
    name = quoted(fact.step)
    entry = (
        f"{name}: [{fact.outcome}, {to_microseconds(fact.time)}, {quoted(fact.event_id)}, "
        f"{fact.detail}, {exact}]"
    )
    if fact.outcome == PENDING:
        return "", "" if found is None else f"{name}: {shown}", entry
    return name, f"{name}: {shown}", entry


def _told_as_failed(text: str) -> str:
    """Return metadata from which the services' form says that the step failed."""
    metadata = json.loads(text)
    if metadata.get("completion_status") == "failed":
        return text
    return json.dumps({**metadata, "completion_status": "failed"})


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Write what ASCII lacks as JSON escapes: outside of strings JSON text has none of it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return quoted(part)[1:-1], error.end


_ESCAPED: Final = "bcs_tui.json"
codecs.register_error(_ESCAPED, _escape)

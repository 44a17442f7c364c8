"""The events as rows: what came in, and what became of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from bcs_tui.format import Glyph, clean, clock, fit
from bcs_tui.widgets.filter import Filter, parse_filter
from bcs_tui.widgets.ink import Line, Piece
from bcs_tui.widgets.line_view import Sight
from bcs_tui.widgets.states import mark
from engine import (
    OUTCOME_NAMES,
    BatchFact,
    EssaysFact,
    Event,
    Ignored,
    LogEntry,
    Outcome,
    PhaseFact,
    RegistrationFact,
    Rejected,
    StepFact,
    tells_failure,
)

FIELDS: Final = frozenset({"fate", "batch", "essay", "step", "type"})


class Told(NamedTuple):
    """An event in words."""

    time: datetime | None
    state: str
    batch: str
    essay: str
    step: str
    text: str
    kind: str


def tell(entry: LogEntry) -> Told:
    """Say what an event was about; nothing is cleaned yet."""
    event = entry.event
    if isinstance(event, Rejected):
        where = f" ({event.field})" if event.field else ""
        text = f"{event.reason}: {event.message}{where}"
        return Told(None, "stalled", "", "", "", text, "dead letter")
    if isinstance(event, Ignored):
        kind = short_type(event)
        text = kind if event.known else f"unknown type {kind}"
        return Told(event.time, "skipped", "", "", "", text, kind)
    return _tell_event(event, ", ".join(entry.homes))


def short_type(event: Event | Ignored) -> str:
    """Return an event type without what all of them share."""
    return event.event_type.removeprefix("huleedu.").removesuffix(".v1")


def _tell_event(event: Event, homes: str) -> Told:
    told = _tell_lead(event, homes)
    return told._replace(state="failed") if tells_failure(event) else told


def _tell_lead(event: Event, homes: str) -> Told:
    """Say what the fact of an event that tells most is about."""
    kind = short_type(event)
    facts = sorted(event.facts, key=_weight)
    lead = facts[0]
    batch = next((fact.batch_id for fact in facts if fact.batch_id), homes)
    if isinstance(lead, StepFact):
        outcome = OUTCOME_NAMES[lead.outcome]
        if len(facts) > 1 and isinstance(facts[1], StepFact):
            return Told(event.time, "done", batch, "", lead.step, _several(facts), kind)
        text = f"{lead.step} {outcome}"
        return Told(event.time, "done", batch, lead.essay_id, lead.step, text, kind)
    if isinstance(lead, PhaseFact):
        state = "running" if lead.status == "started" else "done"
        text = f"{lead.phase} phase {lead.status.replace('_', ' ')}{_failed(facts)}"
        return Told(event.time, state, batch, "", lead.phase, text, kind)
    if isinstance(lead, RegistrationFact):
        text = f"registered, {lead.expected:,} essays expected"
        return Told(event.time, "ready", batch, "", "", text, kind)
    if isinstance(lead, EssaysFact):
        essay = lead.essay_ids[0] if len(lead.essay_ids) == 1 else ""
        text = f"{len(lead.essay_ids):,} essays" if not essay else lead.file_name or "essay added"
        return Told(event.time, "ready", batch, essay, "", text, kind)
    text = _BATCH_WORDS.get(lead.status, "{status} {value}").format(
        status=lead.status.replace("_", " "), value=lead.value.replace("_", " ")
    )
    state = "done" if lead.status in ("completed", "results") else "ready"
    return Told(event.time, state, batch, "", "", text, kind)


_BATCH_WORDS: Final = {
    "requested": "pipeline {value} requested",
    "denied": "pipeline {value} denied",
    "completed": "pipeline {value}",
    "results": "results ready: {value}",
    "provisioned": "content provisioned",
    "rejected": "content rejected",
    "content_complete": "all content is there",
    "content_failed": "content could not be validated",
    "ready": "ready for a pipeline",
}


def _weight(fact: object) -> int:
    """Order facts by how much they tell."""
    order = (PhaseFact, RegistrationFact, StepFact, BatchFact, EssaysFact)
    return next((place for place, kind in enumerate(order) if isinstance(fact, kind)), len(order))


def _several(facts: Sequence[object]) -> str:
    results = [fact for fact in facts if isinstance(fact, StepFact)]
    completed = sum(fact.outcome == Outcome.COMPLETED for fact in results)
    return f"{results[0].step}: {completed:,} completed{_failed(facts)}"


def _failed(facts: Sequence[object]) -> str:
    """Return how many results of an event failed, to be added; nothing if none did."""
    failed = sum(isinstance(fact, StepFact) and fact.outcome == Outcome.FAILED for fact in facts)
    return f", {failed:,} failed" if failed else ""


class Columns(NamedTuple):
    """The widths of the columns before what an event says; that of the essay may be 0."""

    time: int
    batch: int
    essay: int


def columns(width: int) -> Columns:
    """Share out a width: ids in full where there is room for them."""
    if width >= 140:
        return Columns(12, 36, 36)
    if width >= 100:
        return Columns(12, 26, 22)
    return Columns(8, 18, 14 if width >= 66 else 0)


_FATE_INK: Final = {"duplicate": "muted", "ignored": "muted", "dead letter": "failed"}


def line_of(entry: LogEntry, now: datetime | None, glyphs: Glyph, width: int) -> Line:
    """Return an event as a line."""
    told = tell(entry)
    applied = entry.fate == "applied"
    to = columns(width)
    line: list[Piece] = [
        (f" {fit(clock(told.time, now), to.time)}  ", "muted"),
        mark(told.state, glyphs)
        if applied or told.state == "stalled"
        else (glyphs["pending"], "muted"),
        ("  ", ""),
    ]
    line.append((fit(clean(told.batch), to.batch) + "  ", "" if applied else "muted"))
    used = 7 + to.time + to.batch + 2
    if to.essay:
        line.append((fit(clean(told.essay), to.essay) + "  ", "" if applied else "muted"))
        used += to.essay + 2
    fate = "" if applied else entry.fate
    room = max(0, width - used - len(fate) - 2)
    ink = "failed" if applied and told.state == "failed" else "" if applied else "muted"
    if entry.fate == "dead letter":
        ink = "failed"
    line.append((fit(clean(told.text, 400), room), ink))
    line.append((f" {fate} ", _FATE_INK.get(entry.fate, "muted")))
    return line


class EventRows:
    """The newest events, oldest first; a source for a `LineView`."""

    def __init__(self, glyphs: Glyph) -> None:
        self.filter = Filter("", ())
        self.now: datetime | None = None
        self._glyphs = glyphs
        self._log: Sequence[LogEntry] = ()
        self._shown: list[LogEntry] = []

    def take(self, log: Sequence[LogEntry], now: datetime) -> None:
        """Take the log of a view; only events that are new are put to the filter."""
        self.now = now
        shown, old = self._shown, self._log
        self._log = log
        if not log or (old and log[-1].number < old[-1].number):
            self._shown = [entry for entry in log if self._lets(entry)]
            return
        gone = bisect_left(shown, log[0].number, key=_number)
        del shown[:gone]
        last = old[-1].number if old else 0
        fresh = log[bisect_left(log, last + 1, key=_number) :]
        shown += fresh if not self.filter.terms else [e for e in fresh if self._lets(e)]

    def filter_by(self, text: str) -> None:
        """Choose another filter."""
        self.filter = parse_filter(text, FIELDS)
        self._shown = [entry for entry in self._log if self._lets(entry)]

    def _lets(self, entry: LogEntry) -> bool:
        if not self.filter.terms:
            return True
        told = tell(entry)
        text = " ".join((told.batch, told.essay, told.text, told.kind, entry.fate)).lower()
        return self.filter.matches(
            text,
            {
                "fate": entry.fate.startswith,
                "batch": told.batch.lower().__contains__,
                "essay": told.essay.lower().__contains__,
                "step": told.step.lower().startswith,
                "type": told.kind.lower().__contains__,
            },
        )

    def __len__(self) -> int:
        return len(self._shown)

    def key(self, index: int) -> str:
        return str(self._shown[index].number)

    def find(self, key: str) -> int | None:
        index = bisect_left(self._shown, int(key), key=_number)
        found = index < len(self._shown) and self._shown[index].number == int(key)
        return index if found else None

    def entry(self, key: str | None) -> LogEntry | None:
        """Return an event that is still in the log."""
        index = self.find(key) if key is not None else None
        return None if index is None else self._shown[index]

    def sight(self, index: int) -> Sight:
        return Sight(self._shown[index])

    def paint(self, index: int, width: int) -> Line:
        entry = self._shown[index]
        return line_of(entry, self.now, self._glyphs, width)


def _number(entry: LogEntry) -> int:
    return entry.number

"""What the engine shows: frozen pictures of the read model, made a few times a second.

A `View` shares every part that did not change with the view before it and names the batches
that did, so that whoever draws it has work only where something happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, overload

import msgspec

from engine.events import Event, Ignored, Rejected
from engine.models import StepFact
from engine.repository import Change
from engine.summaries import BatchSummary


class Eta(msgspec.Struct, frozen=True):
    """When a batch may be done, as a range of seconds, and what the range rests on."""

    low_seconds: float
    high_seconds: float
    basis: str


class BatchRow(msgspec.Struct, frozen=True):
    """One batch of the fleet.

    `rate_per_minute` counts step results; `None` means that too few are known. A batch is
    stalled when it should be moving and `stalled_since` (an event time) is not `None`.
    `is_measuring`: too few results have come since somebody looks, though there are others.
    `is_ahead`: its newest event is dated later than now. Then `stalled_since` is the time at
    which it was last seen to change.
    """

    summary: BatchSummary
    rate_per_minute: float | None = None
    eta: Eta | None = None
    stalled_since: datetime | None = None
    is_measuring: bool = False
    is_ahead: bool = False


class Mode(StrEnum):
    """What the engine is doing with its feed, in the word that the screen shows."""

    STARTING = "starting"
    LIVE = "live"
    REPLAY = "replay"
    PAUSED = "paused"
    ENDED = "ended"
    RETRYING = "retrying"
    LAGGING = "lagging"
    RECONNECTING = "reconnecting"
    STALE = "stale"
    PROVISIONAL = "provisional"
    FAILED = "failed"


class Health(msgspec.Struct, frozen=True):
    """Where events come from, where they go, and the account of them.

    `read = applied + ignored + duplicates + dead_letters + in_flight`, always.
    `lag_seconds` is the age of the newest event when it was applied; `None` in a replay.

    Of an observer there is, instead of an account: the `time` of day (ages are counted to
    `verified_at`, the last moment at which the backend answered, while it does not), the
    seconds for which each part of the backend has not answered, where it has several (`silences`),
    batches that changed and are still to be read (`pending`), those whose counts a stored one
    contradicts (`disputes`), the newest event time that is not ahead of the clock (`newest_at`),
    and as `dead_letters` all that the backend keeps, or in `letters_unknown` why they are not
    counted. `read_only` is our promise; what its account could do nevertheless is in `hints`, to
    be said once. `insecure`: the way to the backend is protected by the operator's
    word alone. `gaps` counts how often notices, or messages of a feed, may have
    been missed.
    """

    mode: Mode
    feed: str
    backend: str
    read: int = 0
    applied: int = 0
    ignored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    in_flight: int = 0
    events_per_second: float = 0.0
    lag_seconds: float | None = None
    trouble: str = ""
    notices: tuple[str, ...] = ()
    ignored_types: Mapping[str, int] = {}
    time: datetime | None = None
    verified_at: datetime | None = None
    silences: Mapping[str, float] = {}
    pending: int = 0
    gaps: int = 0
    disputes: int = 0
    newest_at: datetime | None = None
    letters_unknown: str = ""
    read_only: bool = False
    hints: tuple[str, ...] = ()
    insecure: bool = False


class ReplayState(msgspec.Struct, frozen=True):
    """Where a replay stands; `None` times mean that nothing was read yet."""

    paused: bool
    speed: float | None
    loop: bool
    index: int
    length: int
    start: datetime | None
    end: datetime | None
    now: datetime | None


class Effects:
    """In which batches the results of one chunk took effect; worked out when somebody asks."""

    __slots__ = ("_changes", "_last", "_pairs")

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes
        self._pairs: dict[tuple[str, str], None] | None = None
        self._last: dict[str, str] = {}

    def of(self, event_id: str) -> tuple[str, ...]:
        """Return the batches in which the results of an event were news."""
        if self._pairs is None:
            facts = [change.fact for change in self._changes]
            self._pairs = dict.fromkeys(
                [(fact.event_id, fact.batch_id) for fact in facts if type(fact) is StepFact]
            )
            self._last = dict(self._pairs.keys())
            self._changes = ()
        if len(self._last) == len(self._pairs):  # no event had effects in two batches
            batch_id = self._last.get(event_id)
            return () if batch_id is None else (batch_id,)
        return tuple(batch_id for name, batch_id in self._pairs if name == event_id)


class LogEntry(NamedTuple):
    """One line of the events log: what came in and what became of it.

    `fate` is `applied`, `duplicate`, `ignored` or `dead letter`. `homes` are the batches in which
    the results of an event that names no batch were news when it came.
    """

    number: int
    event: Event | Ignored | Rejected
    fate: str
    homes: tuple[str, ...] = ()


class EventLog(Sequence[LogEntry]):
    """The newest events, oldest first; entries are made when they are looked at."""

    __slots__ = ("_events", "_fates", "_first", "effects")

    def __init__(
        self,
        first: int,
        events: Sequence[Event | Ignored | Rejected],
        fates: Sequence[str],
        effects: Sequence[Effects],
    ) -> None:
        self._first = first
        self._events = events
        self._fates = fates
        self.effects = effects

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, position: int) -> LogEntry: ...

    @overload
    def __getitem__(self, position: slice) -> list[LogEntry]: ...

    def __getitem__(self, position: int | slice) -> LogEntry | list[LogEntry]:
        if isinstance(position, slice):
            return [self._entry(place) for place in range(len(self))[position]]
        return self._entry(range(len(self))[position])

    def _entry(self, place: int) -> LogEntry:
        event = self._events[place]
        homes: tuple[str, ...] = ()
        if isinstance(event, Event) and not event.facts[0].batch_id:
            homes = self.effects[place].of(event.event_id)
        return LogEntry(self._first + place, event, self._fates[place], homes)


class Grid(msgspec.Struct):
    """The essays of the one batch that is open, as columns, kept up to date in place.

    `outcomes[step][i]` is the `Outcome` of `essay_ids[i]`; a pending one of an essay that is in
    `unreadable` is not known. `version` grows with every change. Only the engine writes; readers
    on the same event loop never see half a change.
    """

    batch_id: str
    essay_ids: list[str]
    outcomes: dict[str, bytearray]
    index: dict[str, int]
    version: int = 0
    unreadable: set[str] = msgspec.field(default_factory=set)


class View(msgspec.Struct, frozen=True):
    """One frozen picture of everything.

    `now` is the time that ages are counted to: the wall, or the replayed world's. `changed`
    names the batches whose row is another object than in the view before.
    """

    revision: int
    now: datetime
    batches: Mapping[str, BatchRow]
    changed: frozenset[str]
    health: Health
    log: EventLog = EventLog(1, (), (), ())
    replay: ReplayState | None = None
    grid: Grid | None = None

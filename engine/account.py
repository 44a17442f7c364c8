"""The account of events: what came in, what became of it, how fast."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import NamedTuple

from engine.clock import Clock
from engine.events import Event, Ignored, Rejected
from engine.repository import Change
from engine.view import Effects, EventLog

LOG_LENGTH = 1000
"""How many of the newest events the log keeps."""

_PACE_SECONDS = 3.0
_PACE_STEP_SECONDS = 0.2


class Books(NamedTuple):
    """The counts and the log at one moment, to come back to."""

    read: int = 0
    applied: int = 0
    ignored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    ignored_types: Mapping[str, int] = {}
    log: EventLog = EventLog(1, (), (), ())


class Account:
    """Counts every event once: `read = applied + ignored + duplicates + dead_letters + in_flight`.

    Dead letters that other runs left in the repository are not counted here.
    """

    def __init__(self, clock: Clock, pace: Clock | None = None) -> None:
        self._clock = clock
        self._pace = pace or clock
        self.read = self.applied = self.ignored = 0
        self.duplicates = self.dead_letters = self.in_flight = 0
        self.ignored_types: Counter[str] = Counter()
        self._events: deque[Event | Ignored | Rejected] = deque(maxlen=LOG_LENGTH)
        self._fates: deque[str] = deque(maxlen=LOG_LENGTH)
        self._effects: deque[Effects] = deque(maxlen=LOG_LENGTH)
        self.lag_seconds: float | None = None
        self._newest: datetime | None = None
        self._marks: deque[tuple[float, int]] = deque([(self._pace.monotonic(), 0)])

    def begin(self, count: int) -> None:
        """Note that so many events were read and nothing is known of them yet."""
        self.read += count
        self.in_flight += count

    def retract(self, count: int) -> None:
        """Take back events in flight that whoever brought them was told are not kept."""
        self.read -= count
        self.in_flight -= count

    def settle(
        self,
        parsed: Sequence[Event | Ignored | Rejected],
        news: Sequence[bool],
        changes: Sequence[Change] = (),
    ) -> None:
        """Note what became of the events in flight.

        Args:
            parsed: The events.
            news: Whether each of their facts was new.
            changes: What they changed.
        """
        fates = []
        position = 0
        newest = self._newest
        for event in parsed:
            if isinstance(event, Event):
                count = len(event.facts)
                new = news[position] if count == 1 else any(news[position : position + count])
                fates.append("applied" if new else "duplicate")
                position += count
                if newest is None or event.time > newest:
                    newest = event.time
            elif isinstance(event, Ignored):
                fates.append("ignored")
                self.ignored_types[event.event_type] += 1
            else:
                fates.append("dead letter")
        self.applied += fates.count("applied")
        self.duplicates += fates.count("duplicate")
        self.ignored += fates.count("ignored")
        self.dead_letters += fates.count("dead letter")
        self._events.extend(parsed)
        self._fates.extend(fates)
        self._effects.extend(repeat(Effects(changes), len(parsed)))
        self.in_flight -= len(parsed)
        self._newest = newest
        if newest:
            self.lag_seconds = max(0.0, (self._clock.now() - newest).total_seconds())

    @property
    def log(self) -> EventLog:
        """The newest events and what became of them, as they are at this moment."""
        settled = self.read - self.in_flight
        first = settled - len(self._events) + 1
        return EventLog(first, tuple(self._events), tuple(self._fates), tuple(self._effects))

    def events_per_second(self) -> float:
        """Return the rate over about the last three seconds, by the monotonic clock."""
        now = self._pace.monotonic()
        marks = self._marks
        if marks and (now < marks[-1][0] or self.read < marks[-1][1]):
            marks.clear()
        if not marks or now - marks[-1][0] >= _PACE_STEP_SECONDS:
            marks.append((now, self.read))
        while len(marks) > 1 and now - marks[1][0] > _PACE_SECONDS:
            marks.popleft()
        seconds = now - marks[0][0]
        return (self.read - marks[0][1]) / seconds if seconds > 0 else 0.0

    def is_fading(self) -> bool:
        """Whether a rate was shown that silence has made untrue."""
        return self._marks[0][1] != self.read

    def books(self) -> Books:
        """Return the present counts and log."""
        return Books(
            self.read,
            self.applied,
            self.ignored,
            self.duplicates,
            self.dead_letters,
            self.ignored_types.copy(),
            self.log,
        )

    def restore(self, books: Books) -> None:
        """Go back to earlier counts and the log of that moment."""
        self.read, self.applied, self.ignored = books.read, books.applied, books.ignored
        self.duplicates, self.dead_letters = books.duplicates, books.dead_letters
        self.ignored_types = Counter(books.ignored_types)
        self._events = deque((entry.event for entry in books.log), maxlen=LOG_LENGTH)
        self._fates = deque((entry.fate for entry in books.log), maxlen=LOG_LENGTH)
        self._effects = deque(books.log.effects, maxlen=LOG_LENGTH)

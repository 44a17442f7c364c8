"""The read model: what changed goes in, frozen rows come out, rebuilt only where needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import islice
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from engine.models import (
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
    RegistrationFact,
    StepFact,
    absorb_milestone,
    absorb_registration,
    absorb_upload,
    count_step,
    is_aggregate,
)
from engine.overlay import Overlay
from engine.pipelines import phases_of
from engine.repository import BatchColumns, Change
from engine.standing import Standing, standing_of
from engine.summaries import summarize
from engine.view import BatchRow, Eta, Grid

RECENT_RESULTS = 32
"""Rates and ETAs rest on so many of the newest results of a batch."""

FEWEST_RESULTS = 5
"""With fewer results no rate and no ETA is claimed."""

OTHERS_PER_VIEW = 50
"""So many rows out of sight are brought up to date with each view."""

AHEAD = timedelta(seconds=60)
"""Event times that are later than now by more than this are marked; less is any clock's fault."""

STALL_SECONDS = 300.0
"""A batch that should move is stalled after so long without an event."""

WHOLE_BATCH_STALL_SECONDS = 1800.0
"""The same where a phase that reports once for the whole batch is all that runs."""

WHOLE_BATCH_PHASES = frozenset({"cj_assessment"})
_REFRESH_SECONDS = 10.0


class _Model:
    """One batch of the read model."""

    __slots__ = ("changed_at", "is_loaded", "is_noted", "recent", "record", "standing", "wake_at")

    def __init__(self, record: BatchRecord, recent: Iterable[datetime] = ()) -> None:
        self.record = record
        self.is_loaded = False  # what it counts came before anybody looked
        self.changed_at: datetime | None = None  # until the next rows: after a change
        self.recent = list(recent)  # a deque would take as much memory as all the rest
        self.standing: Standing | None = None  # until somebody asks; then until a milestone
        self.wake_at: datetime | None = None
        self.is_noted = False  # as changed, both for the next rows and the next checkpoint


_Saved: TypeAlias = tuple[BatchRecord, tuple[datetime, ...]]


class ProjectionCheckpoint(msgspec.Struct, frozen=True):
    """The read model at one moment."""

    batches: Mapping[str, _Saved]


class Projection:
    """All batches, as counts; of one batch, the one that is open, also the essays."""

    def __init__(self, stall_seconds: float = STALL_SECONDS) -> None:
        self._stall_seconds = stall_seconds
        self._models: dict[str, _Model] = {}
        self._rows: Overlay[BatchRow] = Overlay.empty()
        self._dirty: dict[str, None] = {}  # in the order of their first change
        self._saved: dict[str, _Saved] = {}
        self._unsaved: set[str] = set()
        self._wakes: list[tuple[datetime, str]] = []
        self._disputed: set[str] = set()
        self.newest_at: datetime | None = None
        self.grid: Grid | None = None

    def __len__(self) -> int:
        return len(self._models)

    def load(self, records: Iterable[BatchRecord]) -> None:
        """Take over batches as the repository knows them."""
        for record in records:
            known = self._models.get(record.batch_id)
            model = self._models[record.batch_id] = _Model(record.copy())
            model.is_loaded = True
            if known:
                model.wake_at = known.wake_at
                model.recent.extend(known.recent)
                model.recent.extend(_results_between(known.record, record))
            self._touch(record.batch_id)

    def forget(self, batch_ids: Iterable[str]) -> None:
        """Let batches go that the repository does not know any more."""
        for batch_id in batch_ids:
            if self._models.pop(batch_id, None):
                self._touch(batch_id)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take over what a recorded chunk changed."""
        models = self._models
        grid_id = self.grid.batch_id if self.grid else None
        for change in changes:
            fact = change.fact
            batch_id = fact.batch_id
            model = models.get(batch_id)
            if model is None:
                model = models[batch_id] = _Model(BatchRecord(batch_id))
            if not model.is_noted:
                model.is_noted = True
                model.changed_at = None
                self._touch(batch_id)
            record = model.record
            if change.new_essays:
                record.seen += change.new_essays
            if isinstance(fact, StepFact):
                before, outcome = change.before, fact.outcome
                if outcome != before or not before:
                    count_step(record.counts, fact.step, before, outcome)
                if fact.detail:
                    record.saw(fact.time)
                    if outcome and not before:
                        recent = model.recent
                        recent.append(fact.time)
                        if len(recent) > RECENT_RESULTS:
                            del recent[0]
            elif isinstance(fact, EssaysFact):
                record.saw(fact.time)
            elif isinstance(fact, RegistrationFact):
                record.saw(fact.time)
                absorb_registration(record, fact)
            elif isinstance(fact, BatchFact) and fact.status in CONTENT:
                absorb_upload(record, fact)
            else:
                absorb_milestone(record, fact)
                model.standing = None
            if batch_id == grid_id:
                self._update_grid(change)

    def _touch(self, batch_id: str) -> None:
        """Note that a batch has changed: for the next rows, and for the next checkpoint."""
        self._dirty[batch_id] = None
        self._unsaved.add(batch_id)

    def open(self, columns: BatchColumns) -> Grid:
        """Keep the essays of a batch from now on; the batch that was open is let go."""
        index = {essay_id: position for position, essay_id in enumerate(columns.essay_ids)}
        self.grid = Grid(
            columns.record.batch_id,
            list(columns.essay_ids),
            dict(columns.outcomes),
            index,
            unreadable=set(columns.record.unreadable),
        )
        return self.grid

    def close(self) -> None:
        """Let the essays of the open batch go."""
        self.grid = None

    def rows(
        self, now: datetime, wanted: Collection[str] | None = None
    ) -> tuple[Mapping[str, BatchRow], frozenset[str]]:
        """Return the rows of all batches, and the ids of those that are new objects.

        Args:
            now: The time that stalls and rates are counted to.
            wanted: The batches that somebody looks at. Of the others only those that were
                never shown and `OTHERS_PER_VIEW` that changed first are brought up to date,
                so that a view costs the same however much happens out of sight. Without
                it everything is.
        """
        while self._wakes and self._wakes[0][0] <= now:
            moment, batch_id = heappop(self._wakes)
            model = self._models.get(batch_id)
            if model and model.wake_at == moment:
                model.wake_at = None
                self._dirty[batch_id] = None
        if not self._dirty:
            return self._rows, frozenset()
        chosen = set(self._dirty) if wanted is None else self._due(wanted)
        rows: dict[str, BatchRow] = {}
        gone = []
        for batch_id in chosen:
            del self._dirty[batch_id]
            model = self._models.get(batch_id)
            if model is None:
                gone.append(batch_id)
                self._disputed.discard(batch_id)
            else:
                model.is_noted = False
                rows[batch_id] = self._row(model, now)
        self._rows = self._rows.successor(rows, gone)
        return self._rows, frozenset(rows)

    def _due(self, wanted: Collection[str]) -> set[str]:
        """Return the dirty batches that the next view must, or can afford to, show anew."""
        due = {batch_id for batch_id in wanted if batch_id in self._dirty}
        due.update(islice(self._dirty, OTHERS_PER_VIEW))
        if len(self._rows) < len(self._models):
            due |= self._dirty.keys() - self._rows.keys()
        return due

    @property
    def disputes(self) -> int:
        """How many rows have counts that a stored one contradicts."""
        return len(self._disputed)

    @property
    def is_dirty(self) -> bool:
        """Whether rows would have to be rebuilt for what was applied."""
        return bool(self._dirty)

    @property
    def next_wake(self) -> datetime | None:
        """When a row changes although nothing happens: a stall begins, an ETA grows."""
        return self._wakes[0][0] if self._wakes else None

    def checkpoint(self) -> ProjectionCheckpoint:
        """Return the present state of all batches; it shares what the last one has as well."""
        saved = self._saved.copy()
        for batch_id in self._unsaved:
            model = self._models.get(batch_id)
            if model is None:
                saved.pop(batch_id, None)
            else:
                model.is_noted = False
                saved[batch_id] = (model.record.copy(), tuple(model.recent))
        self._saved = saved
        self._unsaved.clear()
        return ProjectionCheckpoint(saved)

    def restore(self, checkpoint: ProjectionCheckpoint) -> None:
        """Go back (or forth) to a checkpoint; the open batch has to be opened anew."""
        self._models = {
            batch_id: _Model(record.copy(), recent)
            for batch_id, (record, recent) in checkpoint.batches.items()
        }
        self._saved = dict(checkpoint.batches)
        self._unsaved.clear()
        self._rows = Overlay.empty()
        self._disputed = set()
        self._wakes = []
        self._dirty = dict.fromkeys(self._models)

    def _row(self, model: _Model, now: datetime) -> BatchRow:
        record = model.record
        if model.standing is None:
            model.standing = standing_of(record.milestones.values())
        summary = summarize(record, phases_of(), model.standing)
        (self._disputed.add if summary.is_disputed else self._disputed.discard)(summary.batch_id)
        last = summary.last_event_at
        if last and last <= now and (self.newest_at is None or last > self.newest_at):
            self.newest_at = last
        if model.changed_at is None:
            model.changed_at = now
        is_ahead = last is not None and last - now > AHEAD
        row = BatchRow(summary, is_ahead=is_ahead)
        if last and is_ahead:
            self._wake(model, last - AHEAD)
        if summary.status != "processing" or last is None:
            return row
        moving = [step.step for step in summary.steps if step.running]
        patience = self._stall_seconds
        if moving and WHOLE_BATCH_PHASES.issuperset(moving):
            patience = max(patience, WHOLE_BATCH_STALL_SECONDS)
        # A clock that is ahead says nothing of the silence since.
        silent_since = last if last <= now else model.changed_at
        stalls_at = silent_since + timedelta(seconds=patience)
        if now >= stalls_at:
            return replace(row, rate_per_minute=0.0, stalled_since=silent_since)
        rate = _per_second(model.recent, now)
        eta = _eta(row, model, rate, now) if rate else None
        soon = now + timedelta(seconds=_REFRESH_SECONDS)
        self._wake(model, min(stalls_at, soon) if eta else stalls_at)
        return replace(
            row,
            rate_per_minute=rate * 60 if rate else None,
            eta=eta,
            is_measuring=rate is None and model.is_loaded and _results(record) >= FEWEST_RESULTS,
        )

    def _wake(self, model: _Model, moment: datetime) -> None:
        """See to it that the row is looked at again at a moment at the latest."""
        if model.wake_at is None or moment < model.wake_at:
            model.wake_at = moment
            heappush(self._wakes, (moment, model.record.batch_id))

    def _update_grid(self, change: Change) -> None:
        """Bring the open batch's columns up to date with one change."""
        grid = self.grid
        fact = change.fact
        if grid is None or not isinstance(fact, StepFact | EssaysFact | RegistrationFact):
            return
        essay_ids = (fact.essay_id,) if isinstance(fact, StepFact) else fact.essay_ids
        for essay_id in essay_ids:
            if essay_id not in grid.index and not is_aggregate(grid.batch_id, essay_id):
                grid.index[essay_id] = len(grid.essay_ids)
                grid.essay_ids.append(essay_id)
                for column in grid.outcomes.values():
                    column.append(0)
        if isinstance(fact, StepFact):
            column = grid.outcomes.setdefault(fact.step, bytearray(len(grid.essay_ids)))
            column[grid.index[fact.essay_id]] = fact.outcome
        grid.unreadable.difference_update(essay_ids)  # what was recorded can be read
        grid.version += 1


def _results_between(old: BatchRecord, new: BatchRecord) -> list[datetime]:
    """Date results that nobody told one by one: evenly over the time in which they came."""
    count = _results(new) - _results(old)
    if count <= 0 or new.last_at is None or old.last_at is None:
        return []
    pace = (new.last_at - old.last_at) / count
    first = max(0, count - RECENT_RESULTS)
    return [old.last_at + pace * number for number in range(first + 1, count + 1)]


def _results(record: BatchRecord) -> int:
    return sum(map(sum, record.counts.values()))


def _per_second(recent: Sequence[datetime], now: datetime) -> float | None:
    """Return results per second over the newest ones, up to now: a silence lowers it.

    Event times, not arrival: history that is read in one go must not look like a burst.
    """
    if len(recent) < FEWEST_RESULTS:
        return None
    span = (max(now, *recent) - min(recent)).total_seconds()
    return len(recent) / span if span > 0 else None


def _eta(row: BatchRow, model: _Model, rate: float, now: datetime) -> Eta | None:
    """Return when the pending steps may be done, between the recent and the overall pace."""
    summary = row.summary
    remaining = sum(step.pending for step in summary.steps)
    done = sum(step.completed + step.failed for step in summary.steps)
    if not remaining or summary.started_at is None:
        return None
    lasted = (max(now, *model.recent) - summary.started_at).total_seconds()
    overall = done / lasted if done and lasted > 0 else rate
    slow, fast = sorted((rate, overall))
    return Eta(remaining / fast, remaining / slow, f"last {len(model.recent)} results")

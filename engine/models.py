"""What is true: facts, how they merge, and the records that they add up to.

A fact is something an event makes us remember. Facts merge with `max` in a lattice, so any
order and any duplication of the same events give the same state. Repositories keep facts and
the records they add up to; what people are told is computed from those in `summaries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias, final

import msgspec

BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
"""Stands in comparisons for a time that is unknown: older than every other."""

LISTED, THIN, RICH = 0, 1, 2
"""How much an event knows of one essay: it was listed, has a result of its own, in full."""


class Outcome(IntEnum):
    """What is known of one step of one essay; the order is the order of the lattice."""

    PENDING = 0
    FAILED = 1
    COMPLETED = 2


PENDING: Final = int(Outcome.PENDING)
FAILED: Final = int(Outcome.FAILED)
COMPLETED: Final = int(Outcome.COMPLETED)
OUTCOME_NAMES: Final = ("pending", "failed", "completed")


@final
class StepFact(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One result of one step of one essay.

    `batch_id` is empty when the event names no batch. `detail` tells how much the event
    knows of this one essay: 0 it was only listed, 1 a result of its own, 2 the rich twin.
    `metadata` is a JSON object as text.
    """

    batch_id: str
    essay_id: str
    step: str
    outcome: int
    time: datetime
    event_id: str = ""
    detail: int = LISTED
    metadata: str = "{}"


@final
class EssaysFact(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Essays that belong to a batch; `file_name` only where a single essay is meant."""

    batch_id: str
    essay_ids: tuple[str, ...]
    time: datetime
    file_name: str = ""


@final
class RegistrationFact(msgspec.Struct, frozen=True, gc=False, tag=True):
    """How many essays a batch expects: the only denominator."""

    batch_id: str
    expected: int
    essay_ids: tuple[str, ...]
    time: datetime
    owner: str = ""


@final
class PhaseFact(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Something about a phase of a batch in one run.

    `status` is `started`, `skipped`, `reported` (a service finished; `value` has its word)
    or a final batch status. `run` is the correlation id: it survives a republication.
    """

    batch_id: str
    phase: str
    status: str
    run: str
    time: datetime | None
    value: str = ""


@final
class BatchFact(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Something about a batch as a whole: content, readiness, pipelines, results.

    `status` is one of `CONTENT` or `content_complete`, `ready`, `requested`, `denied`,
    `completed`, `results`, `excess`; `value` is its object: an upload, a pipeline, a status.
    """

    batch_id: str
    status: str
    value: str
    run: str
    time: datetime


Fact: TypeAlias = StepFact | EssaysFact | RegistrationFact | PhaseFact | BatchFact

NOT_OUTCOMES: Final = frozenset({"started", "skipped", "reported"})
"""Statuses of phase facts that are not about how the phase ended."""

CONTENT: Final = frozenset({"provisioned", "rejected"})
"""Facts about single uploads; they are counted, not listed."""


class Milestone(NamedTuple):
    """A phase or batch fact as it is kept: once per identity, with its earliest time.

    The earliest, because a republication brings the same content with a newer envelope.
    `phase` is empty for facts about the batch.
    """

    phase: str
    status: str
    value: str
    run: str
    time: datetime | None

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes two sightings the same milestone."""
        return self[:4]

    @property
    def when(self) -> datetime:
        """The time for comparisons; an unknown one is the oldest."""
        return self.time or BEGINNING


def milestone(fact: PhaseFact | BatchFact) -> Milestone:
    """Return the milestone that a phase or batch fact is remembered as."""
    phase = fact.phase if type(fact) is PhaseFact else ""
    return Milestone(phase, fact.status, fact.value, fact.run, fact.time)


def absorb_milestone(record: BatchRecord, fact: PhaseFact | BatchFact) -> bool:
    """Remember a phase or batch fact in a record; tell whether it is news."""
    mark = milestone(fact)
    old = record.milestones.get(mark.identity)
    if old is not None:
        mark = mark._replace(time=earlier(old.time, mark.time))
    record.milestones[mark.identity] = mark
    return mark != old


def absorb_registration(record: BatchRecord, fact: RegistrationFact) -> bool:
    """Take over what a registration says of the batch itself; tell whether it is news."""
    expected = fact.expected if record.expected is None else max(fact.expected, record.expected)
    news = expected != record.expected
    record.expected = expected
    if fact.owner and (fact.time, fact.owner) > (record.owner_at, record.owner):
        news = news or fact.owner != record.owner
        record.owner, record.owner_at = fact.owner, fact.time
    return news


def absorb_upload(record: BatchRecord, fact: BatchFact) -> None:
    """Count an upload that was not known before."""
    if fact.status == "provisioned":
        record.provisioned += 1
    else:
        record.rejected += 1


def told(moment: datetime) -> datetime | None:
    """Return a moment; `None` for the one that stands for a time that nothing tells."""
    return None if moment == BEGINNING else moment


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier of two times; an unknown time is the earliest."""
    if one is None or other is None:
        return None
    return min(one, other)


def merge_steps(old: StepFact, new: StepFact) -> StepFact:
    """Return what two results of the same step of the same essay amount to.

    The better outcome wins; then a result of the essay's own over a mere listing; then the
    newest (for listings, whose time is only that of their envelope, the oldest); then the
    richer; then the larger event id; then the larger text, so that the choice is total.
    """
    if new.outcome != old.outcome:
        return new if new.outcome > old.outcome else old
    if new.detail == LISTED or old.detail == LISTED:
        if new.detail != old.detail:
            return new if new.detail else old
        if new.time != old.time:
            return new if new.time < old.time else old
    elif new.time > old.time:
        return new
    elif new.time < old.time:
        return old
    elif new.detail != old.detail:
        return new if new.detail > old.detail else old
    if new.event_id != old.event_id:
        return new if new.event_id > old.event_id else old
    return new if new.metadata > old.metadata else old


def same_content(old: StepFact, new: StepFact) -> bool:
    """Tell whether two results of a step differ in nothing that anyone is shown."""
    return old.outcome == new.outcome and old.time == new.time and old.metadata == new.metadata


class Homeless(msgspec.Struct, frozen=True, gc=False):
    """Results of one step of an essay that name no batch, until its batches are found.

    `fact` is what they amount to. The times are those of all, since a result that lost still
    dates its essay and its batch: `earliest` of any, `first` and `last` of those with detail.
    """

    fact: StepFact
    earliest: datetime
    first: datetime | None = None
    last: datetime | None = None


def merge_homeless(old: Homeless | None, new: StepFact) -> Homeless:
    """Return what is kept when one more result that names no batch comes in."""
    if old is None:
        span = new.time if new.detail else None
        return Homeless(new, new.time, span, span)
    first, last = old.first, old.last
    if new.detail:
        first = min(first or new.time, new.time)
        last = max(last or new.time, new.time)
    return Homeless(merge_steps(old.fact, new), min(old.earliest, new.time), first, last)


class EssayState(msgspec.Struct, frozen=True):
    """One essay of a batch; `steps` holds the merged result of each step that has one.

    A time that nothing tells is `BEGINNING`. `trouble` says why what is stored of the essay
    cannot be read, or not all of it: then nothing is known of steps without a result.
    """

    essay_id: str
    created_at: datetime
    steps: Mapping[str, StepFact]
    file_name: str = ""
    file_name_at: datetime = BEGINNING
    trouble: str = ""

    @property
    def last_updated(self) -> datetime:
        """The time of the newest result, or of the creation when there is none."""
        return max((fact.time for fact in self.steps.values()), default=self.created_at)


class BatchRecord(msgspec.Struct):
    """All that is known of a batch without looking at its essays: O(steps) in size.

    `counts` maps a step to [completed, failed]. `first_at` and `last_at` are the oldest and
    newest times that events themselves carried. `doubt` says why the counts may not be the
    whole truth; a backend that can vouch for them leaves it empty. `is_disputed` means that a
    count stored elsewhere keeps contradicting the essays. `unread` counts the essays that may
    have more results than could be read, `unread_results` by step those they have all the same.
    Where the essays were loaded as well, `unreadable` names them.
    """

    batch_id: str
    expected: int | None = None
    seen: int = 0
    owner: str = ""
    owner_at: datetime = BEGINNING
    first_at: datetime | None = None
    last_at: datetime | None = None
    provisioned: int = 0
    rejected: int = 0
    counts: dict[str, list[int]] = msgspec.field(default_factory=dict)
    milestones: dict[tuple[str, str, str, str], Milestone] = msgspec.field(default_factory=dict)
    doubt: str = ""
    is_disputed: bool = False
    unread: int = 0
    unread_results: dict[str, int] = msgspec.field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of essays that every count of this batch is measured against."""
        return max(self.expected or 0, self.seen)

    def copy(self) -> BatchRecord:
        """Return a record that shares nothing mutable with this one."""
        return msgspec.structs.replace(
            self,
            counts={step: list(pair) for step, pair in self.counts.items()},
            milestones=dict(self.milestones),
            unread_results=dict(self.unread_results),
        )

    def count_unread(self, results: Iterable[StepFact]) -> None:
        """Count an essay that cannot be read, or not wholly, with the results it has."""
        self.unread += 1
        for fact in results:
            if fact.outcome:
                self.unread_results[fact.step] = self.unread_results.get(fact.step, 0) + 1

    def saw(self, moment: datetime) -> bool:
        """Stretch the span of this batch's own times over a moment; tell whether it grew."""
        first, last = self.first_at, self.last_at
        if moment == BEGINNING:
            return False  # nothing told the time
        if first is None or last is None:
            self.first_at = self.last_at = moment
        elif moment > last:
            self.last_at = moment
        elif moment < first:
            self.first_at = moment
        else:
            return False
        return True


def aggregate_essay_id(batch_id: str) -> str:
    """Return the pseudo essay under which existing services note results of a whole batch."""
    return f"batch_{batch_id}_aggregate"


def is_aggregate(batch_id: str, essay_id: str) -> bool:
    """Tell whether an essay id is the pseudo essay of its batch, which is never counted."""
    return essay_id.startswith("batch_") and essay_id == aggregate_essay_id(batch_id)


def count_step(counts: dict[str, list[int]], step: str, before: int, after: int) -> None:
    """Move one essay of a step from one outcome to another in a record's counts."""
    if before == after and before:
        return
    pair = counts.get(step)
    if pair is None:
        pair = counts[step] = [0, 0]
    if before:
        pair[COMPLETED - before] -= 1
    if after:
        pair[COMPLETED - after] += 1


SUCCESSFUL: Final = "completed_successfully"
WITH_FAILURES: Final = "completed_with_failures"

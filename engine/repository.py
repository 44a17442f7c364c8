"""The port that keeps facts: what every backend does, and what is written once for all."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from engine.auditing import ESSAYS, Claim, Evidence, claims_of, sure_of
from engine.clock import Clock, SystemClock, to_microseconds
from engine.errors import NotFound
from engine.models import (
    LISTED,
    SUCCESSFUL,
    THIN,
    BatchRecord,
    EssaysFact,
    EssayState,
    Fact,
    Outcome,
    PhaseFact,
    StepFact,
    count_step,
)
from engine.pipelines import phases_of
from engine.summaries import summarize

HEARTBEAT_SECONDS: Final = 1.0
"""How often a watched repository says that it is there."""


class Change(msgspec.Struct, gc=False):
    """What one recorded fact changed.

    `fact` carries its batch id even if the event did not. `before` is the outcome that a
    step had; `new_essays` counts essays that nobody had heard of.
    """

    fact: Fact
    before: int = 0
    new_essays: int = 0


def dated(batch_id: str, moment: datetime) -> Change:
    """Return a change that only tells when something of a batch happened.

    Results that lost, and essays that were known, change nothing else.
    """
    return Change(EssaysFact(batch_id, (), moment))


class Recorded(NamedTuple):
    """The answer to a recorded chunk.

    `news[i]` tells whether fact i was new in anything that is shown; `changes` lists what
    changed, in order, including older results that found their batch only now. `faded` are
    batches of which something has expired since the chunk before.

    The rest is told by an `Archive`. `versions` has by changed batch the version it had and the
    one it has. `telling` are facts that bring whoever knows the former up to the latter.
    """

    news: Sequence[bool]
    changes: Sequence[Change]
    faded: Sequence[str] = ()
    versions: Mapping[str, tuple[int, int]] = {}
    telling: Sequence[Fact] = ()


class BatchColumns(NamedTuple):
    """Every essay of a batch as columns: `outcomes[step][i]` belongs to `essay_ids[i]`."""

    record: BatchRecord
    essay_ids: list[str]
    outcomes: dict[str, bytearray]


class DeadLetter(msgspec.Struct, frozen=True):
    """An envelope that could not be used, and why.

    `reason` is a code of `events.Rejected`, `payload` at most the first 64 KiB of the
    bytes, `sha256` the digest and `size` the length of all of them.
    """

    received_at: datetime
    source: str
    position: str
    reason: str
    message: str
    field: str
    payload: bytes
    sha256: str
    size: int


class BatchStateRepository(ABC):
    """Keeps facts and gives them back; the seed's methods are derived from the primitives.

    Every method may raise `RepositoryUnavailable` when the backend cannot be reached.
    """

    name: str
    """What the backend is called on screen."""

    chunks_at_once: int = 1
    """How many chunks it gains from recording at the same time."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()

    @abstractmethod
    async def record(self, facts: Sequence[Fact]) -> Recorded:
        """Merge a chunk of facts: all or nothing, idempotent, in any order.

        On return the facts are committed in the permanent record.
        """

    @abstractmethod
    async def load_batch(self, batch_id: str) -> BatchColumns:
        """Return a batch with the outcomes of all of its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """

    @abstractmethod
    async def summaries(
        self, batch_ids: Sequence[str] | None = None, *, after: str = "", limit: int = 1000
    ) -> list[BatchRecord]:
        """Return batches in the order of their ids, at a cost independent of their essays.

        Args:
            batch_ids: Only these; unknown ones are left out.
            after: Only ids larger than this one: the last of the page before.
            limit: At most so many.
        """

    @abstractmethod
    async def essays(
        self,
        batch_id: str,
        essay_ids: Sequence[str] | None = None,
        *,
        after: str = "",
        limit: int = 1000,
    ) -> list[EssayState]:
        """Return essays of a batch in the order of their ids; none for an unknown batch.

        Args:
            batch_id: The batch.
            essay_ids: Only these; unknown ones are left out.
            after: Only ids larger than this one: the last of the page before.
            limit: At most so many.
        """

    @abstractmethod
    async def uploads(self, batch_id: str) -> list[tuple[str, str]]:
        """Return the uploads that a batch has counted: `provisioned` or `rejected`, and the id."""

    @abstractmethod
    async def record_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; the same bytes at the same place are kept once."""

    @abstractmethod
    async def dead_letters(self, *, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival, leaving out the first `after`."""

    @abstractmethod
    async def count_dead_letters(self) -> int:
        """Return how many dead letters are kept, without reading them."""

    async def changes(self) -> AsyncGenerator[Collection[str] | None, None]:
        """Yield what others changed, as it happens.

        The ids of batches, or `None` where any may have changed; an empty collection, every
        `HEARTBEAT_SECONDS` or so, to say that there was nothing. Here: nobody else can.
        """
        while True:
            yield ()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    @property
    def is_provisional(self) -> bool:
        """Whether something that was recorded is not in the permanent record now."""
        return False

    async def settled(self) -> None:
        """Wait until everything recorded is in the permanent record."""
        return None

    @property
    def silences(self) -> Mapping[str, float]:
        """Where there are several parts: for how many seconds each has not answered."""
        return {}

    @property
    def notices(self) -> list[str]:
        """What an operator should know of the backend now, e.g. that a part of it is away."""
        return []

    @property
    def lacking(self) -> str:
        """Why listings may lack batches that are there; empty where they lack none."""
        return ""

    @property
    def hints(self) -> list[str]:
        """What is worth saying once: nothing is wrong, but it could be better."""
        return []

    @abstractmethod
    async def aclose(self) -> None:
        """Give back whatever was opened."""

    async def record_essay_step_completion(
        self,
        batch_id: str,
        essay_id: str,
        step_name: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Record a result of one step; a repetition changes nothing and is `True` as well.

        The result is a failure if the metadata says so (`failed_in_metadata`).
        """
        kept = dict(metadata or {})
        outcome = Outcome.FAILED if failed_in_metadata(kept) else Outcome.COMPLETED
        fact = StepFact(
            batch_id,
            essay_id,
            step_name,
            outcome,
            self.clock.now(),
            detail=THIN if kept else LISTED,
            metadata=json.dumps(kept),
        )
        await self.record([fact])
        return True

    async def get_essay_completed_steps(self, batch_id: str, essay_id: str) -> set[str]:
        """Return the steps an essay has completed; none for an unknown essay."""
        return {
            step
            for essay in await self.essays(batch_id, [essay_id])
            for step, fact in essay.steps.items()
            if fact.outcome == Outcome.COMPLETED
        }

    async def get_batch_completion_summary(self, batch_id: str) -> dict[str, dict[str, int]]:
        """Return completed and total essays by step; nothing for an unknown batch."""
        records = await self.summaries([batch_id])
        return {
            counts.step: {"completed": counts.completed, "total": counts.total}
            for record in records
            for counts in summarize(record, phases_of()).steps
        }

    async def is_batch_step_complete(self, batch_id: str, step_name: str) -> bool:
        """Tell whether every essay of a batch has completed a step.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        record = await self.batch_record(batch_id)
        completed, _ = record.counts.get(step_name, (0, 0))
        return 0 < record.total == completed

    async def record_batch_phase_completion(
        self, batch_id: str, phase_name: str, completed: bool
    ) -> bool:
        """Record the outcome of a phase; the last call wins."""
        now = self.clock.now()
        status = SUCCESSFUL if completed else "failed"
        run = f"recorded at {to_microseconds(now)}"
        await self.record([PhaseFact(batch_id, phase_name, status, run, now)])
        return True

    async def get_completed_phases(self, batch_id: str) -> set[str]:
        """Return the phases whose newest outcome is full success; none for an unknown batch."""
        return {
            counts.step
            for record in await self.summaries([batch_id])
            for counts in summarize(record, phases_of()).steps
            if counts.phase_status == SUCCESSFUL
        }

    async def evidence(self, batch_id: str) -> Evidence:
        """Return what each part of the backend says of a batch's counts, the essays first.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        before = await self.said(batch_id)
        counts: dict[str, list[int]] = {}
        unreadable: dict[str, str] = {}
        seen, after = 0, ""
        while page := await self.essays(batch_id, after=after):
            after = page[-1].essay_id
            seen += len(page)
            for essay in page:
                if essay.trouble:
                    unreadable[essay.essay_id] = essay.trouble
                for step, fact in essay.steps.items():
                    count_step(counts, step, 0, fact.outcome)
        record = await self.batch_record(batch_id)
        truth = claims_of(ESSAYS, counts, max(record.expected or 0, seen))
        claims = [*truth, *sure_of(before, await self.said(batch_id), truth)]
        return Evidence(claims, unreadable)

    async def said(self, batch_id: str) -> list[Claim]:
        """Return what is stored of a batch's counts, beside its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        record = await self.batch_record(batch_id)
        return claims_of("counters", record.counts, record.total)

    async def batch_record(self, batch_id: str) -> BatchRecord:
        """Return one batch without its essays.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        records = await self.summaries([batch_id])
        if not records:
            raise NotFound(f"no batch {batch_id!r} in {self.name}; `bcs-tui ls` lists them")
        return records[0]


class Archive(BatchStateRepository):
    """A repository that numbers its changes, so that a cache in front of it can be checked."""

    @abstractmethod
    async def changed_since(
        self, version: int, *, within_seconds: float, limit: int = 500
    ) -> list[tuple[str, int]]:
        """Return batches that changed after a version, with their newest, in its order.

        Args:
            version: Only later changes; 0 for all.
            within_seconds: Only batches that changed so lately, by the archive's clock.
            limit: About so many: those that changed together are returned together.
        """

    async def outcomes_of_others(self, batch_ids: Sequence[str]) -> list[PhaseFact]:
        """Return what only other services noted here about phases; no version tells of it."""
        return []


class Cache(BatchStateRepository):
    """A repository that may lose what it had, and is brought up to date from an archive."""

    @abstractmethod
    def distrust(self) -> None:
        """Ask the backend again for everything: it may have lost what is known to be there."""


def failed_in_metadata(metadata: Mapping[str, Any]) -> bool:
    """Tell whether step metadata, as existing services write it, says that the step failed."""
    return metadata.get("completion_status") == "failed" or metadata.get("success") is False


def rights_hints(server: str, could_write: bool | None) -> list[str]:
    """Return what an observer should know of its account; nothing where it can only read."""
    if could_write is None:
        return [f"whether the {server} account could write is unknown"]
    return [f"the {server} account could write"] if could_write else []

"""How a chunk is recorded: decoded, kept with as many tries as it takes, projected, counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec

from engine.account import Account
from engine.clock import Clock
from engine.decoding import Decoded, decode
from engine.errors import NotFound, RepositoryConflict, RepositoryError, RepositoryUnavailable
from engine.events import Event, Rejected
from engine.feeds.port import Envelope
from engine.models import BatchRecord, Fact
from engine.projection import Projection
from engine.repository import BatchColumns, BatchStateRepository, DeadLetter, Recorded

DEAD_LETTER_BYTES = 64 * 1024
"""How much of a bad envelope is kept."""

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 10.0
_PAGE = 1000


class Recorder:
    """Writes chunks to a repository and keeps the read model in step.

    Args:
        repository: Where facts are kept.
        projection: The read model.
        account: Where every event is counted.
        clock: Dates dead letters.
        source: What dead letters are said to come from.
        patience_seconds: How long an unavailable repository is tried again; `None`: for ever.
        told: Called when something changed that is shown.
        at_once: How many chunks may be recorded at the same time: more than one only into a
            read model to which the order of changes means nothing.
    """

    def __init__(
        self,
        repository: BatchStateRepository,
        projection: Projection,
        account: Account,
        clock: Clock,
        source: str,
        patience_seconds: float | None,
        told: Callable[[], object],
        at_once: int = 1,
    ) -> None:
        self._repository = repository
        self._projection = projection
        self._account = account
        self._clock = clock
        self._source = source
        self._patience_seconds = patience_seconds
        self._told = told
        self._turn = asyncio.Semaphore(at_once)
        self.trouble = ""

    async def take(self, chunk: Sequence[Envelope]) -> None:
        """Decode and record one chunk.

        Raises:
            RepositoryError: It could not be kept, and patience has run out.
        """
        async with self._turn:
            await self._keep(self.begin(chunk))

    def begin(self, chunk: Sequence[Envelope]) -> Decoded:
        """Decode a chunk, which is in flight from now on."""
        return self.begin_decoded(decode(chunk))

    def begin_decoded(self, decoded: Decoded) -> Decoded:
        """Take note of a chunk that was decoded elsewhere, and is in flight from now on."""
        self._account.begin(len(decoded.parsed))
        return decoded

    async def keep(self, decoded: Decoded) -> None:
        """Record one chunk in flight.

        Raises:
            RepositoryError: It could not be kept, and patience has run out.
        """
        async with self._turn:
            await self._keep(decoded)

    async def submit(self, raw: bytes) -> None:
        """Put one envelope through the same path as a feed's.

        Raises:
            RepositoryError: It could not be kept, and patience has run out.
        """
        try:
            await self.take([Envelope(raw, "submitted")])
        except RepositoryError:
            self._account.retract(1)
            raise

    async def _keep(self, decoded: Decoded) -> None:
        facts: list[Fact] = []
        rejected: list[Rejected] = []
        for event in decoded.parsed:
            if isinstance(event, Event):
                facts += event.facts
            elif isinstance(event, Rejected):
                rejected.append(event)
        letters = list(map(self._dead_letter, decoded.refused, rejected))
        recorded = await self._record(facts, letters)
        self._account.settle(decoded.parsed, recorded.news, recorded.changes)
        self._told()

    async def _record(self, facts: Sequence[Fact], letters: Sequence[DeadLetter]) -> Recorded:
        """Have the repository keep a chunk, trying again while it cannot."""
        delay = _FIRST_DELAY_SECONDS
        waited = 0.0
        while True:
            try:
                if letters:
                    await self._repository.record_dead_letters(letters)
                recorded = await self._repository.record(facts) if facts else Recorded((), ())
                await self._project(recorded, anew=waited > 0)
                break
            except (RepositoryUnavailable, RepositoryConflict) as error:
                if self._patience_seconds is not None and waited >= self._patience_seconds:
                    raise
                self.trouble = str(error)
                self._told()
                pause = delay * random.uniform(0.5, 1.0)  # jitter, so that retries spread
                await asyncio.sleep(pause)
                waited += pause
                delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
        self.trouble = ""
        return recorded

    async def _project(self, recorded: Recorded, anew: bool) -> None:
        """Take over what changed; all anew if an earlier try may have been kept unanswered."""
        projection = self._projection
        if anew:
            await self._load()
            await self._reopen()
            return
        projection.apply(recorded.changes)
        if recorded.faded:
            left = await self._repository.summaries(recorded.faded, limit=len(recorded.faded))
            projection.forget(recorded.faded)
            projection.load(_plain(left))
            if projection.grid and projection.grid.batch_id in recorded.faded:
                await self._reopen()

    def _dead_letter(self, envelope: Envelope, why: Rejected) -> DeadLetter:
        return DeadLetter(
            self._clock.now(),
            self._source,
            envelope.position,
            why.reason,
            why.message,
            why.field,
            envelope.raw[:DEAD_LETTER_BYTES],
            envelope.sha256 or sha256(envelope.raw).hexdigest(),
            envelope.oversize or len(envelope.raw),
        )

    # --- the read model --------------------------------------------------------------------

    async def load(self) -> None:
        """Take over every batch that the repository knows."""
        async with self._turn:
            await self._load()

    async def _load(self) -> None:
        after = ""
        while page := await self._repository.summaries(after=after, limit=_PAGE):
            self._projection.load(_plain(page))
            after = page[-1].batch_id
            await asyncio.sleep(0)

    async def open(self, batch_id: str) -> None:
        """Keep the essays of a batch in the read model from now on.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        async with self._turn:
            await self._open(batch_id)

    async def _open(self, batch_id: str) -> None:
        self._projection.open(await self._repository.load_batch(batch_id))
        self._told()

    async def reopen(self) -> None:
        """Look anew at the essays of the open batch; it stays open where it is unknown."""
        async with self._turn:
            await self._reopen()

    async def _reopen(self) -> None:
        grid = self._projection.grid
        if grid is None:
            return
        try:
            await self._open(grid.batch_id)
        except NotFound:
            self._projection.open(BatchColumns(BatchRecord(grid.batch_id), [], {}))


def _plain(records: Iterable[BatchRecord]) -> list[BatchRecord]:
    """Return records without their doubts: changes do not tell when those are settled."""
    return [
        msgspec.structs.replace(record, doubt="", is_disputed=False, unread=0) for record in records
    ]

"""Telling one repository what another knows of a batch.

All that is known of a batch follows from facts, and facts merge in any order. So a few facts
that amount to the same bring a second repository up to date, whatever it knows already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import msgspec

from engine.models import (
    BEGINNING,
    LISTED,
    PENDING,
    BatchFact,
    BatchRecord,
    EssaysFact,
    EssayState,
    Fact,
    PhaseFact,
    RegistrationFact,
    aggregate_essay_id,
)
from engine.repository import BatchStateRepository

PAGE = 1000
"""How many essays are told of in one go."""


async def retell(repository: BatchStateRepository, batch_id: str) -> AsyncIterator[list[Fact]]:
    """Yield facts that amount to all that a repository knows of a batch, page by page.

    Nothing for an unknown batch. Results that name no batch belong to none and are left out.
    """
    for record in await repository.summaries([batch_id]):
        yield list(_of_batch(record, await repository.uploads(batch_id)))
        pseudo = await repository.essays(batch_id, [aggregate_essay_id(batch_id)])
        page = await repository.essays(batch_id, limit=PAGE)
        while page or pseudo:
            yield [fact for essay in (*pseudo, *page) for fact in _of_essay(record, essay)]
            pseudo = []
            page = (
                await repository.essays(batch_id, after=page[-1].essay_id, limit=PAGE)
                if page
                else []
            )


def _of_batch(record: BatchRecord, uploads: list[tuple[str, str]]) -> Iterator[Fact]:
    batch_id = record.batch_id
    for moment in (record.first_at, record.last_at):
        if moment:
            yield EssaysFact(batch_id, (), moment)
    if record.expected is not None and record.last_at:
        named_at = record.owner_at if record.owner else record.last_at
        yield RegistrationFact(batch_id, record.expected, (), named_at, record.owner)
    for phase, status, value, run, time in record.milestones.values():
        if phase:
            yield PhaseFact(batch_id, phase, status, run, time, value)
        elif time:
            yield BatchFact(batch_id, status, value, run, time)
    for status, upload_id in uploads:
        yield BatchFact(batch_id, status, upload_id, "", record.last_at or BEGINNING)


def _of_essay(record: BatchRecord, essay: EssayState) -> Iterator[Fact]:
    batch_id, essay_id = record.batch_id, essay.essay_id
    results = essay.steps.values()
    yield from results
    if essay.created_at == BEGINNING and results:
        pass  # nothing tells when it was created
    elif all(fact.time != essay.created_at for fact in results):
        if not results or (
            record.first_at
            and record.last_at
            and (record.first_at <= essay.created_at <= record.last_at)
        ):
            yield EssaysFact(batch_id, (essay_id,), essay.created_at)
        else:
            # A listing that lost: it dates the essay and not its batch, and loses again.
            best = max(results, key=lambda fact: (fact.outcome, fact.detail))
            yield msgspec.structs.replace(
                best, outcome=PENDING, time=essay.created_at, detail=LISTED
            )
    if essay.file_name:
        yield EssaysFact(batch_id, (essay_id,), essay.file_name_at, essay.file_name)

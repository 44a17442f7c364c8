"""One chunk of facts inside one transaction: load what it touches, merge, write it back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.backends.postgres_known import Known
from engine.backends.postgres_rows import Rows
from engine.backends.postgres_session import Connection
from engine.backends.postgres_versions import number_changes
from engine.merge import Merge
from engine.models import Fact, StepFact
from engine.repository import Recorded


async def record_chunk(
    connection: Connection, known: Known, version: int, facts: Sequence[Fact]
) -> Recorded:
    """Merge a chunk of facts inside the open transaction, which makes a version."""
    rows = Rows(connection, known)
    await rows.load(facts)
    merge = Merge(rows)
    recorded = merge.apply(facts)
    await rows.write()
    versions = await number_changes(connection, version, rows.changed_batches)
    telling = _telling(facts, [*merge.dating, *rows.changed_steps.values()])
    return recorded._replace(versions=versions, telling=telling)


def _telling(facts: Iterable[Fact], moving: Iterable[StepFact]) -> list[Fact]:
    """Return what is left to tell of a chunk: of its results only those that moved something.

    Most results come several times, in several forms and lists. What one of them did not move
    was known before, or another one moved it further. Other facts are few: all are told.
    """
    told = [fact for fact in facts if type(fact) is not StepFact or not fact.batch_id]
    return [*told, *{id(fact): fact for fact in moving}.values()]

"""Changes in PostgreSQL are numbered batch by batch, so that a cache can be checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from servers import new_database, run_in

from engine.backends.postgres import PostgresBatchStateRepository
from engine.models import (
    COMPLETED,
    BatchFact,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
)

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AGES = 1e6


@pytest.fixture
async def archive() -> AsyncIterator[PostgresBatchStateRepository]:
    opened = await PostgresBatchStateRepository.open(await new_database())
    yield opened
    await opened.aclose()


def result(essay_id: str, batch_id: str = "b1", metadata: str = "{}") -> StepFact:
    return StepFact(batch_id, essay_id, "nlp", COMPLETED, START, detail=1, metadata=metadata)


async def test_a_batch_has_the_version_of_its_last_change(
    archive: PostgresBatchStateRepository,
) -> None:
    first = await archive.record([result("e1"), result("e1", "b2")])
    assert first.versions == {"b1": (0, 1), "b2": (0, 1)}
    second = await archive.record([result("e2")])
    assert second.versions == {"b1": (1, 2)}
    assert await archive.changed_since(0, within_seconds=AGES) == [("b2", 1), ("b1", 2)]
    assert await archive.changed_since(1, within_seconds=AGES) == [("b1", 2)]
    assert await archive.changed_since(0, within_seconds=AGES, limit=1) == [("b2", 1)]
    await archive.record([result("e1", f"b{number}") for number in (7, 5, 6)])
    together = [("b5", 3), ("b6", 3), ("b7", 3)]
    assert await archive.changed_since(2, within_seconds=AGES, limit=2) == together
    assert await archive.changed_since(3, within_seconds=AGES) == []


@pytest.mark.parametrize(
    "fact",
    [
        result("e1"),  # other metadata: neither a counter nor the batch itself
        EssaysFact("b1", ("e9",), START),
        EssaysFact("b1", ("e1",), START, "a.txt"),
        RegistrationFact("b1", 9, (), START),
        PhaseFact("b1", "nlp", "started", "r", START),
        BatchFact("b1", "ready", "", "", START),
        BatchFact("b1", "provisioned", "u1", "", START),
        StepFact("", "e1", "spellcheck", COMPLETED, START, detail=1),
    ],
)
async def test_whatever_changes_is_numbered(
    archive: PostgresBatchStateRepository, fact: Fact
) -> None:
    await archive.record([result("e1", metadata='{"n": 1}')])
    assert (await archive.record([fact])).versions == {"b1": (1, 2)}
    assert (await archive.record([fact])).versions == {}, "a repetition changes nothing"


async def test_two_writers_number_one_after_the_other() -> None:
    url = await new_database()
    one, other = [await PostgresBatchStateRepository.open(url) for _ in range(2)]
    assert (await one.record([result("e1")])).versions == {"b1": (0, 1)}
    assert (await other.record([result("e2")])).versions == {"b1": (1, 2)}
    assert (await one.record([result("e3")])).versions == {"b1": (2, 3)}
    await one.aclose()
    await other.aclose()


async def test_what_changed_long_ago_need_not_be_looked_at() -> None:
    url = await new_database()
    archive = await PostgresBatchStateRepository.open(url)
    await archive.record([result("e1"), result("e1", "b2")])
    await run_in(
        url, "UPDATE bcs.versions SET changed_at = now() - interval '9 days' WHERE batch_id = 'b1'"
    )
    assert await archive.changed_since(0, within_seconds=604800) == [("b2", 1)]
    await archive.aclose()

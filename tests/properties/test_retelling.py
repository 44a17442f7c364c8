"""What is retold of a batch is all there is to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from conftest import BACKENDS, OpenRepository
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.test_repository_model import START, facts, model, state_of

import engine.retelling
from engine.backends.mock import MockBatchStateRepository
from engine.models import COMPLETED, FAILED, Fact, StepFact
from engine.retelling import retell


async def retold(
    known: Sequence[Fact], other: Sequence[Fact], source: OpenRepository, directory: Path
) -> tuple[Any, Any]:
    """Return the state of a repository that knew `other` and was retold the rest."""
    target = MockBatchStateRepository()
    await target.record(other)
    async with aclosing(await source(directory, None)) as repository:
        await repository.record(known)
        for batch_id in model(known):
            async for page in retell(repository, batch_id):
                await target.record(page)
    return await state_of(target), model([*at_home(known), *other])


def at_home(known: Sequence[Fact]) -> Iterator[Fact]:
    """Return facts, with results that name no batch in those batches that know their essay."""
    homes = model(known)
    for fact in known:
        if isinstance(fact, StepFact) and not fact.batch_id:
            for batch_id, (_, essays) in homes.items():
                if fact.essay_id in essays:
                    yield msgspec.structs.replace(fact, batch_id=batch_id)
        else:
            yield fact


@settings(max_examples=60)
@given(st.lists(facts, max_size=10), st.lists(facts, max_size=4))
def test_a_second_repository_comes_to_know_the_same(
    open_repository: OpenRepository, known: list[Fact], other: list[Fact]
) -> None:
    # A result that names no batch is not told with any: it is found by its own essay id.
    other = [fact for fact in other if not (isinstance(fact, StepFact) and not fact.batch_id)]
    with TemporaryDirectory() as directory:
        state, expected = asyncio.run(retold(known, other, open_repository, Path(directory)))
    assert state == expected


@settings(max_examples=30)
@given(st.lists(st.lists(facts, max_size=8), max_size=4))
def test_what_an_archive_tells_of_its_chunks_amounts_to_all_of_them(
    chunks: list[list[Fact]],
) -> None:
    async def follow(directory: Path) -> None:
        follower = MockBatchStateRepository()
        async with aclosing(await BACKENDS["postgres"](directory, None)) as archive:
            for chunk in chunks:
                await follower.record((await archive.record(chunk)).telling)
                assert await state_of(follower) == await state_of(archive)

    with TemporaryDirectory() as directory:
        asyncio.run(follow(Path(directory)))


async def test_results_that_move_nothing_are_not_told_again(tmp_path: Path) -> None:
    worse = StepFact("b1", "e1", "nlp", FAILED, START, "x", 1)
    better = msgspec.structs.replace(worse, outcome=COMPLETED)
    async with aclosing(await BACKENDS["postgres"](tmp_path, None)) as archive:
        assert (await archive.record([better, worse])).telling == [better]
        assert (await archive.record([worse, better])).telling == []


async def test_essays_are_told_page_by_page(monkeypatch: Any) -> None:
    monkeypatch.setattr(engine.retelling, "PAGE", 2)
    repository = MockBatchStateRepository()
    results = [facts_of(number) for number in range(5)]
    await repository.record(results)
    pages = [page async for page in retell(repository, "b")]
    assert [sum(isinstance(fact, StepFact) for fact in page) for page in pages] == [0, 2, 2, 1]
    assert [page async for page in retell(repository, "unknown")] == []


def facts_of(number: int) -> StepFact:
    from properties.test_repository_model import START

    return StepFact("b", f"e{number}", "nlp", 2, START, detail=1)

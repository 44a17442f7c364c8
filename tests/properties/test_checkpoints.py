"""A checkpoint of the repository in memory is never reached by what is written later."""

from __future__ import annotations

import asyncio
from typing import Any

from envelopes import at
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.mock import MockBatchStateRepository
from engine.models import (
    BatchFact,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
    aggregate_essay_id,
)

batch_ids = st.sampled_from(["b1", "b2"])
essay_ids = st.sampled_from(["e1", "e2", aggregate_essay_id("b1")])
moments = st.integers(0, 5).map(at)
facts: st.SearchStrategy[Fact] = st.one_of(
    st.builds(
        StepFact,
        st.sampled_from(["b1", "b2", ""]),
        essay_ids,
        st.sampled_from(["nlp", "spellcheck"]),
        st.integers(0, 2),
        moments,
        st.just(""),
        st.integers(0, 2),
    ),
    st.builds(
        EssaysFact,
        batch_ids,
        st.lists(essay_ids, max_size=2).map(tuple),
        moments,
        st.sampled_from(["", "a", "b"]),
    ),
    st.builds(RegistrationFact, batch_ids, st.integers(0, 3), st.just(()), moments, st.just("o")),
    st.builds(PhaseFact, batch_ids, st.just("nlp"), st.just("started"), st.just("r"), moments),
    st.builds(
        BatchFact,
        batch_ids,
        st.sampled_from(["provisioned", "ready"]),
        st.sampled_from(["u1", "u2"]),
        st.just("r"),
        moments,
    ),
)


async def everything(repository: MockBatchStateRepository) -> Any:
    records = await repository.summaries()
    pseudo = [aggregate_essay_id("b1")]
    return [
        (
            record,
            await repository.essays(record.batch_id),
            await repository.essays(record.batch_id, pseudo),
            await repository.load_batch(record.batch_id),
        )
        for record in records
    ]


@settings(max_examples=150)
@given(st.lists(st.lists(facts, max_size=3), min_size=1, max_size=6), st.data())
def test_later_writes_never_reach_a_checkpoint(chunks: list[list[Fact]], data: Any) -> None:
    async def go_back_and_forth() -> None:
        repository = MockBatchStateRepository()
        stops = [(repository.checkpoint(), await everything(repository))]
        for chunk in chunks:
            await repository.record(chunk)
            stops.append((repository.checkpoint(), await everything(repository)))
        for _ in range(4):
            checkpoint, state = data.draw(st.sampled_from(stops))
            repository.restore(checkpoint)
            assert await everything(repository) == state
            # The rest must also behave as before: what was homeless, what was counted.
            again = data.draw(st.lists(facts, max_size=3))
            fresh = MockBatchStateRepository()
            for chunk in chunks[: stops.index((checkpoint, state))]:
                await fresh.record(chunk)
            assert await repository.record(again) == await fresh.record(again)
            assert await everything(repository) == await everything(fresh)

    asyncio.run(go_back_and_forth())


async def test_batches_that_did_not_change_are_shared() -> None:
    repository = MockBatchStateRepository()
    await repository.record([EssaysFact(name, ("e1",), at(0)) for name in ("b1", "b2")])
    one = repository.checkpoint()
    await repository.record([EssaysFact("b1", ("e2",), at(0))])
    two = repository.checkpoint()
    assert two.batches["b2"] is one.batches["b2"]
    assert two.batches["b1"] is not one.batches["b1"]

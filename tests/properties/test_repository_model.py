"""Every backend against one model, which looks at the set of all facts and at no order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import msgspec
import pytest
from conftest import BACKENDS, OpenRepository
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from engine.backends.mock import MockBatchStateRepository
from engine.models import (
    BEGINNING,
    CONTENT,
    BatchFact,
    BatchRecord,
    EssaysFact,
    EssayState,
    Fact,
    Milestone,
    PhaseFact,
    RegistrationFact,
    StepFact,
    absorb_milestone,
    absorb_registration,
    absorb_upload,
    aggregate_essay_id,
    count_step,
)
from engine.repository import BatchStateRepository, Change, Recorded

State: TypeAlias = dict[str, tuple[BatchRecord, dict[str, EssayState]]]

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

# Small pools, so that facts meet.
times = st.integers(0, 6).map(lambda seconds: START + timedelta(seconds=seconds))
batch_ids = st.sampled_from(["b1", "b2"])
essay_ids = st.sampled_from(["e1", "e2", "e3", aggregate_essay_id("b1")])
phases = st.sampled_from(["spellcheck", "nlp"])
runs = st.sampled_from(["r1", "r2"])
step_facts = st.builds(
    StepFact,
    batch_id=st.sampled_from(["b1", "b1", "b2", ""]),
    essay_id=essay_ids,
    step=phases,
    outcome=st.integers(0, 2),
    time=times,
    event_id=st.sampled_from(["", "x", "y"]),
    detail=st.integers(0, 2),
    metadata=st.sampled_from(["{}", '{"n": 1}']),
)
facts_about_batches = st.one_of(
    st.builds(
        EssaysFact,
        batch_ids,
        st.lists(essay_ids, max_size=3).map(tuple),
        times,
        st.sampled_from(["", "a.txt", "b.txt"]),
    ),
    st.builds(
        RegistrationFact,
        batch_ids,
        st.integers(0, 4),
        st.lists(essay_ids, max_size=3).map(tuple),
        times,
        st.sampled_from(["", "owner1", "owner2"]),
    ),
    st.builds(
        PhaseFact,
        batch_ids,
        phases,
        st.sampled_from(["started", "completed_successfully"]),
        runs,
        st.none() | times,
    ),
    st.builds(
        BatchFact,
        batch_ids,
        st.sampled_from(["ready", *sorted(CONTENT)]),
        st.sampled_from(["v1", "v2"]),
        runs,
        times,
    ),
)
facts = step_facts | step_facts | facts_about_batches


def model(known: Sequence[Fact]) -> State:
    """What follows from facts, said without the functions under test."""
    return {
        batch_id: model_batch(batch_id, known)
        for batch_id in {fact.batch_id for fact in known if fact.batch_id}
    }


def model_batch(batch_id: str, known: Sequence[Fact]) -> tuple[BatchRecord, dict[str, EssayState]]:
    own = [fact for fact in known if fact.batch_id == batch_id]
    tied = {name for fact in own for name in names_of(fact)}
    results = [
        msgspec.structs.replace(fact, batch_id=batch_id)
        for fact in known
        if isinstance(fact, StepFact) and fact.batch_id in ("", batch_id) and fact.essay_id in tied
    ]
    lists = [fact for fact in own if isinstance(fact, EssaysFact | RegistrationFact)]
    essays = {name: model_essay(name, results, lists) for name in tied}
    record = BatchRecord(batch_id)
    for fact in own:
        if isinstance(fact, RegistrationFact):
            record.expected = max(record.expected or 0, fact.expected)
    owners = [(fact.time, fact.owner) for fact in lists if getattr(fact, "owner", "")]
    record.owner_at, record.owner = max(owners, default=(BEGINNING, ""))
    own_times = [fact.time for fact in results if fact.detail] + [fact.time for fact in lists]
    record.first_at = min(own_times, default=None)
    record.last_at = max(own_times, default=None)
    for name, essay in essays.items():
        if name != f"batch_{batch_id}_aggregate":
            record.seen += 1
            for step, fact in essay.steps.items():
                pair = record.counts.setdefault(step, [0, 0])
                if fact.outcome:
                    pair[2 - fact.outcome] += 1
    uploads = {
        (fact.status, fact.value)
        for fact in own
        if isinstance(fact, BatchFact) and fact.status in CONTENT
    }
    record.provisioned = sum(status == "provisioned" for status, _ in uploads)
    record.rejected = len(uploads) - record.provisioned
    record.milestones = model_milestones(own)
    return record, essays


def names_of(fact: Fact) -> Iterable[str]:
    if isinstance(fact, StepFact):
        return [fact.essay_id]
    return fact.essay_ids if isinstance(fact, EssaysFact | RegistrationFact) else []


def model_essay(
    name: str, results: Sequence[StepFact], lists: Sequence[EssaysFact | RegistrationFact]
) -> EssayState:
    mine = [fact for fact in results if fact.essay_id == name]
    naming = [fact for fact in lists if name in fact.essay_ids]
    files = [(fact.time, fact.file_name) for fact in naming if getattr(fact, "file_name", "")]
    file_name_at, file_name = max(files, default=(BEGINNING, ""))
    return EssayState(
        name,
        min([fact.time for fact in mine] + [fact.time for fact in naming]),
        {
            step: max((fact for fact in mine if fact.step == step), key=rank)
            for step in {fact.step for fact in mine}
        },
        file_name,
        file_name_at,
    )


def rank(fact: StepFact) -> tuple[Any, ...]:
    age = fact.time.timestamp() if fact.detail else -fact.time.timestamp()
    return (fact.outcome, fact.detail > 0, age, fact.detail, fact.event_id, fact.metadata)


def model_milestones(own: Sequence[Fact]) -> dict[tuple[str, str, str, str], Milestone]:
    seen: dict[tuple[str, str, str, str], list[datetime | None]] = {}
    for fact in own:
        if isinstance(fact, PhaseFact):
            seen.setdefault((fact.phase, fact.status, fact.value, fact.run), []).append(fact.time)
        elif isinstance(fact, BatchFact) and fact.status not in CONTENT:
            seen.setdefault(("", fact.status, fact.value, fact.run), []).append(fact.time)
    return {
        identity: Milestone(*identity, None if None in moments else min(filter(None, moments)))
        for identity, moments in seen.items()
    }


async def proved(repository: BatchStateRepository) -> list[BatchRecord]:
    """Return all batches; one that was written a moment ago may not be proved yet."""
    records = await repository.summaries()
    async with asyncio.timeout(20):
        while any(record.doubt for record in records):
            await asyncio.sleep(0.05)
            records = await repository.summaries()
    return records


async def state_of(repository: BatchStateRepository) -> State:
    state: State = {}
    for record in await proved(repository):
        batch_id = record.batch_id
        counted = await repository.essays(batch_id)
        pseudo = await repository.essays(batch_id, [aggregate_essay_id(batch_id)])
        state[batch_id] = record, {essay.essay_id: essay for essay in (*counted, *pseudo)}
        columns = await repository.load_batch(batch_id)
        assert columns.record == record
        assert sorted(columns.essay_ids) == [essay.essay_id for essay in counted]
        for step, outcomes in columns.outcomes.items():
            column = dict(zip(columns.essay_ids, outcomes, strict=True))
            assert column == {
                essay.essay_id: essay.steps[step].outcome if step in essay.steps else 0
                for essay in counted
            }
    return state


class Fold:
    """What a read model makes of the changes that a repository reports: the same records."""

    def __init__(self) -> None:
        self.records: dict[str, BatchRecord] = {}

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            fact = change.fact
            record = self.records.setdefault(fact.batch_id, BatchRecord(fact.batch_id))
            record.seen += change.new_essays
            if isinstance(fact, StepFact):
                count_step(record.counts, fact.step, change.before, fact.outcome)
                if fact.detail:
                    record.saw(fact.time)
            elif isinstance(fact, EssaysFact | RegistrationFact):
                record.saw(fact.time)
                if isinstance(fact, RegistrationFact):
                    absorb_registration(record, fact)
            elif isinstance(fact, BatchFact) and fact.status in CONTENT:
                absorb_upload(record, fact)
            else:
                absorb_milestone(record, fact)

    def check(self, state: State) -> None:
        for batch_id, (record, _) in state.items():
            folded = self.records.get(batch_id, BatchRecord(batch_id))
            # The time of an owner's name that was known already is nobody's business.
            folded.owner_at = record.owner_at
            assert folded == record


@settings(max_examples=60)
@given(st.lists(facts, max_size=14), st.randoms(use_true_random=False))
def test_order_duplication_and_chunking_do_not_matter(
    open_repository: OpenRepository, known: list[Fact], chances: Any
) -> None:
    delivered = known + [fact for fact in known if chances.random() < 0.5]
    chances.shuffle(delivered)

    async def deliver(directory: Path) -> None:
        fold = Fold()
        rest = delivered
        async with aclosing(await open_repository(directory, None)) as repository:
            while rest:
                size = chances.randint(1, len(rest))
                fold.apply((await repository.record(rest[:size])).changes)
                rest = rest[size:]
            state = await state_of(repository)
        assert state == model(known)
        fold.check(state)

    with TemporaryDirectory() as directory:
        asyncio.run(deliver(Path(directory)))


@settings(max_examples=60)
@given(st.lists(facts, max_size=6), st.lists(facts, max_size=6), st.lists(facts, max_size=6))
def test_a_checkpoint_brings_its_state_back(
    before: list[Fact], after: list[Fact], instead: list[Fact]
) -> None:
    async def go_back_and_forth() -> None:
        repository = MockBatchStateRepository()
        await repository.record(before)
        then = repository.checkpoint()
        for facts in (after, instead):
            await repository.record(facts)
            assert await state_of(repository) == model(before + facts)
            repository.restore(then)
            assert await state_of(repository) == model(before)

    asyncio.run(go_back_and_forth())


class Backends(RuleBasedStateMachine):
    """All backends are told the same; they must answer the same, and as the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.told: list[Fact] = []
        self.folds = {name: Fold() for name in BACKENDS}
        self.open = {name: self.opened(name) for name in BACKENDS}

    def opened(self, name: str) -> BatchStateRepository:
        return self.runner.run(self.opening(name))

    async def opening(self, name: str) -> BatchStateRepository:
        return await BACKENDS[name](Path(self.directory.name), None)

    def tell(self, chunk: list[Fact]) -> None:
        self.told += chunk
        answers: list[Recorded] = []
        for name, repository in self.open.items():
            answer = self.runner.run(repository.record(chunk))
            self.folds[name].apply(answer.changes)
            answers.append(answer)
        first = answers[0]
        for other in answers[1:]:
            assert list(other.news) == list(first.news)
            # Results that find their batch by the same fact come in any order.
            assert sorted(map(repr, other.changes)) == sorted(map(repr, first.changes))

    @rule(chunk=st.lists(facts, max_size=6))
    def record(self, chunk: list[Fact]) -> None:
        self.tell(chunk)

    @rule(chances=st.randoms(use_true_random=False))
    def redeliver(self, chances: Any) -> None:
        before = self.runner.run(state_of(self.open["mock"]))
        self.tell(chances.sample(self.told, min(4, len(self.told))))
        assert self.runner.run(state_of(self.open["mock"])) == before

    @rule()
    def restart(self) -> None:
        for name in self.open.keys() - {"mock"}:
            self.runner.run(self.open[name].aclose())
            self.open[name] = self.opened(name)

    @invariant()
    def all_agree_with_the_model(self) -> None:
        expected = model(self.told)
        for name, repository in self.open.items():
            state = self.runner.run(state_of(repository))
            assert state == expected, name
            self.folds[name].check(state)

    def teardown(self) -> None:
        for repository in self.open.values():
            self.runner.run(repository.aclose())
        self.runner.close()
        self.directory.cleanup()


@pytest.mark.slow
def test_every_backend_does_what_the_model_does() -> None:
    run_state_machine_as_test(Backends, settings=settings(max_examples=40, stateful_step_count=15))

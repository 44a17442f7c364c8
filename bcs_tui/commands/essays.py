"""`essays`: the essays of one batch and where each of them stands."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from bcs_tui.commands.options import add_json, add_verb, load_summary, settings_of
from bcs_tui.commands.plain import as_json, print_list, print_table
from engine import (
    BatchStateRepository,
    BatchSummary,
    EssayProcessingState,
    NotFound,
    ProcessingStepStatus,
    open_repository,
    rfc3339,
)

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui essays BATCH
        bcs-tui essays BATCH --state failed --step nlp
        bcs-tui essays BATCH --jsonl | jq -r '.essay_id'
    """
    parser = add_verb(verbs, "essays", run, "lists the essays of a batch", examples)
    parser.add_argument("batch", metavar="BATCH", help="the id of a batch")
    parser.add_argument(
        "--state", choices=[*ProcessingStepStatus], help="only essays with a step in this state"
    )
    parser.add_argument("--step", metavar="STEP", help="look at this step only")
    add_json(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Print the essays of a batch."""
    settings = settings_of(arguments)
    async with open_repository(settings, read_only=True) as repository:
        batch = await load_summary(repository, settings, arguments.batch)
        steps = _steps(batch, arguments.step)
        essays = _selected(repository, batch, steps, arguments.state)
        if arguments.jsonl:
            async for essay in essays:
                print(as_json(essay))
        elif arguments.json:
            print_list("essays", [essay async for essay in essays])
        else:
            rows = [_row(essay, steps) async for essay in essays]
            headings = ("ESSAY", *(step.upper() for step in steps), "LAST UPDATED", "TROUBLE")
            width = len(headings) if any(row[-1] for row in rows) else len(headings) - 1
            print_table(headings[:width], [row[:width] for row in rows])
    return 0


def _steps(batch: BatchSummary, wanted: str | None) -> list[str]:
    """Return the steps to look at.

    Raises:
        NotFound: The batch does not have the wanted step.
    """
    known = [counts.step for counts in batch.steps]
    if wanted is None:
        return known
    if wanted not in known:
        there = ", ".join(known) or "none yet"
        raise NotFound(f"no step {wanted!r} in batch {batch.batch_id!r}; there are: {there}")
    return [wanted]


async def _selected(
    repository: BatchStateRepository, batch: BatchSummary, steps: list[str], state: str | None
) -> AsyncIterator[EssayProcessingState]:
    after = ""
    while page := await repository.essays(batch.batch_id, after=after):
        after = page[-1].essay_id
        for essay in page:
            document = EssayProcessingState.from_state(batch, essay)
            if state is None or any(document.step_status.get(step) == state for step in steps):
                yield document


def _row(essay: EssayProcessingState, steps: list[str]) -> tuple[str, ...]:
    states = (essay.step_status.get(step, ProcessingStepStatus.UNKNOWN) for step in steps)
    updated = rfc3339(essay.last_updated) if essay.last_updated else "-"
    return (essay.essay_id, *states, updated, essay.trouble or "")

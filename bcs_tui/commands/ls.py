"""`ls`: every batch, one line each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from bcs_tui.commands.options import add_json, add_verb, settings_of, why_mock
from bcs_tui.commands.plain import as_json, note, print_list, print_table
from engine import (
    BatchCompletionSummary,
    BatchStateRepository,
    BatchSummary,
    open_repository,
    phases_of,
    rfc3339,
    summarize,
)

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs

_HEADINGS: Final = ("BATCH", "STATUS", "PIPELINE", ">ESSAYS", ">FAILED", "LAST EVENT", "COMPLETED")


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui ls --sqlite-path batches.db
        bcs-tui ls --json | jq '.batches[] | select(.status == "processing") | .batch_id'
    """
    parser = add_verb(verbs, "ls", run, "lists the batches that are known", examples)
    add_json(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Print every batch."""
    settings = settings_of(arguments)
    async with open_repository(settings, read_only=True) as repository:
        batches = await _all(repository)
        lacking = repository.lacking
        now = repository.clock.now()
    if arguments.json:
        print_list("batches", (BatchCompletionSummary.from_summary(one, now) for one in batches))
    elif arguments.jsonl:
        for one in batches:
            print(as_json(BatchCompletionSummary.from_summary(one, now)))
    elif batches:
        print_table(_HEADINGS, map(_row, batches))
    if lacking:
        note(f"warning: {lacking}")
    if not batches:
        note(why_mock(settings) if settings.backend == "mock" else "no batches yet")
    return 0


async def _all(repository: BatchStateRepository) -> list[BatchSummary]:
    batches: list[BatchSummary] = []
    while page := await repository.summaries(after=batches[-1].batch_id if batches else ""):
        batches += [summarize(record, phases_of()) for record in page]
    return batches


def _row(batch: BatchSummary) -> tuple[str, ...]:
    known = batch.expected is not None
    return (
        batch.batch_id,
        batch.status,
        batch.pipeline or "-",
        str(batch.total) if known else f"{batch.total}+",
        str(batch.failed),
        rfc3339(batch.last_event_at.replace(microsecond=0)) if batch.last_event_at else "-",
        ", ".join(f"{step.step} {step.completed}/{step.total}" for step in batch.steps) or "-",
    )

"""`show`: one batch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from bcs_tui.commands.options import add_json, add_verb, load_summary, settings_of
from bcs_tui.commands.plain import as_json, print_facts, print_table
from engine import BatchCompletionSummary, BatchSummary, StepCounts, open_repository, rfc3339

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs

_HEADINGS: Final = (
    "STEP", ">COMPLETED", ">FAILED", ">SKIPPED", ">PENDING", ">TOTAL", ">%", "PHASE"
)  # fmt: skip


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui show 9a89b6b0-a247-4158-a83b-ba51bea27dc0
        bcs-tui show BATCH --json | jq .step_summaries.spellcheck.failed_count
    """
    parser = add_verb(verbs, "show", run, "shows one batch, step by step", examples)
    parser.add_argument("batch", metavar="BATCH", help="the id of a batch")
    add_json(parser, lines=False)


async def run(arguments: argparse.Namespace) -> int:
    """Print one batch."""
    settings = settings_of(arguments)
    async with open_repository(settings, read_only=True) as repository:
        batch = await load_summary(repository, settings, arguments.batch)
        now = repository.clock.now()
    if arguments.json:
        print(as_json(BatchCompletionSummary.from_summary(batch, now)))
    else:
        _print(batch)
    return 0


def _print(batch: BatchSummary) -> None:
    expected = "not registered" if batch.expected is None else f"{batch.expected} expected"
    print_facts(
        {
            "batch": batch.batch_id,
            "status": f"{batch.status} ({batch.reason})" if batch.reason else batch.status,
            "pipeline": batch.pipeline or "-",
            "essays": f"{batch.total} ({expected}, {batch.seen} seen)",
            "owner": batch.owner or "-",
            "started": rfc3339(batch.started_at) if batch.started_at else "-",
            "last event": rfc3339(batch.last_event_at) if batch.last_event_at else "-",
        }
    )
    if batch.steps:
        print()
        print_table(_HEADINGS, map(_row, batch.steps))


def _row(step: StepCounts) -> tuple[str, ...]:
    return (
        step.step,
        str(step.completed),
        str(step.failed),
        str(step.skipped),
        str(step.pending),
        str(step.total),
        f"{step.percentage:.1f}",
        "running" if step.running else step.phase_status or "-",
    )

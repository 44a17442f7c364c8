"""`plan`: what a pipeline would run on a batch, and what it would leave out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bcs_tui.commands.options import add_json, add_verb, load_summary, settings_of
from bcs_tui.commands.plain import as_json, print_table
from engine import open_repository, phases_of, remaining

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui plan BATCH comprehensive
        bcs-tui plan BATCH nlp --json | jq '.phases[] | select(.runs) | .phase'
    """
    parser = add_verb(
        verbs, "plan", run, "shows which phases of a pipeline a batch still needs", examples
    )
    parser.add_argument("batch", metavar="BATCH", help="the id of a batch")
    parser.add_argument("pipeline", metavar="PIPELINE", help=", ".join(phases_of()))
    add_json(parser, lines=False)


async def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    settings = settings_of(arguments)
    async with open_repository(settings, read_only=True) as repository:
        batch = await load_summary(repository, settings, arguments.batch)
    planned = remaining(arguments.pipeline, batch)
    if arguments.json:
        phases = [line._asdict() for line in planned]
        print(
            as_json({"batch_id": batch.batch_id, "pipeline": arguments.pipeline, "phases": phases})
        )
    else:
        rows = [(line.phase, "runs" if line.runs else "left out", line.reason) for line in planned]
        print_table(("PHASE", "PLAN", "REASON"), rows)
    return 0

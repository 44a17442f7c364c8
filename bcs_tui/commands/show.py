"""`show`: one batch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from bcs_tui.commands.options import UNTRUSTWORTHY, add_json, add_verb, load_summary, settings_of
from bcs_tui.commands.plain import as_json, print_facts, print_table
from bcs_tui.format import clean
from engine import (
    Audit,
    BatchCompletionSummary,
    BatchSummary,
    Claim,
    StepCounts,
    audit_lasting,
    open_repository,
    rfc3339,
)

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs

_HEADINGS: Final = (
    "STEP", ">COMPLETED", ">FAILED", ">UNKNOWN", ">SKIPPED", ">PENDING", ">TOTAL", ">%", "PHASE"
)  # fmt: skip
_UNKNOWN: Final = _HEADINGS.index(">UNKNOWN")

_AUDIT_HEADINGS: Final = ("STEP", "SOURCE", ">COMPLETED", ">FAILED", ">TOTAL", "")


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui show 9a89b6b0-a247-4158-a83b-ba51bea27dc0
        bcs-tui show BATCH --json | jq .step_summaries.spellcheck.failed_count
        bcs-tui show BATCH --audit --strict
    """
    parser = add_verb(verbs, "show", run, "shows one batch, step by step", examples)
    parser.add_argument("batch", metavar="BATCH", help="the id of a batch")
    parser.add_argument("--audit", action="store_true", help="list who says which counts")
    parser.add_argument(
        "--strict", action="store_true", help="exit 7 if --audit finds what is wrong"
    )
    add_json(parser, lines=False)


async def run(arguments: argparse.Namespace) -> int:
    """Print one batch."""
    settings = settings_of(arguments)
    async with open_repository(settings, read_only=True) as repository:
        batch = await load_summary(repository, settings, arguments.batch)
        if arguments.audit:
            found = await audit_lasting(arguments.batch, repository.evidence)
            return _show_audit(found, batch.doubt, arguments)
        now = repository.clock.now()
    if arguments.json:
        print(as_json(BatchCompletionSummary.from_summary(batch, now)))
    else:
        _print(batch)
    return 0


def _print(batch: BatchSummary) -> None:
    doubt = {"doubt": batch.doubt} if batch.doubt else {}
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
            **doubt,
        }
    )
    if batch.steps:
        print()
        table = [_HEADINGS, *map(_row, batch.steps)]
        if not any(step.unknown for step in batch.steps):
            table = [(*row[:_UNKNOWN], *row[_UNKNOWN + 1 :]) for row in table]
        print_table(table[0], table[1:])


def _show_audit(found: Audit, doubt: str, arguments: argparse.Namespace) -> int:
    """Print who says what, and what nobody can say; return the exit code."""
    wrong = found.disagreements
    if arguments.json:
        print(
            as_json(
                {
                    "batch_id": found.batch_id,
                    "agrees": not wrong,
                    "claims": [claim._asdict() for claim in found.claims],
                    "disagreements": [one._asdict() for one in wrong],
                    "doubt": doubt or None,
                    "unreadable": found.unreadable,
                }
            )
        )
    else:
        print_table(_AUDIT_HEADINGS, (_claim_row(found, claim) for claim in found.claims))
        for one in wrong:
            print(f"{one.step}: {one.source} says {one.says} {one.member}, the essays {one.essays}")
        for essay_id, why in found.unreadable.items():
            print(clean(f"essay {essay_id} cannot be read: {why}"))
        if doubt:
            print(clean(f"doubt: {doubt}"))
    return UNTRUSTWORTHY if (wrong or found.unreadable) and arguments.strict else 0


def _claim_row(found: Audit, claim: Claim) -> tuple[str, ...]:
    numbers = (claim.completed, claim.failed, claim.total)
    differs = any(
        (one.step, one.source) == (claim.step, claim.source) for one in found.disagreements
    )
    shown = ("-" if number is None else str(number) for number in numbers)
    return (claim.step, claim.source, *shown, "differs" if differs else "")


def _row(step: StepCounts) -> tuple[str, ...]:
    skipped, pending = step.missing
    return (
        step.step,
        str(step.completed),
        str(step.failed),
        str(step.unknown),
        str(skipped),
        str(pending),
        str(step.total),
        f"{step.percentage:.1f}",
        "running" if step.running else step.phase_status or "-",
    )

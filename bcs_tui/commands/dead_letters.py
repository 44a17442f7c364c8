"""`dead-letters`: what could not be used, and why."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from bcs_tui.commands.options import add_json, add_verb, settings_of, why_mock
from bcs_tui.commands.plain import as_json, note, print_list, print_table
from engine import BatchStateRepository, DeadLetter, open_repository, rfc3339

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs

_HEADINGS: Final = ("RECEIVED", "SOURCE", "POSITION", "REASON", "FIELD", "MESSAGE")


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui dead-letters --sqlite-path batches.db
        bcs-tui dead-letters --jsonl | jq -r '[.reason, .position] | @tsv'
    """
    parser = add_verb(
        verbs, "dead-letters", run, "lists events that could not be used, and why", examples
    )
    add_json(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Print the dead letters in the order of their arrival."""
    settings = settings_of(arguments)
    async with open_repository(settings, read_only=True) as repository:
        letters = _all(repository)
        if arguments.jsonl:
            async for letter in letters:
                print(as_json(_document(letter)))
        elif arguments.json:
            print_list("dead_letters", [_document(letter) async for letter in letters])
        elif rows := [_row(letter) async for letter in letters]:
            print_table(_HEADINGS, rows)
        else:
            note(why_mock(settings) if settings.backend == "mock" else "no dead letters")
    return 0


async def _all(repository: BatchStateRepository) -> AsyncIterator[DeadLetter]:
    seen = 0
    while page := await repository.dead_letters(after=seen):
        seen += len(page)
        for letter in page:
            yield letter


def _document(letter: DeadLetter) -> dict[str, Any]:
    """Return the published form; bytes that are not UTF-8 are shown as `\\xNN`."""
    return {
        "received_at": rfc3339(letter.received_at),
        "source": letter.source,
        "position": letter.position,
        "reason": letter.reason,
        "payload": letter.payload.decode("utf-8", "backslashreplace"),
        "message": letter.message,
        "field": letter.field,
        "sha256": letter.sha256,
        "size": letter.size,
    }


def _row(letter: DeadLetter) -> tuple[str, ...]:
    received = rfc3339(letter.received_at.replace(microsecond=0))
    return (
        received,
        letter.source,
        letter.position,
        letter.reason,
        letter.field or "-",
        letter.message,
    )

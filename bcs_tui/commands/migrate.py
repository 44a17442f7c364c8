"""`migrate`: the schema of the PostgreSQL database, created or brought up to date."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bcs_tui.commands.options import add_json, add_verb, settings_of
from bcs_tui.commands.plain import as_json
from bcs_tui.format import clean
from engine import migrate

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        BCS_DATABASE_URL=postgresql://owner:...@db/bcs bcs-tui migrate
        bcs-tui migrate --json | jq .after
    """
    parser = add_verb(
        verbs, "migrate", run, "creates or upgrades the schema of the database", examples
    )
    add_json(parser, lines=False)


async def run(arguments: argparse.Namespace) -> int:
    """Bring the schema up to date and say what that took."""
    place, before, after = await migrate(settings_of(arguments))
    if arguments.json:
        print(as_json({"database": place, "before": before, "after": after}))
    elif before == after:
        print(f"{clean(place)}: schema version {after} already, nothing to do")
    elif before == 0:
        print(f"{clean(place)}: schema created, version {after}")
    else:
        print(f"{clean(place)}: schema upgraded from version {before} to {after}")
    return 0

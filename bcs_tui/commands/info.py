"""`info`: what is selected, and from where each setting came."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bcs_tui import __version__
from bcs_tui.commands.options import add_json, add_verb, settings_of
from bcs_tui.commands.plain import as_json, print_facts, print_table
from engine import (
    BCSError,
    Settings,
    SettingsError,
    Way,
    config_path,
    open_repository,
    phases_of,
)

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui info
        bcs-tui info --check
        BCS_SQLITE_PATH=batches.db bcs-tui info --json | jq -r .backend
    """
    parser = add_verb(
        verbs, "info", run, "shows the settings in effect and where they come from", examples
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="also reach the backend, and say what its account could do; writes nothing",
    )
    add_json(parser, lines=False)


async def run(arguments: argparse.Namespace) -> int:
    """Print the version, the selected backend and every setting; secrets are masked."""
    settings = settings_of(arguments)
    config = config_path()
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "backend": settings.backend,
        "config_file": str(config) if config.is_file() else f"{config} (absent)",
        "pipelines": ", ".join(phases_of()),
    }
    if settings.backend == "redis":
        facts["redis_traffic"] = _traffic(lambda: settings.way_to_redis)
        facts["postgresql_traffic"] = _traffic(lambda: settings.way_to_postgres)
    failure: BCSError | None = None
    if arguments.check:
        try:
            facts["backend_says"] = await _check(settings)
        except BCSError as error:
            failure = error
    _print(facts, settings, as_document=arguments.json)
    if failure:
        raise failure
    return 0


def _print(facts: Mapping[str, str], settings: Settings, *, as_document: bool) -> None:
    if as_document:
        shown = {one.name: {"value": one.value, "origin": one.origin} for one in settings.shown()}
        print(as_json({**facts, "pipelines": list(phases_of()), "settings": shown}))
        return
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    print()
    rows = [(f"BCS_{name}", value or "-", origin) for name, value, origin in settings.shown()]
    print_table(("SETTING", "VALUE", "FROM"), rows)


async def _check(settings: Settings) -> str:
    """Reach the backend as an observer would; return what there is to know of it."""
    async with open_repository(settings, read_only=True) as repository:
        return "; ".join([*repository.hints, *repository.notices]) or "nothing to worry about"


def _traffic(way: Callable[[], Way | None]) -> str:
    """Return how the way to a server is protected, or why it is not taken."""
    try:
        found = way()
    except SettingsError as error:
        return f"refused: {error}"
    return found.words if found else "no database is named"

"""What verbs have in common: how a parser is added, and flags that become settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from bcs_tui.commands.plain import note
from engine import (
    BatchStateRepository,
    BatchSummary,
    NotFound,
    Settings,
    SettingsError,
    phases_of,
    summarize,
)

if TYPE_CHECKING:
    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

Run: TypeAlias = Callable[[argparse.Namespace], Coroutine[Any, Any, int]]

UNTRUSTWORTHY: Final = 7
"""The exit code with `--strict` where data cannot be trusted."""

FILES: Final = {
    "bash": "_shtab_compgen_files",
    "zsh": "_files",
    "tcsh": "f",
    "fish": "(__fish_complete_path (commandline -ct))",
}
"""Tells shell completion that an argument is a file; the functions are shtab's."""


def add_verb(
    verbs: Verbs, name: str, run: Run, summary: str, examples: str
) -> argparse.ArgumentParser:
    """Add a verb with the flags that all verbs have; its help begins with examples."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    parser = verbs.add_parser(
        name,
        help=summary,
        description=f"examples:\n{lines}\n\n{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, refuse=parser.error)
    group = parser.add_argument_group("settings")
    group.add_argument("--backend", choices=("mock", "sqlite", "redis"), help="where state is kept")
    path = group.add_argument("--sqlite-path", metavar="FILE", help="the file of --backend sqlite")
    path.complete = FILES  # type: ignore[attr-defined] # the attribute is shtab's convention
    group.add_argument("--redis-url", metavar="URL", help="redis:// or rediss://")
    group.add_argument("--database-url", metavar="URL", help="postgresql://")
    group.add_argument(
        "--insecure-tls",
        action="store_true",
        help="let passwords travel unencrypted, or to a server that is not checked",
    )
    group.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser


def add_json(parser: argparse.ArgumentParser, *, lines: bool = True) -> None:
    """Let a verb print for programs: one document, or (`lines`) one object a line."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    if lines:
        form.add_argument("--jsonl", action="store_true", help="print one JSON object a line")


def settings_of(arguments: argparse.Namespace, **fixed: object) -> Settings:
    """Return the settings with flags before all other places, and show their warnings.

    `--backend` is translated into the settings of the selection rule, so there is one rule.

    Raises:
        SettingsError: A setting is not usable, or the others contradict `--backend`.
    """
    flags = {
        name: value
        for name, value in (
            ("SQLITE_PATH", arguments.sqlite_path),
            ("REDIS_URL", arguments.redis_url),
            ("DATABASE_URL", arguments.database_url),
        )
        if value is not None
    }
    if arguments.insecure_tls:
        flags["INSECURE_TLS"] = True
    wanted = arguments.backend
    if wanted is not None:
        flags["USE_MOCK_REPOSITORY"] = wanted == "mock"
        if wanted == "redis":
            flags["SQLITE_PATH"] = None
    settings = Settings(**flags | fixed)
    for warning in settings.warnings:
        note(f"warning: {warning}")
    for flag, url in (("REDIS_URL", arguments.redis_url), ("DATABASE_URL", arguments.database_url)):
        if url is not None and urlsplit(url).password:
            note(f"warning: other users can see a password in a flag; set BCS_{flag} instead")
    if not fixed and wanted not in (None, settings.backend):
        raise SettingsError(_contradiction(wanted, settings))
    return settings


def _contradiction(wanted: str, settings: Settings) -> str:
    if settings.backend == "mock":
        place = settings.origins["ENVIRONMENT"]
        return f"--backend {wanted}: ENVIRONMENT=testing ({place}) selects the mock; unset it"
    return f"--backend {wanted} needs --sqlite-path FILE or BCS_SQLITE_PATH"


def why_mock(settings: Settings) -> str:
    """Say which setting selected the mock repository, and how to get another one."""
    name = "ENVIRONMENT" if settings.ENVIRONMENT == "testing" else "USE_MOCK_REPOSITORY"
    shadowed = "; BCS_SQLITE_PATH has no effect" if settings.SQLITE_PATH else ""
    return (
        f"the mock repository (selected by {name}, {settings.origins[name]}) starts empty "
        f"and keeps nothing{shadowed}; use --backend sqlite --sqlite-path FILE"
    )


async def load_summary(
    repository: BatchStateRepository, settings: Settings, batch_id: str
) -> BatchSummary:
    """Return the summary of one batch.

    Raises:
        NotFound: Nothing is known about the batch.
    """
    try:
        return summarize(await repository.batch_record(batch_id), phases_of())
    except NotFound as error:
        if settings.backend == "mock":
            raise NotFound(f"no batch {batch_id!r}: {why_mock(settings)}") from error
        raise


def positive(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
    return number

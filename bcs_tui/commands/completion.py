"""`completion`: a script that teaches a shell our verbs and flags."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bcs_tui.commands.options import add_verb

if TYPE_CHECKING:
    from bcs_tui.commands.options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    examples = """
        bcs-tui completion bash > ~/.local/share/bash-completion/completions/bcs-tui
        bcs-tui completion zsh > ~/.zfunc/_bcs-tui
    """
    parser = add_verb(verbs, "completion", run, "prints a completion script for a shell", examples)
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), metavar="SHELL")


async def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from bcs_tui.cli import parser

    print(shtab.complete(parser(), arguments.shell))
    return 0

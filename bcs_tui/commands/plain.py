"""Plain output: JSON and tables on standard output, notes on standard error, no colour."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final, NoReturn

from pydantic import BaseModel
from rich.cells import cell_len

from bcs_tui.format import clean, fit
from bcs_tui.masking import Masking, without_credentials

_GAP: Final = "  "
_LONGEST_NOTE: Final = 1000
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7e]")


class ProgressLine:
    """Whether a line on standard error is being written over; notes take its place."""

    is_shown: ClassVar[bool] = False


def note(text: str) -> None:
    """Print one line for a person on standard error."""
    over = "\r\x1b[K" if ProgressLine.is_shown else ""
    print(f"{over}bcs-tui: {clean(text, _LONGEST_NOTE)}", file=sys.stderr)


class _Notes(logging.Handler):
    """Prints what is logged like everything else that is said, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record).partition("\n")[0])


def note_warnings() -> None:
    """Print warnings that are logged; a dashboard sends its own to a file."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Notes) for handler in root.handlers):
        notes = _Notes(logging.WARNING)
        notes.setFormatter(Masking("{message}", style="{"))
        root.addHandler(notes)


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong and where help is; its verbs do as well."""

    def error(self, message: str) -> NoReturn:
        """End with the code of bad usage."""
        verb = self.prog.removeprefix("bcs-tui").strip()
        note(f"{verb and f'{verb}: '}{without_credentials(message)}; see `{self.prog} --help`")
        raise SystemExit(2)


def as_json(document: object) -> str:
    """Return a document as one line of ASCII JSON: text in it cannot steer a terminal."""
    if not isinstance(document, BaseModel):
        return json.dumps(document, allow_nan=False).replace("\x7f", "\\u007f")
    return _BEYOND_ASCII.sub(_escape, document.model_dump_json())


def _escape(match: re.Match[str]) -> str:
    """Escape one character of a JSON text; it can only be part of a string."""
    return "\\u007f" if match[0] == "\x7f" else json.dumps(match[0])[1:-1]


def print_list(member: str, documents: Iterable[object]) -> None:
    """Print one JSON document that holds a list, without holding the list."""
    print(f'{{"{member}": [', end="")
    separator = ""
    for document in documents:
        print(separator, as_json(document), sep="", end="")
        separator = ", "
    print("]}")


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one pair a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}{_GAP}{clean(value)}")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns; those whose heading begins with `>` are aligned to the right."""
    right = [heading.startswith(">") for heading in headings]
    titles = [heading.lstrip(">") for heading in headings]
    lines = [titles, *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            fit(cell, width, right=to_right)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ]
        print(_GAP.join(cells).rstrip())

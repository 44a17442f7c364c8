"""How values look as text: pure functions, and the one sanitiser for text we did not write.

Nothing here knows a widget, so the command line prints with the same functions.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len, set_cell_size

NOTHING: Final = "-"
"""Stands for a value that does not exist yet."""

ELLIPSIS: Final = "…"
# Spelt as escapes because they look like other characters in a source.
DASH: Final = "\u2013"
TIMES: Final = "\u00d7"
CRUMB: Final = " \u203a "
_MARKS_PER_LETTER: Final = 2
_SCANNED_PER_SHOWN: Final = 8

_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
)
"""Printable to `str.isprintable`, yet nothing is seen of them."""


def clean(text: str, limit: int = 200) -> str:
    """Return text that is safe on a terminal: one line of visible characters.

    Control, bidirectional, zero-width, tag and unassigned characters are replaced by symbols
    that can be seen, stacked combining marks are cut off, and the whole is at most `limit`
    characters long, ending in `…` when something was cut. Cleaning twice changes nothing.
    """
    if text.isascii() and text.isprintable() and len(text) <= limit:
        return text
    pieces: list[str] = []
    length = marks = 0
    scanned = text[: limit * _SCANNED_PER_SHOWN]
    for character in scanned:
        if _is_mark(character):
            marks += 1
            if marks > _MARKS_PER_LETTER:
                continue
            # A mark without a letter would sit on whatever the screen has before the text.
            piece = character if pieces else "◌" + character
        else:
            marks = 0
            piece = character if _is_plain(character) else _visible(character)
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            break
    cut = length > limit or len(scanned) < len(text)
    if not cut:
        return "".join(pieces)
    return "".join(pieces)[: max(0, limit - 1)] + ELLIPSIS


def _is_mark(character: str) -> bool:
    if character.isascii() or _is_variation_selector(character) or character in _INVISIBLE:
        return False
    return unicodedata.category(character) in ("Mn", "Me")


def _is_plain(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    return (
        character.isprintable()
        and character not in _INVISIBLE
        and not _is_variation_selector(character)
    )


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) == "Zs":
        return " "
    return f"<{code:02x}>"


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return text padded or cut (with `…`) to exactly `width` terminal cells."""
    if width <= 0:
        return ""
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + ELLIPSIS
    padding = " " * (width - cells)
    return padding + text if right else text + padding


def percent(completed: int, total: int) -> str:
    """Return a floored percentage; `100%` only when nothing is missing, `-` of nothing."""
    return f"{completed * 100 // total}%" if total > 0 else NOTHING


def count(number: int) -> str:
    """Return a number with thousands separators."""
    return f"{number:,}"


def compact(number: int) -> str:
    """Return a number in at most five characters: `842`, `12.4k`, `3.1M`; never rounded up."""
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000), ("k", 10_000)):
        if number >= size:
            scale = 1_000 if unit == "k" else size
            tenths = number * 10 // scale
            return (
                f"{tenths // 10}.{tenths % 10}{unit}" if tenths < 1_000 else f"{tenths // 10}{unit}"
            )
    return str(number)


def rate(per_minute: float | None) -> str:
    """Return a rate in at most five characters."""
    if per_minute is None or not math.isfinite(per_minute):
        return NOTHING
    return f"{per_minute:.1f}" if per_minute < 100 else compact(int(per_minute))


def duration(seconds: float | None) -> str:
    """Return seconds as `1.1s`, `48s`, `3m38`, `1h02m` or `2d03h`; never negative."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02}h"


_AGE_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def span(seconds: float | None) -> str:
    """Return seconds in their largest unit alone: `8s`, `22m`, `14h`, `52d`."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    whole = max(0, int(seconds))
    for size, unit in _AGE_UNITS:
        if whole >= size:
            return f"{whole // size}{unit}"
    return "0s"


def age(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, in its largest unit; the future counts as now."""
    return NOTHING if moment is None else span((now - moment).total_seconds())


def eta(low_seconds: float, high_seconds: float) -> str:
    """Return a range of seconds in one unit where that reads well: `6-9m`, `50-70s`, `<5s`."""
    if not math.isfinite(low_seconds + high_seconds):
        return NOTHING
    low, high = max(0, int(low_seconds)), max(0, math.ceil(high_seconds))
    if high < 5:
        return "<5s"
    size, unit = next(((size, unit) for size, unit in _AGE_UNITS if high >= 2 * size), (1, "s"))
    first, last = low // size, math.ceil(high / size)
    return f"{first}{DASH}{last}{unit}" if first != last else f"{last}{unit}"


def clock(moment: datetime | None, now: datetime | None = None) -> str:
    """Return a UTC time: `14:02:07` on the day of `now`, `Jan 21 14:02` or `2019 Jan 21` else."""
    if moment is None:
        return NOTHING
    moment = moment.astimezone(UTC)
    if now is None or moment.date() == now.astimezone(UTC).date():
        return f"{moment:%H:%M:%S}"
    month = _MONTHS[moment.month - 1]
    if moment.year == now.astimezone(UTC).year:
        return f"{month} {moment.day:2} {moment:%H:%M}"
    return f"{moment.year} {month} {moment.day:2}"


def stamp(moment: datetime | None) -> str:
    """Return a UTC time with its date and zone, to the second."""
    return NOTHING if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


# strftime("%b") would follow the locale.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun",
                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # fmt: skip


class Glyph:
    """One glyph for each state; `ascii_only` turns to a set that every terminal has."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        self.ascii_only = ascii_only
        self._of = _ASCII_GLYPHS if ascii_only else _GLYPHS

    def __getitem__(self, state: str) -> str:
        return self._of.get(state, "?")


_GLYPHS: Final = {
    "done": "✓",
    "problems": "▴",
    "failed": "✗",
    "stalled": "!",
    "processing": "▸",
    "running": "▸",
    "ready": "○",
    "pending": "·",
    "waiting": "·",
    "skipped": DASH,
    "cancelled": DASH,
    "unknown": "?",
    "disputed": "≠",
}
_ASCII_GLYPHS: Final = _GLYPHS | {
    "done": "+",
    "problems": "*",
    "failed": "x",
    "processing": ">",
    "running": ">",
    "ready": "o",
    "pending": ".",
    "waiting": ".",
    "skipped": "-",
    "cancelled": "-",
    "disputed": "~",
}

"""The keys of a page, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from bcs_tui.format import DASH, fit
from bcs_tui.screens.sheet import Sheet
from bcs_tui.widgets.ink import Line, wrapped

Keys = Sequence[tuple[str, str]]

MOVING: Keys = (
    ("j k   ↑ ↓", "down, up"),
    ("g G   Home End", "first, last"),
    ("^d ^u   PgDn PgUp", "half a screen, a screen"),
    ("Esc", "clear the filter, else go back"),
    ("q", "go back; from a first page, quit"),
)
EVERYWHERE: Keys = (
    ("1  2  3", "fleet, events, dead letters"),
    ("-", "the one of them that was shown before"),
    (":   ctrl+p", "command, command palette"),
    ("y", "copy the id"),
    ("T", "dark or light"),
    ("?   F1", "these keys"),
    ("ctrl+q", "quit"),
)
REPLAY: Keys = (
    ("space   p", "pause, go on"),
    (",   .", "one event back, forward"),
    ("← →", "5 seconds back, forward; in the essay grid they move the cursor"),
    ("shift ← →", "a minute back, forward"),
    ("<   >", "slower, faster"),
    ("{   }", "failure before, next failure"),
    ("t", "go to a time or a percentage"),
    ("L", "go to the end"),
    ("o", "start over at the end, or not"),
    ("Tab, then 0…9", "go to tenths of the recording"),
)
STATES: Keys = (
    ("✓ done", "every essay completed"),
    ("▸ running", "the phase is being worked on"),
    ("· pending", "nothing has come yet"),
    ("✗ failed", "an essay failed, or the batch did"),
    ("▴ problems", "goes on or ended, with failures"),
    ("! stalled", "should move and does not"),
    (f"{DASH} skipped", "its phase ended without it"),
    ("? unknown", "what is stored of the essay cannot be read"),
    ("≠ disputed", "a stored count contradicts the essays; a on the batch says which"),
)


_KEY = 20


class HelpScreen(Sheet):
    """What the keys of the page below do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,f1", "dismiss", show=False)]

    def __init__(self, title: str, keys: Keys) -> None:
        super().__init__(lambda width: help_lines(title, keys, width))


def help_lines(title: str, keys: Keys, width: int) -> list[Line]:
    """Return the help text of a page."""
    room = max(10, width - _KEY - 4)
    lines: list[Line] = []
    for heading, section in (
        (title, keys),
        ("Moving", MOVING),
        ("Everywhere", EVERYWHERE),
        ("Replay", REPLAY),
        ("What the signs mean", STATES),
    ):
        lines += [[], [(f"   {heading}", "strong")]]
        for key, text in section:
            label = key
            for part in [[(text, "")]] if len(text) <= room else wrapped(text, "", room):
                lines.append([(f"   {fit(label, _KEY)}", "accent"), *part])
                label = ""
    return lines

"""The audit of a batch: who says which counts."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType

from bcs_tui.format import Glyph, clean, fit
from bcs_tui.screens.sheet import Sheet
from bcs_tui.widgets.ink import Line, Piece, wrapped
from bcs_tui.widgets.states import mark
from engine import Audit, Claim

_STEP, _SOURCE, _NUMBER, _NARROW_NUMBER = 16, 27, 11, 8


class AuditScreen(Sheet):
    """Every claim about the counts of a batch, and what is wrong with it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "dismiss", show=False)]

    def __init__(self, found: Audit, doubt: str, glyphs: Glyph) -> None:
        super().__init__(lambda width: audit_lines(found, doubt, glyphs, width))


def audit_lines(found: Audit, doubt: str, glyphs: Glyph, width: int) -> list[Line]:
    """Return the verdict, the claims, wrong ones marked, and the essays nobody can count."""
    wrong = found.disagreements
    verdict = "every source agrees"
    if wrong:
        verdict = _number(len(wrong), "number differs", "numbers differ") + " from the essays"
    lines: list[Line] = [
        [],
        [("   Audit ", "strong"), (clean(found.batch_id, 80), "")],
        [("   ", ""), (verdict, "failed" if wrong else "done")],
        *([("   ", ""), *line] for line in wrapped(clean(doubt, 400), "warn", width - 4) if doubt),
        [],
        *_table(found, width),
    ]
    if not found.claims:
        lines.append([("   nothing is known of any step yet", "muted")])
    if found.unreadable:
        what = _number(len(found.unreadable), "essay", "essays")
        lines += [[], [(f"   {what} cannot be read, or not wholly", "warn")]]
    for essay_id, why in found.unreadable.items():
        lines += [
            [("   ", ""), mark("unknown", glyphs), (f" {clean(essay_id, 76)}", "")],
            *([("     ", ""), *line] for line in wrapped(clean(why, 400), "muted", width - 6)),
        ]
    return lines


def _table(found: Audit, width: int) -> list[Line]:
    """Return the claims; where there is little room, or its name is long, a step has a line."""
    names, step_room, number = ("COMPLETED", "FAILED", "TOTAL"), _STEP, _NUMBER
    if width < 3 + _STEP + _SOURCE + 3 * _NUMBER:
        names, step_room, number = ("DONE", "FAIL", "TOTAL"), 0, _NARROW_NUMBER
    heading = fit("STEP", step_room) + fit("SOURCE", _SOURCE)
    heading += "".join(fit(f"{name}  ", number, right=True) for name in names)
    lines: list[Line] = [[("   ", ""), (heading, "muted")]]
    differing = {(one.step, one.source, one.member) for one in found.disagreements}
    before = ""
    for claim in found.claims:
        step = "" if claim.step == before else clean(claim.step)
        before = claim.step
        if step and cell_len(step) >= step_room:
            lines.append([(f"   {step}", "")])
            step = ""
        lines.append([("   ", ""), (fit(step, step_room), ""), *_numbers(claim, differing, number)])
    return lines


def _number(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _numbers(claim: Claim, differing: set[tuple[str, str, str]], width: int) -> Line:
    """Return a source and what it claims of a step."""
    line: list[Piece] = [(fit(clean(claim.source), _SOURCE), "muted")]
    for member in ("completed", "failed", "total"):
        number = getattr(claim, member)
        differs = (claim.step, claim.source, member) in differing
        text = "-" if number is None else f"{number:,}" + (" ≠" if differs else "  ")
        line.append((fit(text, width, right=True), "failed" if differs else ""))
    return line

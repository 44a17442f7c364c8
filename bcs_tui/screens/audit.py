"""The audit of a batch: who says which counts."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from bcs_tui.format import Glyph, clean, fit
from bcs_tui.screens.sheet import Sheet
from bcs_tui.widgets.ink import Line, Piece, wrapped
from bcs_tui.widgets.states import mark
from engine import Audit, Claim

_STEP, _SOURCE, _NUMBER = 16, 26, 11
_WIDTH = _STEP + _SOURCE + 3 * _NUMBER - 2


class AuditScreen(Sheet):
    """Every claim about the counts of a batch, and what is wrong with it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "dismiss", show=False)]

    def __init__(self, found: Audit, glyphs: Glyph) -> None:
        super().__init__(audit_lines(found, glyphs))


def audit_lines(found: Audit, glyphs: Glyph) -> list[Line]:
    """Return the verdict, the claims, wrong ones marked, and the essays nobody can count."""
    wrong = found.disagreements
    verdict = "every source agrees"
    if wrong:
        verdict = _number(len(wrong), "number differs", "numbers differ") + " from the essays"
    names = ("COMPLETED", "FAILED", "TOTAL")
    heading = fit("STEP", _STEP) + fit("SOURCE", _SOURCE)
    heading += "".join(fit(f"{name}  ", _NUMBER, right=True) for name in names)
    lines: list[Line] = [
        [],
        [("   Audit ", "strong"), (clean(found.batch_id, 80), "")],
        [("   ", ""), (verdict, "failed" if wrong else "done")],
        [],
        [("   ", ""), (heading, "muted")],
    ]
    differing = {(one.step, one.source, one.member) for one in wrong}
    before = ""
    for claim in found.claims:
        lines.append(_claim_line(claim, differing, repeated=claim.step == before))
        before = claim.step
    if not found.claims:
        lines.append([("   nothing is known of any step yet", "muted")])
    if found.unreadable:
        what = _number(len(found.unreadable), "essay", "essays")
        lines += [[], [(f"   {what} cannot be read, or not wholly", "warn")]]
    for essay_id, why in found.unreadable.items():
        lines += [
            [("   ", ""), mark("unknown", glyphs), (f" {clean(essay_id, 76)}", "")],
            *([("     ", ""), *line] for line in wrapped(clean(why, 400), "muted", _WIDTH)),
        ]
    return lines


def _number(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _claim_line(claim: Claim, differing: set[tuple[str, str, str]], *, repeated: bool) -> Line:
    step = "" if repeated else clean(claim.step)
    line: list[Piece] = [
        ("   ", ""),
        (fit(step, _STEP), ""),
        (fit(clean(claim.source), _SOURCE), "muted"),
    ]
    for member in ("completed", "failed", "total"):
        number = getattr(claim, member)
        differs = (claim.step, claim.source, member) in differing
        text = "-" if number is None else f"{number:,}" + (" ≠" if differs else "  ")
        line.append((fit(text, _NUMBER, right=True), "failed" if differs else ""))
    return line

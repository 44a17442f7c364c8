"""The audit of a batch: who says which counts."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from bcs_tui.format import clean, fit
from bcs_tui.screens.sheet import Sheet
from bcs_tui.widgets.ink import Line, Piece
from engine import Audit, Claim

_STEP, _SOURCE, _NUMBER = 16, 26, 11


class AuditScreen(Sheet):
    """Every claim about the counts of a batch, and what is wrong with it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "dismiss", show=False)]

    def __init__(self, found: Audit) -> None:
        super().__init__(audit_lines(found))


def audit_lines(found: Audit) -> list[Line]:
    """Return the claims, those that contradict the essays marked, and the verdict above."""
    wrong = found.disagreements
    verdict = f"{len(wrong)} numbers differ from the essays" if wrong else "every source agrees"
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
    return lines


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

"""The audit of a batch: who says which counts, and who disagrees with the essays themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

ESSAYS: Final = "essays"
"""The source that every other one is measured against: the essays, counted one by one."""


class Claim(NamedTuple):
    """What one source says of one step of a batch; `None` where it says nothing."""

    source: str
    step: str
    completed: int | None
    failed: int | None
    total: int | None


class Disagreement(NamedTuple):
    """A number in which a source differs from the essays; `member` is e.g. `completed`."""

    step: str
    member: str
    source: str
    says: int
    essays: int


class Audit(NamedTuple):
    """All claims about a batch, and those in which they contradict the essays."""

    batch_id: str
    claims: Sequence[Claim]
    disagreements: Sequence[Disagreement]


def audit(batch_id: str, claims: Sequence[Claim]) -> Audit:
    """Hold every claim against the essays; a step that no essay knows counts as zero there."""
    claims = sorted(claims, key=lambda claim: claim.step)  # of a step, in the order given
    truth = {claim.step: claim for claim in claims if claim.source == ESSAYS}
    totals = {claim.total for claim in truth.values()}
    nothing = Claim(ESSAYS, "", 0, 0, max((total for total in totals if total), default=None))
    found = [
        Disagreement(claim.step, member, claim.source, says, there)
        for claim in claims
        for member, says, there in _pairs(claim, truth.get(claim.step, nothing))
        if says != there
    ]
    return Audit(batch_id, claims, found)


def _pairs(claim: Claim, truth: Claim) -> Iterable[tuple[str, int, int]]:
    for member in ("completed", "failed", "total"):
        says, there = getattr(claim, member), getattr(truth, member)
        if says is not None and there is not None:
            yield member, says, there


def claims_of(source: str, counts: Mapping[str, Sequence[int]], total: int) -> list[Claim]:
    """Return counts, by step [completed, failed], as what a source claims."""
    return [Claim(source, step, pair[0], pair[1], total) for step, pair in sorted(counts.items())]

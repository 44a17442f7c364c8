"""The audit of a batch: who says which counts, and who disagrees with the essays themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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


class Evidence(NamedTuple):
    """What every source says of a batch.

    `unreadable` has the essays that cannot be read, or not wholly, and why.
    """

    claims: Sequence[Claim]
    unreadable: Mapping[str, str] = {}


class Audit(NamedTuple):
    """All evidence about a batch, and the claims in which it contradicts the essays."""

    batch_id: str
    claims: Sequence[Claim]
    disagreements: Sequence[Disagreement]
    unreadable: Mapping[str, str] = {}


def audit(batch_id: str, evidence: Evidence) -> Audit:
    """Hold every claim against the essays; a step that no essay knows counts as zero there."""
    # Of a step, in the order given.
    claims = sorted(evidence.claims, key=lambda claim: claim.step)
    truth = {claim.step: claim for claim in claims if claim.source == ESSAYS}
    totals = {claim.total for claim in truth.values()}
    nothing = Claim(ESSAYS, "", 0, 0, max((total for total in totals if total), default=None))
    found = [
        Disagreement(claim.step, member, claim.source, says, there)
        for claim in claims
        for member, says, there in _pairs(claim, truth.get(claim.step, nothing))
        if says != there
    ]
    return Audit(batch_id, claims, found, evidence.unreadable)


_LOOKS: Final = 3
_BETWEEN_LOOKS_SECONDS: Final = 0.2


async def audit_lasting(batch_id: str, evidence: Callable[[str], Awaitable[Evidence]]) -> Audit:
    """Audit a batch that may be moving: only differences that last are disagreements.

    Sources are read one after the other, so a result that is just being recorded is in some of
    them; it is in all of them a moment later.

    Args:
        batch_id: The batch.
        evidence: Reads what each source says.
    """
    found = audit(batch_id, await evidence(batch_id))
    for _ in range(_LOOKS - 1):
        if not found.disagreements:
            break
        lasting = {_difference(one) for one in found.disagreements}
        await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
        again = audit(batch_id, await evidence(batch_id))
        kept = [one for one in again.disagreements if _difference(one) in lasting]
        found = again._replace(disagreements=kept)
    return found


def _difference(one: Disagreement) -> tuple[str, str, str, int]:
    return one.step, one.member, one.source, one.says - one.essays


def sure_of(before: Sequence[Claim], after: Sequence[Claim], truth: Sequence[Claim]) -> list[Claim]:
    """Return what sources said before and after the essays were read, as far as it is sure.

    A number that moved meanwhile says nothing of the essays if theirs lies between.
    """
    essays = {claim.step: claim for claim in truth}
    first = {(claim.source, claim.step): claim for claim in before}
    found = []
    for claim in after:
        place = claim.source, claim.step
        old, there = _numbers(first.get(place)), _numbers(essays.get(claim.step))
        sure = [
            None if _moved_past(*pair) else pair[1]
            for pair in zip(old, _numbers(claim), there, strict=True)
        ]
        found.append(Claim(*place, *sure))
    return found


def _numbers(claim: Claim | None) -> tuple[int | None, ...]:
    return (None, None, None) if claim is None else claim[2:]


def _moved_past(old: int | None, new: int | None, there: int | None) -> bool:
    low, high = sorted((old or 0, new or 0))
    return low != high and low <= (there or 0) <= high


def _pairs(claim: Claim, truth: Claim) -> Iterable[tuple[str, int, int]]:
    for member in ("completed", "failed", "total"):
        says, there = getattr(claim, member), getattr(truth, member)
        if says is not None and there is not None:
            yield member, says, there


def claims_of(source: str, counts: Mapping[str, Sequence[int]], total: int) -> list[Claim]:
    """Return counts, by step [completed, failed], as what a source claims."""
    return [Claim(source, step, pair[0], pair[1], total) for step, pair in sorted(counts.items())]

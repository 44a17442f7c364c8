"""How the columns of the fleet share out a width."""

from __future__ import annotations

from typing import Final, NamedTuple


class Columns(NamedTuple):
    """The widths of the columns; those of 0 are left out."""

    batch: int
    pipeline: int
    essays: int
    step: int
    done: int
    fail: int
    at: int
    rate: int
    eta: int
    age: int


_STATE, _ESSAYS, _FAIL, _ETA = 3, 7, 6, 13
_MOST_ID, _MOST_BAR = 38, 16
_NARROW = 34
_PLANS: Final = (  # id at least, bar, rate, age, pipeline: the first that fits is taken
    (22, 13, 7, 6, 16),
    (36, 12, 7, 6, 0),
    (18, 13, 7, 6, 0),
    (16, 10, 7, 6, 0),
    (16, 8, 7, 6, 0),
    (16, 6, 7, 6, 0),
    (12, 6, 7, 0, 0),
    (12, 6, 0, 0, 0),
)


def plan_columns(width: int, steps: int) -> Columns:
    """Share out a width: the id always, the failures and the ETA nearly so, the rest as it fits."""
    for batch, bar, pace, old, pipeline in _PLANS:
        fixed = _STATE + _ESSAYS + _FAIL + _ETA + pace + old + pipeline
        room = width - fixed - batch - steps * (bar + 2)
        if room < 0:
            continue
        longer = min(room, _MOST_ID - batch)
        room -= longer
        wider = min(room // steps, _MOST_BAR - bar) if bar >= 10 else 0
        batch += longer
        return Columns(
            batch, max(0, pipeline - 2), _ESSAYS, bar + wider, 0, _FAIL, 0, pace, _ETA, old
        )
    if width < _NARROW:
        return Columns(max(1, width - _STATE - _FAIL), 0, 0, 0, _FAIL, 0, 0, 0, 0, 0)
    at = 8 if width >= 56 else 0
    fixed = _STATE + 2 * _FAIL + _ETA + (at + 2 if at else 0)
    return Columns(max(6, width - fixed), 0, 0, 0, _FAIL, _FAIL, at, 0, _ETA, 0)

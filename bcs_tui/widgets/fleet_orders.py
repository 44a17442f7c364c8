"""In which orders the fleet can be shown, and what a filter looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from bcs_tui.widgets.filter import Filter
from bcs_tui.widgets.states import RANK, state_of
from engine import BatchRow

FIELDS: Final = frozenset({"state", "owner", "pipeline", "id", "step", "status", "is"})
"""What a filter can name."""

FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)

SortKey = Callable[[BatchRow], Any]


def _done_part(row: BatchRow) -> float:
    steps = row.summary.steps
    total = sum(step.total for step in steps)
    return sum(step.completed for step in steps) / total if total else 0.0


def _worst(row: BatchRow) -> tuple[int, int, str]:
    return RANK[state_of(row)], -row.summary.failed, row.summary.batch_id


ORDERS: Final[Mapping[str, SortKey]] = {
    "worst first": _worst,
    "id": lambda row: row.summary.batch_id,
    "failures": lambda row: (-row.summary.failed, row.summary.batch_id),
    "progress": lambda row: (_done_part(row), row.summary.batch_id),
    "eta": lambda row: (
        row.eta.high_seconds if row.eta else float("inf"),
        row.summary.batch_id,
    ),
    "rate": lambda row: (-(row.rate_per_minute or 0.0), row.summary.batch_id),
    "oldest": lambda row: (row.summary.started_at or FAR, row.summary.batch_id),
    "quietest": lambda row: (row.summary.last_event_at or FAR, row.summary.batch_id),
}


def lets_through(filters: Filter, row: BatchRow) -> bool:
    """Tell whether a filter lets a batch through."""
    if not filters.terms:
        return True
    summary = row.summary
    state, pipeline = state_of(row), summary.pipeline or ""
    text = f"{summary.batch_id} {summary.owner} {pipeline} {summary.status} {state}".lower()
    return filters.matches(
        text,
        {
            "state": state.startswith,
            "status": summary.status.__contains__,
            "owner": summary.owner.lower().__contains__,
            "pipeline": pipeline.lower().__contains__,
            "id": summary.batch_id.lower().__contains__,
            "is": ("audit" if summary.is_disputed else "").startswith,
            "step": lambda name: any(
                step.running and step.step.startswith(name) for step in summary.steps
            ),
        },
    )

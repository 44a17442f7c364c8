"""The order of the fleet: settling what changed gives what sorting everything gives."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcs_tui.format import Glyph
from bcs_tui.widgets.fleet_columns import plan_columns
from bcs_tui.widgets.fleet_orders import ORDERS
from bcs_tui.widgets.fleet_table import FleetRows
from engine import BatchRow
from engine.models import BatchRecord
from engine.pipelines import phases_of
from engine.summaries import summarize
from tests.envelopes import at

NOW = at(100)

counts = st.tuples(st.integers(0, 3), st.integers(0, 2))
changes = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.none() | counts, max_size=4), max_size=6
)


def row_of(batch_id: str, pair: tuple[int, int]) -> BatchRow:
    record = BatchRecord(batch_id, expected=5, counts={"nlp": list(pair)}, last_at=NOW)
    rate = float(sum(pair)) or None
    stalled = NOW - timedelta(seconds=1) if pair == (0, 1) else None
    return BatchRow(summarize(record, phases_of()), rate, None, stalled)


def shown(rows: FleetRows) -> list[str]:
    return [rows.key(index) for index in range(len(rows))]


@pytest.mark.parametrize("width", [134, 135, 198])
def test_ids_have_room_before_bars_are_long(width: int) -> None:
    assert plan_columns(width, 4).batch >= 36


@pytest.mark.parametrize("reverse", [False, True])
@given(
    order=st.sampled_from(list(ORDERS)), text=st.sampled_from(["", "state:problems"]), told=changes
)
def test_settling_changes_is_sorting_anew(
    order: str, text: str, told: list[dict[str, tuple[int, int] | None]], reverse: bool
) -> None:
    known: dict[str, BatchRow] = {}
    rows = FleetRows(Glyph(ascii_only=True))
    rows.sort_by(order, reverse)
    rows.filter_by(text)
    for change in told:
        for batch_id, pair in change.items():
            if pair is None:
                known.pop(batch_id, None)
            else:
                known[batch_id] = row_of(batch_id, pair)
        rows.take(dict(known), change.keys(), NOW)
        rows.settle()
        anew = FleetRows(Glyph(ascii_only=True))
        anew.sort_by(order, reverse)
        anew.filter_by(text)
        anew.take(dict(known), known.keys(), NOW)
        anew.settle()
        assert shown(rows) == shown(anew)
        assert [rows.find(name) for name in shown(rows)] == list(range(len(rows)))
        assert all(rows.find(name) is None for name in "abcdef" if name not in shown(anew))

"""What takes the place of the projection where nobody looks: it knows only which batches are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from engine.models import BatchRecord
from engine.projection import Projection
from engine.repository import BatchColumns, Change
from engine.view import BatchRow, Grid


class Tally(Projection):
    """The ids of all batches: a read model costs a tenth of an ingest that never shows it."""

    def __init__(self) -> None:
        super().__init__()
        self._batch_ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._batch_ids)

    def load(self, records: Iterable[BatchRecord]) -> None:
        """Take over batches as the repository knows them."""
        self._batch_ids.update(record.batch_id for record in records)

    def forget(self, batch_ids: Iterable[str]) -> None:
        """Let batches go that the repository does not know any more."""
        self._batch_ids.difference_update(batch_ids)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take over what a recorded chunk changed."""
        self._batch_ids.update([change.fact.batch_id for change in changes])

    def rows(
        self, now: datetime, wanted: Collection[str] | None = None
    ) -> tuple[Mapping[str, BatchRow], frozenset[str]]:
        """Refuse: there is nothing to show.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a headless engine has no views")

    def open(self, columns: BatchColumns) -> Grid:
        """Refuse: there is nothing to show.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a headless engine has no views")

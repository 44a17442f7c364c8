"""What this process owes the archive: a second copy of the facts that wait in Redis for it.

Redis may drop what waits there: emptied, set back, or evicting keys. As long as this process
lives it puts them there again, and knows if it cannot.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from itertools import count
from typing import Final, NamedTuple

MOST_BYTES: Final = 64 * 1024 * 1024
"""Beyond so many, the oldest copies are let go; that they are owed is still known."""


class Kept(NamedTuple):
    """Facts that were put into Redis: their id there, and a copy unless that was let go."""

    entry_id: bytes
    packed: bytes | None


class Owed:
    """Facts by a name that nothing else ever has, the oldest first.

    Args:
        most_bytes: How much is kept here.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.lost = 0
        """How many chunks are gone for good, as far as this process knows."""
        self._most_bytes = most_bytes
        self._kept: dict[bytes, Kept] = {}
        self._bytes = 0
        self._token = secrets.token_hex(8)
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, name: bytes) -> Kept:
        return self._kept[name]

    def new_name(self) -> bytes:
        """Return a name for facts."""
        return f"{self._token}-{next(self._numbers)}".encode()

    @property
    def names(self) -> list[bytes]:
        """All names, the oldest first."""
        return list(self._kept)

    @property
    def ends(self) -> list[bytes]:
        """The oldest and the newest name; nothing while nothing is owed."""
        if not self._kept:
            return []
        return [next(iter(self._kept)), next(reversed(self._kept))]

    def add(self, name: bytes, entry_id: bytes, packed: bytes) -> None:
        """Note what has been put into Redis."""
        self._kept[name] = Kept(entry_id, packed)
        self._bytes += len(packed)
        for oldest, kept in self._kept.items():
            if self._bytes <= self._most_bytes:
                break
            if kept.packed is not None:
                self._kept[oldest] = Kept(kept.entry_id, None)
                self._bytes -= len(kept.packed)

    def settle(self, names: Iterable[bytes]) -> None:
        """Note what the archive has now."""
        for name in names:
            kept = self._kept.pop(name, None)
            self._bytes -= len((kept and kept.packed) or b"")

    def lose(self, name: bytes) -> None:
        """Note that facts are nowhere any more."""
        self.settle([name])
        self.lost += 1

"""A frozen mapping whose successors share with it what did not change."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

_V = TypeVar("_V")

_FEWEST: Final = 64
_PART: Final = 8
"""When an eighth of the mapping has changed, the next successor starts afresh."""


class Overlay(Mapping[str, _V], Generic[_V]):
    """What has changed lately lies over a dictionary that all pictures since then share.

    A dictionary of thousands of rows that is copied, and later given up, for every picture
    costs more than the rows that are new in it.
    """

    __slots__ = ("_base", "_late", "_length")

    def __init__(self, base: dict[str, _V], late: dict[str, _V], length: int) -> None:
        """Take over two dictionaries that nobody changes any more, and how many keys they have."""
        self._base = base
        self._late = late
        self._length = length

    @classmethod
    def empty(cls) -> Overlay[_V]:
        """Return a mapping without anything in it."""
        return cls({}, {}, 0)

    def successor(self, changed: Mapping[str, _V], gone: Collection[str] = ()) -> Overlay[_V]:
        """Return this mapping with some values changed or added and some taken away."""
        late = {**self._late, **changed}
        if gone or len(late) > max(_FEWEST, len(self._base) // _PART):
            values = self._base | late
            for key in gone:
                values.pop(key, None)
            return Overlay(values, {}, len(values))
        added = sum([key not in self for key in changed])
        return Overlay(self._base, late, self._length + added)

    def __getitem__(self, key: str) -> _V:
        return self._late[key] if key in self._late else self._base[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default where there is none."""
        return self._late[key] if key in self._late else self._base.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._late or key in self._base

    def __iter__(self) -> Iterator[str]:
        yield from self._base
        for key in self._late:
            if key not in self._base:
                yield key

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return repr(dict(self))

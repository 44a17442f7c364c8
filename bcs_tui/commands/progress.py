"""Progress: one line that is written over for a person at a terminal, new lines for a log."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from bcs_tui.commands.plain import ProgressLine, note
from bcs_tui.format import clean
from engine import Engine, Envelope, Feed, WholeFile

State: TypeAlias = Callable[[], tuple[str, Iterable[str]]]
"""Tells present trouble, empty if there is none, and all notices so far."""

_TICK_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 1.0
_WIDTH: Final = 24


class Metered(Feed):
    """A feed that counts the bytes it hands over."""

    def __init__(self, feed: Feed, total_bytes: int | None = None) -> None:
        self._feed = feed
        self._total_bytes = total_bytes
        self._bytes = 0
        self.name = feed.name

    @property
    def may_run_ahead(self) -> bool:
        return self._feed.may_run_ahead

    async def read(self) -> list[Envelope] | None:
        chunk = await self._feed.read()
        if chunk and self._total_bytes:
            self._bytes += sum(len(one.raw) + 1 for one in chunk)
        return chunk

    async def acknowledge(self, ahead: int = 0) -> None:
        await self._feed.acknowledge(ahead)

    def give_back(self) -> None:
        self._feed.give_back()

    def whole_file(self) -> WholeFile | None:
        return self._feed.whole_file()

    def progressed(self, size: int) -> None:
        self._bytes += size

    async def aclose(self) -> None:
        await self._feed.aclose()

    @property
    def notices(self) -> list[str]:
        return self._feed.notices

    @property
    def trouble(self) -> str:
        return self._feed.trouble

    @property
    def gaps(self) -> int:
        return self._feed.gaps

    @property
    def fraction(self) -> float | None:
        """How much has been handed over; `None` where no end is known."""
        return min(1.0, self._bytes / self._total_bytes) if self._total_bytes else None


@contextmanager
def shown(
    line: Callable[[], str],
    notices: Callable[[], Iterable[str]] = tuple,
    already: set[str] | None = None,
) -> Iterator[None]:
    """Keep a line on standard error up to date, new notices above it; take it away in the end."""
    told_before = set() if already is None else already
    task = asyncio.ensure_future(_keep_up_to_date(line, notices, told_before))
    ProgressLine.is_shown = True
    try:
        yield
    finally:
        task.cancel()
        ProgressLine.is_shown = False
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


async def _keep_up_to_date(
    line: Callable[[], str], notices: Callable[[], Iterable[str]], already: set[str]
) -> None:
    with suppress(asyncio.CancelledError):
        while True:
            tell(notices(), already)
            sys.stderr.write(f"\r{line()}\x1b[K")
            sys.stderr.flush()
            await asyncio.sleep(_TICK_SECONDS)


@contextmanager
def told(state: State, already: set[str]) -> Iterator[None]:
    """Print trouble, its end and notices, a line each, when they happen: for a log."""
    task = asyncio.ensure_future(_tell(state, already))
    try:
        yield
    finally:
        task.cancel()


async def _tell(state: State, already: set[str]) -> None:
    known = ""
    with suppress(asyncio.CancelledError):
        while True:
            trouble, notices = state()
            if trouble != known:
                note(trouble or "in order again")
            known = trouble
            tell(notices, already)
            await asyncio.sleep(_TELL_SECONDS)


def tell(notices: Iterable[str], already: set[str]) -> None:
    """Print the notices that have not been printed yet."""
    for notice in notices:
        if notice not in already:
            already.add(notice)
            note(notice)


def bar(fraction: float) -> str:
    """Return a bar, filled to a fraction of it, and the percentage."""
    full = int(fraction * _WIDTH)
    return f"{'━' * full}{'─' * (_WIDTH - full)} {int(fraction * 100):3}%"


def line(engine: Engine, feed: Metered) -> str:
    """Return the line: a bar where the end is known, the count, the rate, trouble."""
    health = engine.health
    parts = [f"{health.read:,} events", f"{health.events_per_second:,.0f}/s"]
    fraction = feed.fraction
    if fraction is not None:
        parts.insert(0, bar(fraction))
    if engine.repository.is_provisional:
        parts.append("PROVISIONAL (nothing is acknowledged)")
    if health.gaps:
        parts.append(f"{health.gaps:,} gaps")
    if health.dead_letters:
        parts.append(f"{health.dead_letters:,} unusable")
    if health.trouble:
        parts.append(clean(health.trouble, 60))
    return "  ".join(parts)

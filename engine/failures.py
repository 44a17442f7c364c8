"""Failures in a recording: which of its events tell of one, and where the next of them is."""

from __future__ import annotations

import asyncio
from typing import Final

from engine.decoding import decode
from engine.events import Event
from engine.feeds.port import CHUNK_SIZE, Seekable
from engine.models import FAILED, BatchFact, Fact, PhaseFact, StepFact

_FAILED_STATUSES: Final = frozenset({"denied", "rejected", "content_failed", "cancelled"})


def tells_failure(event: Event) -> bool:
    """Tell whether an event says that an essay, a phase or the batch failed."""
    return any(map(_is_failure, event.facts))


def _is_failure(fact: Fact) -> bool:
    if isinstance(fact, StepFact):
        return fact.outcome == FAILED
    if isinstance(fact, PhaseFact):
        return "fail" in fact.status or fact.status in _FAILED_STATUSES
    return isinstance(fact, BatchFact) and (fact.status in _FAILED_STATUSES or "fail" in fact.value)


async def next_failure(feed: Seekable) -> int | None:
    """Return the place right behind the next failure, if there is any.

    Raises:
        FeedUnavailable: The recording cannot be read any more.
    """
    for start in range(feed.index, feed.length, CHUNK_SIZE):
        if found := await _failures(feed, start, min(start + CHUNK_SIZE, feed.length)):
            return found[0]
    return None


async def last_failure(feed: Seekable) -> int | None:
    """Return the place right behind the failure before the one that was handed over last.

    Raises:
        FeedUnavailable: The recording cannot be read any more.
    """
    for stop in range(feed.index - 1, 0, -CHUNK_SIZE):
        if found := await _failures(feed, max(0, stop - CHUNK_SIZE), stop):
            return found[-1]
    return None


async def _failures(feed: Seekable, start: int, stop: int) -> list[int]:
    """Return the places right behind failures among envelopes of a recording."""
    found: list[int] = []
    while start < stop:
        events = decode(feed.look(start, stop - start)).parsed
        found += [
            place
            for place, event in enumerate(events, start + 1)
            if isinstance(event, Event) and tells_failure(event)
        ]
        start += len(events)
        await asyncio.sleep(0)  # the screen is drawn meanwhile
    return found

"""What happens to a stream and among its consumers, noticed and put into words."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import redis.exceptions as failures

from engine.clock import Clock
from engine.feeds.notices import Notices
from engine.feeds.redis_entries import Entry
from engine.feeds.redis_group import Group, Unread, order

_ALIVE_SECONDS: Final = 10.0
_FORGOTTEN_SECONDS: Final = 24 * 3600.0
_AHEAD_SECONDS: Final = 60.0


class Lookout:
    """Watches one consumer group for one consumer of it.

    Methods that ask the server raise what redis-py raises.

    Args:
        name: What the feed is called.
        group: What is watched.
        clock: Stamps notices, and is what the ids of entries are compared to.
    """

    def __init__(self, name: str, group: Group, clock: Clock) -> None:
        self.lost = self.gaps = 0
        self._group = group
        self._clock = clock
        self._name = name
        self._waiting = ""
        self._notices = Notices(name, clock)
        self._newest = (0, 0)
        self._unread: Unread | None = None
        self._is_ahead = False

    @property
    def notices(self) -> list[str]:
        """What was noticed, oldest first; at the end what is waited for, while it is."""
        return [*self._notices.lines, *filter(None, [self._waiting])]

    async def look_for_entries(self) -> None:
        """Tell of a stream that is not there, or empty: whoever waits may have the wrong key."""
        if not await self._group.has_stream():
            self._waiting = (
                f"{self._name}: there is no such stream yet; check the key if none comes"
            )
        elif not await self._group.has_entries():
            self._waiting = f"{self._name}: the stream is empty; check the key if nothing comes"

    def came(self) -> None:
        """Note that entries have come: nothing is waited for any more."""
        self._waiting = ""

    async def look_at_consumers(self) -> None:
        """Warn of a living namesake, and remove consumers that went long ago with nothing left."""
        for one in await self._group.consumers():
            if one.name == self._group.consumer and one.idle_seconds < _ALIVE_SECONDS:
                self._notices.add(
                    f"warning: consumer {one.name} was active {one.idle_seconds:.0f} s ago; two "
                    "processes of one name do the same work twice: give each its own"
                )
            elif not one.pending and one.idle_seconds > _FORGOTTEN_SECONDS:
                with suppress(failures.NoPermissionError):  # it is only tidier without them
                    await self._group.forget(one.name)

    async def look_for_unread(self) -> None:
        """Report what was trimmed before anybody read it; each entry once."""
        unread = await self._group.unread()
        told, self._unread = self._unread, unread
        if unread is None:
            return
        known = told.count if told and told.after == unread.after else 0
        if unread.count < 0 and not known:
            self.gaps += 1
            self._notices.add(
                f"entries behind {unread.after.decode()} lost: trimmed by the producer before "
                "they were read; this server does not count them"
            )
        elif unread.count > known:
            span = f"between {unread.after.decode()} and {unread.before.decode()}"
            self._tell_lost(unread.count - known, span)

    async def look_at_others(self, again_seconds: float) -> None:
        """Tell of entries that others have not acknowledged, where nobody will wait for them."""
        group = self._group
        others = [one for one in await group.consumers() if one.name != group.consumer]
        waiting = sum(one.pending for one in others)
        if waiting > 0:
            self._notices.add(
                f"{_entries(waiting)} in the hands of other consumers; if those are gone, run "
                f"this again in {again_seconds:.0f} s"
            )

    def look_at_ids(self, entries: Sequence[Entry]) -> None:
        """Notice ids that go back, as those of another stream do, or that lie in the future."""
        if order(entries[0][0]) <= self._newest:
            self._notices.add("stream reset: its ids begin anew")
        self._newest = order(entries[-1][0])
        ahead = self._newest[0] / 1000 - self._clock.now().timestamp()
        if ahead > _AHEAD_SECONDS and not self._is_ahead:
            self._notices.add(f"stream clock ahead: its ids are {ahead:.0f} s in the future")
        self._is_ahead = ahead > _AHEAD_SECONDS

    def trimmed(self, ids: Sequence[bytes]) -> None:
        """Report entries that were delivered, but trimmed before they were recorded."""
        if ids:
            first, last = min(ids, key=order), max(ids, key=order)
            self._tell_lost(len(ids), f"ids {first.decode()} to {last.decode()}")

    def rescued(self, count: int) -> None:
        """Report entries taken over."""
        self._notices.add(f"{_entries(count)} rescued from consumers that are gone")

    def reset(self) -> None:
        """Report that the stream, or its group, was removed."""
        self._newest, self._unread = (0, 0), None
        self._notices.add("stream reset: it was removed; reading it from its beginning")

    def back(self, seconds: float) -> None:
        """Report the end of an outage."""
        self._notices.add(f"reading again after an outage of {seconds:.1f} s")

    def _tell_lost(self, count: int, span: str) -> None:
        self.lost += count
        self.gaps += 1
        self._notices.add(
            f"{_entries(count)} lost: trimmed by the producer before they were acknowledged, {span}"
        )


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"

"""The port of a feed: envelopes in order, pulled in chunks, acknowledged when recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

CHUNK_SIZE = 1000
"""How many envelopes a feed hands over at most, unless it is told otherwise."""

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""The longest envelope that is read whole: a registration lists thousands of essay ids."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """The bytes of one event and where they stood.

    `oversize` is 0, or the full length in bytes of an envelope of which only the beginning
    was read because it is longer than `MAX_EVENT_BYTES`; `sha256` then is the digest of all.
    `truncated` tells that the source ended before the line did: it may still be whole.
    `refusal` is a reason code and a message where the feed itself knows that it is no use.
    """

    raw: bytes
    position: str
    oversize: int = 0
    sha256: str = ""
    truncated: bool = False
    refusal: tuple[str, str] | None = None


class WholeFile(NamedTuple):
    """A file of envelopes, one a line; the descriptor stays the feed's."""

    path: str
    descriptor: int
    chunk_size: int


class Feed(ABC):
    """An ordered source of envelopes.

    Methods that read may raise `FeedUnavailable`, with what failed, where and what to do.
    """

    name: str
    """What the feed is called on screen, e.g. the file's name."""

    @property
    def may_run_ahead(self) -> bool:
        """Whether, at this moment, a chunk may be read before the one before it is recorded."""
        return False

    @abstractmethod
    async def read(self) -> list[Envelope] | None:
        """Wait for envelopes and return those that are there, or `None` at the end.

        An empty list is legal: it means that waiting was interrupted, not that it is over.
        """

    async def acknowledge(self, ahead: int = 0) -> None:
        """Take note that what was read so far is recorded; most feeds need not know.

        Args:
            ahead: So many chunks, those read last, are not.
        """
        return None

    def give_back(self) -> None:
        """Take note that what was read last is not recorded, and that this is not its fault."""
        return None

    def whole_file(self) -> WholeFile | None:
        """Return the file that all of this feed is, if it is worth a process of its own.

        Whoever has it read elsewhere does not call `read`, and tells `progressed` instead.
        """
        return None

    def progressed(self, size: int) -> None:
        """Take note that so many more bytes were read elsewhere."""
        return None

    @abstractmethod
    async def aclose(self) -> None:
        """Give back whatever was opened; a waiting `read` ends with `None`."""

    @property
    def notices(self) -> list[str]:
        """What an operator should know of this source, e.g. that the file was truncated."""
        return []

    @property
    def trouble(self) -> str:
        """What keeps the feed from reading at this moment; empty while nothing does."""
        return ""

    @property
    def gaps(self) -> int:
        """How often something was, or may have been, missed for good."""
        return 0


class Seekable(Feed):
    """A recorded feed that can be paused, paced and moved in.

    At the end `read` returns `None`, and goes on if `move` goes back. A feed that loops
    returns an empty list instead, with `index` 0: the caller restores the state.
    """

    paused: bool
    speed: float | None
    """Event seconds per second; `None` means as fast as possible."""
    loop: bool

    @property
    @abstractmethod
    def index(self) -> int:
        """How many envelopes have been handed over."""

    @property
    @abstractmethod
    def length(self) -> int:
        """How many envelopes are known; grows until `indexed` has returned."""

    @property
    @abstractmethod
    def span(self) -> tuple[datetime, datetime] | None:
        """The first and last event time of the recording, once known."""

    @property
    @abstractmethod
    def now(self) -> datetime | None:
        """The event time that the replay has reached: the clock of a replayed world."""

    async def indexed(self) -> None:
        """Wait until `length`, `span` and `index_at` speak of the whole recording."""

    @abstractmethod
    def pause(self, paused: bool) -> None:
        """Stop or go on; wakes a waiting `read`."""

    @abstractmethod
    def set_speed(self, speed: float | None) -> None:
        """Set the pace, held to 0.1 to 1000 event seconds per second; `None`: no waiting."""

    @abstractmethod
    def step(self, count: int = 1) -> None:
        """Let `count` more envelopes through although paused; nothing while it plays."""

    @abstractmethod
    def look(self, index: int, count: int) -> list[Envelope]:
        """Return envelopes from an index on, at least one of `count`, without moving there.

        Raises:
            FeedUnavailable: They cannot be read any more.
        """

    @abstractmethod
    def index_at(self, moment: datetime) -> int:
        """Return how many envelopes happen up to and including a moment."""

    @abstractmethod
    def move(self, index: int) -> None:
        """Continue behind the first `index` envelopes; the caller restores the state."""


class Sink(ABC):
    """Where envelopes can be sent, so that a feed brings them elsewhere."""

    name: str
    sent: int
    """How many messages were confirmed."""
    repeated: int
    """How many of them may have arrived twice, since an answer was lost."""
    receivers: int | None
    """How many heard the last message; `None` where that cannot be known."""

    @property
    @abstractmethod
    def trouble(self) -> str:
        """What keeps messages from being sent at the moment; empty if nothing does."""

    @abstractmethod
    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order and wait until they are confirmed; an outage is waited out.

        Raises:
            FeedUnavailable: The sink refuses, or the outage lasts too long.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect."""

"""Moving in a recording: checkpoints, so that going back is as quick as going forward."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import NamedTuple

from engine.account import Account, Books
from engine.backends.mock import Checkpoint, MockBatchStateRepository
from engine.errors import FeedError
from engine.feeds.port import Seekable
from engine.projection import Projection, ProjectionCheckpoint
from engine.repository import BatchStateRepository

CHECKPOINT_EVERY = 5000
"""So many envelopes at least lie between two checkpoints: a twentieth of a second's work."""


MOST_CHECKPOINTS = 64
"""With more, every other one is given up: memory stays bounded however long the recording."""


class _Mark(NamedTuple):
    repository: Checkpoint
    projection: ProjectionCheckpoint
    books: Books


class Timeline:
    """The checkpoints of one replay, and the place somebody wants to go to."""

    def __init__(
        self,
        feed: Seekable,
        repository: BatchStateRepository,
        projection: Projection,
        account: Account,
    ) -> None:
        """Join the parts that go back together.

        Raises:
            FeedError: The repository cannot go back; only the one in memory can.
        """
        if not isinstance(repository, MockBatchStateRepository):
            raise FeedError(
                f"a replay runs on the mock repository, not on {repository.name}; "
                "use `ingest` to apply a recording to it"
            )
        repository.keep_everything()
        self.feed = feed
        self.target: int | None = None
        self._paused = False
        self._stopped = False
        self._every = CHECKPOINT_EVERY
        self._repository = repository
        self._projection = projection
        self._account = account
        self._indexes: list[int] = []
        self._marks: list[_Mark] = []
        self.searching = asyncio.Lock()  # one after the other: each begins where one ended
        self._asked = asyncio.Event()
        self._arrived = asyncio.Event()

    def note(self) -> None:
        """Keep a checkpoint of the present place if the last one is far enough behind."""
        index = self.feed.index
        if self._indexes and index < self._indexes[-1] + self._spacing():
            return
        self._indexes.append(index)
        self._marks.append(
            _Mark(
                self._repository.checkpoint(), self._projection.checkpoint(), self._account.books()
            )
        )
        if len(self._marks) > MOST_CHECKPOINTS:
            del self._indexes[1::2], self._marks[1::2]
            self._every *= 2

    def _spacing(self) -> int:
        return max(self._every, 2 * len(self._marks[-1].projection.batches))

    @property
    def paused(self) -> bool:
        """Whether the replay is paused, or will be when the place asked for is reached."""
        return self.feed.paused if self.target is None else self._paused

    def pause(self, paused: bool) -> None:
        """Stop the replay or let it go on, on the way to a place only when there."""
        self._paused = paused
        if self.target is None:
            self.feed.pause(paused)

    async def ask(self, index: int) -> None:
        """Ask for a place in the recording and wait until the engine is there.

        Raises:
            FeedError: The engine has stopped.
        """
        self._paused = self.paused
        self.target = index
        self._arrived.clear()
        self._asked.set()
        self.feed.pause(self.feed.paused)  # wakes a waiting read
        if not self._stopped:
            await self._arrived.wait()
        if self._stopped:
            raise FeedError("the replay has stopped; start it anew to move in it")

    def start_over(self) -> None:
        """Ask for the beginning, to play on from there, without waiting for it."""
        self._paused = False
        self.target = 0
        self._arrived.clear()
        self._asked.set()

    async def moved(self) -> None:
        """Wait at the end until somebody asks for a place, or to go on."""
        await self._asked.wait()
        self._asked.clear()

    def go_on(self) -> None:
        """Have the feed asked again although it had ended."""
        self._asked.set()

    def stop(self) -> None:
        """Tell whoever waits that the engine will not get there."""
        self._stopped = True
        self._arrived.set()

    def has_looped(self) -> bool:
        """Whether the feed has begun anew while the state still is that of its end."""
        return self.feed.index == 0 and self._account.read > 0

    def rewind(self) -> None:
        """Go to the last checkpoint not behind the target, if the way from there is shorter."""
        self._asked.clear()
        target = self.target or 0
        position = bisect_right(self._indexes, target) - 1
        if self._indexes[position] <= self._account.read == self.feed.index <= target:
            return
        mark = self._marks[position]
        self._repository.restore(mark.repository)
        self._projection.restore(mark.projection)
        self._account.restore(mark.books)
        self.feed.move(self._indexes[position])

    def arrived(self) -> None:
        """Tell whoever asked that the place is reached, unless another was asked for since."""
        if not self._asked.is_set():
            self.target = None
            self.feed.pause(self._paused)
            self._arrived.set()

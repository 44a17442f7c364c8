"""Watching a repository that others write to: reads what changed, writes nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from itertools import islice
from typing import Final, Protocol

from engine.clock import Clock
from engine.errors import BCSError, NotPermitted, RepositoryError, RepositoryUnavailable
from engine.models import BatchRecord
from engine.pacing import Pace
from engine.repository import BatchStateRepository
from engine.together import run_together
from engine.view import Mode

STALE_SECONDS: Final = 10.0
"""What was verified longer ago than this is not shown as live."""

LAGGING_BATCHES: Final = 1000
"""With more batches than this still to be read anew, what is shown lags."""

_FIRST_PAGE: Final = 1000
"""Batches read in one go as long as there is no whole picture yet."""

_PORTION: Final = 250
"""Batches read in one go at most once there is one."""

_SHARE: Final = 0.2
_SEEN_PAUSE_SECONDS: Final = 0.1
_LETTER_SECONDS: Final = 2.0
_FIRST_DELAY_SECONDS: Final = 0.2
_LONGEST_DELAY_SECONDS: Final = 5.0


class ReadModel(Protocol):
    """What takes over the batches that were read."""

    def load(self, records: Iterable[BatchRecord]) -> None:
        """Take over batches as the repository knows them."""

    def forget(self, batch_ids: Iterable[str]) -> None:
        """Let batches go that the repository does not know any more."""


class Observer:
    """Keeps a read model up to date with a repository, by its notices of changes.

    A batch that is missing in one look at all of them is let go when it is missing in the next
    as well: a backend that lost its memory for a moment must not empty the screen.

    Args:
        repository: What is watched; opened for reading.
        model: What is kept up to date.
        clock: Dates what was verified.
        changed: Called after something was taken over, with the batches that were read anew.
        wanted: Tells which batches are looked at.
    """

    def __init__(
        self,
        repository: BatchStateRepository,
        model: ReadModel,
        clock: Clock,
        changed: Callable[[Collection[str]], object],
        wanted: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._repository = repository
        self._model = model
        self._clock = clock
        self._changed = changed
        self._wanted = wanted
        self._named: dict[str, None] = {}
        self._look_at_all = True
        self._news = asyncio.Event()
        self._is_listening = False
        self._count_due = True
        self._known: dict[str, BatchRecord] = {}
        self._missing: set[str] = set()
        self._found: set[str] | None = None  # in the look at all batches that goes on
        self._after = ""
        self._has_looked = False
        self._verified: float | None = None
        self.verified_at: datetime | None = None
        self.trouble = ""
        self.gaps = 0
        self.dead_letters: int | None = None
        self.letters_unknown = "not counted yet"

    @property
    def pending(self) -> int:
        """How many batches are known to have changed and were not read yet."""
        return len(self._named)

    @property
    def mode(self) -> Mode:
        """What to call the picture that the read model gives."""
        if self.is_stale:
            return Mode.STALE
        if self.trouble:
            return Mode.RECONNECTING
        if not self._has_looked:
            return Mode.STARTING  # what is not there yet may be there nevertheless
        if self._repository.is_provisional:
            return Mode.PROVISIONAL
        return Mode.LAGGING if self.pending > LAGGING_BATCHES else Mode.LIVE

    @property
    def is_stale(self) -> bool:
        """Whether the last word of the repository is too old to call anything live."""
        if self._verified is None:
            return False
        return self._clock.monotonic() - self._verified > STALE_SECONDS

    async def run(self) -> None:
        """Watch until cancelled; while the repository fails, try again and again."""
        delay = _FIRST_DELAY_SECONDS
        while True:
            heard = self._verified
            try:
                await self._follow()
            except RepositoryError as error:
                self.gaps += not self.trouble
                self.trouble = str(error)
                self._changed(())
            if self._verified != heard:
                delay = _FIRST_DELAY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
            self._look_at_all = True  # notices were missed

    async def _follow(self) -> None:
        """Listen and read side by side until one of them fails.

        Nothing is read before the first word of the notices: from then on none is missed.
        """
        self._after, self._found = "", None
        self._is_listening = False
        await run_together(self._listen(), self._read(), self._ask_for_letters())

    async def _listen(self) -> None:
        async with aclosing(self._repository.changes()) as changes:
            async for names in changes:
                if names is None:
                    self._look_at_all = True
                else:
                    self._named.update(dict.fromkeys(names))
                self._note_contact()
                if not self._is_listening or names is None or names:
                    self._news.set()
                self._is_listening = True
        raise RepositoryUnavailable(f"{self._repository.name} sends no more notices of changes")

    async def _read(self) -> None:
        """Read one thing after the other, so that what was read first is taken over first.

        What is looked at waits for one portion of the rest at most, and for the end of a pause.
        """
        now = asyncio.get_running_loop().time
        seen = Pace(now, _SHARE, _PORTION, _SEEN_PAUSE_SECONDS)
        rest = Pace(now, _SHARE, _PORTION, _LONGEST_DELAY_SECONDS)
        while True:
            self._news.clear()
            names = self._named_and_wanted() if self._is_listening else []
            has_rest = self._is_listening and self._has_rest()
            if names and now() >= seen.due:
                with seen.reading():
                    await self._read_named(names)
            elif has_rest and not self._has_looked:
                await self._read_rest(_FIRST_PAGE)
            elif has_rest and now() >= rest.due:
                with rest.reading():
                    await self._read_rest(rest.portion)
            else:
                due = [*([seen.due] if names else []), *([rest.due] if has_rest else [])]
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(due) - now() if due else None):
                        await self._news.wait()

    def _named_and_wanted(self) -> list[str]:
        wanted = dict.fromkeys(self._wanted())
        return [name for name in wanted if name in self._named][:_PORTION]

    def _has_rest(self) -> bool:
        return bool(self._named) or self._look_at_all or self._found is not None or self._count_due

    async def _read_rest(self, portion: int) -> None:
        """Read some of what was named, and go on with the look at all batches.

        As long as that is the first one it finds what was named as well.
        """
        if self._named and self._has_looked:
            await self._read_named(list(islice(self._named, portion)))
        if self._look_at_all and self._found is None:
            self._look_at_all, self._found = False, set()
        if self._found is not None:
            await self._look_further(self._found, portion)
        elif self._count_due:
            await self._count_letters()

    async def _read_named(self, names: Sequence[str]) -> None:
        for name in names:  # before they are read: what is named meanwhile is read again
            self._named.pop(name, None)
        self._take(await self._repository.summaries(names, limit=len(names)))

    async def _look_further(self, found: set[str], limit: int) -> None:
        """Read the next page of all batches; behind the last one, let go what is missing."""
        page = await self._repository.summaries(after=self._after, limit=limit)
        if page:
            self._after = page[-1].batch_id
            found.update(record.batch_id for record in page)
            self._take(page)
            return
        self._after, self._found = "", None
        if not self._has_looked:
            self._has_looked = True
            self._changed(())
        gone = self._known.keys() - found
        if confirmed := gone & self._missing:
            for name in confirmed:
                del self._known[name]
            self._model.forget(confirmed)
            self._changed(confirmed)
        self._missing = gone - confirmed
        self._look_at_all |= bool(self._missing)
        self._note_contact()

    async def _ask_for_letters(self) -> None:
        """Have dead letters counted ever so often: no notice tells of them."""
        while True:
            await asyncio.sleep(_LETTER_SECONDS)
            self._count_due = True
            self._news.set()

    async def _count_letters(self) -> None:
        self._count_due = False
        count, unknown = await self._letters()
        if (count, unknown) != (self.dead_letters, self.letters_unknown):
            self.dead_letters, self.letters_unknown = count, unknown
            self._changed(())

    async def _letters(self) -> tuple[int | None, str]:
        """Return how many dead letters there are, or why that is not known.

        Whether the backend is there at all is for those to tell who read the batches.
        """
        try:
            return await self._repository.count_dead_letters(), ""
        except BCSError as error:
            refused = isinstance(error, NotPermitted) or isinstance(
                error.__cause__, PermissionError
            )
            return None, "not permitted" if refused else "unknown"

    def _take(self, records: Iterable[BatchRecord]) -> None:
        """Take over what differs from what is known."""
        news = [one for one in records if self._known.get(one.batch_id) != one]
        self._known.update((record.batch_id, record) for record in news)
        self._note_contact()
        if news:
            self._model.load(news)
            self._changed([record.batch_id for record in news])

    def _note_contact(self) -> None:
        self._verified = self._clock.monotonic()
        self.verified_at = self._clock.now()
        if self.trouble:
            self.trouble = ""
            self._changed(())

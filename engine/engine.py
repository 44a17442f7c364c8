"""The engine: pulls chunks from a feed, records them, projects them, shows views."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from datetime import datetime

import msgspec

from engine.account import Account
from engine.auditing import Audit, audit_lasting
from engine.clock import Clock, SystemClock
from engine.errors import BCSError, FeedError, RepositoryError
from engine.failures import last_failure, next_failure
from engine.feeds.port import Feed, Seekable
from engine.intake import Intake
from engine.models import EssayState
from engine.observing import Observer
from engine.projection import Projection
from engine.recorder import Recorder
from engine.repository import BatchStateRepository, DeadLetter
from engine.tally import Tally
from engine.timeline import Timeline
from engine.together import run_together
from engine.view import BatchRow, Health, Mode, ReplayState, View

_REOPEN_SECONDS = 0.1
_STRIDE = 1000


class Engine:
    """Runs one feed into one repository and shows what comes of it.

    All methods belong to one event loop. `run` is the only one that reads the feed.
    """

    def __init__(
        self,
        repository: BatchStateRepository,
        feed: Feed | None = None,
        clock: Clock | None = None,
        *,
        pace: Clock | None = None,
        stall_seconds: float = 300.0,
        patience_seconds: float | None = None,
        observing: bool = False,
        insecure: bool = False,
        headless: bool = False,
    ) -> None:
        """Join the parts; nothing is opened or read yet.

        Args:
            repository: Where facts are kept; the caller closes it.
            feed: Where envelopes come from; the caller closes it.
            clock: The time that ages are counted to.
            pace: The time that events are counted by, where that is another one.
            stall_seconds: When a silent batch counts as stalled.
            patience_seconds: How long an unavailable repository is tried again before
                `run` gives up; `None` means for ever.
            observing: Follow what others write to the repository instead of a feed.
            insecure: The way to the repository is not protected; shown to whoever looks.
            headless: Nobody will look: there is the account of events, and no views.
        """
        self.repository = repository
        self._insecure = insecure
        self.feed = feed
        self.clock: Clock = clock or SystemClock()
        self._patience_seconds = patience_seconds
        # Changes of two chunks may come in either order; only a tally does not mind.
        self._at_once = repository.chunks_at_once if headless else 1
        self._projection = Tally() if headless else Projection(stall_seconds)
        self._account = Account(self.clock, pace)
        self._recorder = Recorder(
            repository,
            self._projection,
            self._account,
            self.clock,
            feed.name if feed else "",
            patience_seconds,
            self._tell,
            self._at_once,
        )
        self._timeline = (
            Timeline(feed, repository, self._projection, self._account)
            if isinstance(feed, Seekable)
            else None
        )
        self._observer = (
            Observer(
                repository,
                self._projection,
                self.clock,
                self._noticed,
                lambda: self._wanted or (),
            )
            if observing
            else None
        )
        self._reopening = asyncio.Event()
        self._mode = Mode.STARTING
        self._trouble = ""
        self._revision = 0
        self._wake = asyncio.Event()
        self._view: View | None = None
        self._wanted: Collection[str] | None = None
        self._unseen: frozenset[str] = frozenset()

    # --- writing ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Load what is known, then process the feed until it ends.

        A seekable feed that has ended is waited on: it may be moved back. An observing engine
        goes on until it is cancelled.

        Raises:
            FeedError: The feed cannot be read.
            RepositoryError: Facts cannot be kept, and patience has run out.
        """
        try:
            if self._observer:
                await run_together(self._observer.run(), self._follow_open_batch())
            await self._recorder.load()
            if self._timeline:
                self._timeline.note()
            self._go(self._running_mode())
            if self._timeline:
                await self._play(self._timeline)
            elif self.feed is not None:
                await self._take_in(self.feed)
            self._go(Mode.ENDED)
        except BCSError as error:
            self._trouble = str(error)
            self._go(Mode.FAILED)
            raise
        finally:
            if self._timeline:
                self._timeline.stop()

    async def _take_in(self, feed: Feed) -> None:
        intake = Intake(
            feed,
            self.repository,
            self._recorder,
            at_once=self._at_once,
            patience_seconds=self._patience_seconds,
            told=lambda: self._go(Mode.LIVE),
        )
        await intake.run()

    async def _play(self, timeline: Timeline) -> None:
        """Process a recording, forth and back, until cancelled."""
        while True:
            while timeline.target is not None:
                await self._travel(timeline)
            chunk = await timeline.feed.read()
            if chunk is None:
                self._go(Mode.ENDED)
                await timeline.moved()
                continue
            if chunk:
                await self._recorder.take(chunk)
                await timeline.feed.acknowledge()
                timeline.note()
            elif timeline.has_looped():
                timeline.rewind()
                await self._recorder.reopen()
            self._go(self._running_mode())
            await asyncio.sleep(0)

    async def submit(self, raw: bytes) -> None:
        """Put one envelope through the same path as the feed's: the one door for writes.

        Raises:
            RepositoryError: It could not be kept, and patience has run out.
        """
        await self._recorder.submit(raw)

    # --- observing -------------------------------------------------------------------------

    def _noticed(self, batch_ids: Collection[str]) -> None:
        grid = self._projection.grid
        if grid and grid.batch_id in batch_ids:
            self._reopening.set()
        self._wake.set()

    async def _follow_open_batch(self) -> None:
        """Look anew at the essays of the open batch after it changed, and not all the time."""
        while True:
            await self._reopening.wait()
            self._reopening.clear()
            started = self.clock.monotonic()
            with suppress(RepositoryError):  # the observer says so, and tries again
                await self._recorder.reopen()
            spent = self.clock.monotonic() - started
            await asyncio.sleep(max(_REOPEN_SECONDS, 4 * spent))

    # --- showing ---------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The picture of this moment. What it shows as changed, `views` will show as well."""
        view = self._build(self._wanted)
        self._unseen = view.changed
        return view

    async def views(self, fps: float = 30) -> AsyncIterator[View]:
        """Yield pictures: at once, then after changes, at most `fps` times a second."""
        wanted = None
        while True:
            view = self._build(wanted)
            self._unseen = frozenset()
            if self._projection.is_dirty:
                self._wake.set()
            yield view
            await asyncio.sleep(1 / fps)
            await self._news_or_wake()
            wanted = self._wanted

    def look_at(self, batch_ids: Collection[str]) -> None:
        """Say which batches are on screen: `views` keeps the others up to date less eagerly."""
        self._wanted = batch_ids

    async def _news_or_wake(self) -> None:
        """Wait for something applied, or for a row that changes by itself."""
        while not self._wake.is_set():
            due = self._projection.next_wake
            pause = 1.0
            if due is not None:
                pause = min(1.0, max(0.02, (due - self.clock.now()).total_seconds()))
                if due <= self.clock.now():
                    break
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                if self._account.is_fading() or self._mode is Mode.REPLAY or self._has_word():
                    break
        self._wake.clear()

    def _has_word(self) -> bool:
        """Whether the feed has something to tell that the newest picture does not show."""
        shown, health = self._view.health if self._view else None, self.health
        return shown is None or (shown.trouble, shown.notices) != (health.trouble, health.notices)

    def _build(self, wanted: Collection[str] | None = None) -> View:
        now = self._time_of_data()
        rows, changed = self._projection.rows(now, wanted)
        self._revision += 1
        self._view = View(
            self._revision,
            now,
            rows,
            changed | self._unseen,
            self.health,
            self._account.log,
            self._replay_state(),
            self._projection.grid,
        )
        return self._view

    def _time_of_data(self) -> datetime:
        """Return the time that ages are counted to: it stands still while nothing is verified."""
        observer = self._observer
        if observer and observer.verified_at and (observer.trouble or observer.is_stale):
            return observer.verified_at
        return self.clock.now()

    @property
    def health(self) -> Health:
        """The account of events and the state of feed and backend."""
        health = self._health()
        observer = self._observer
        if observer is None:
            return health
        return msgspec.structs.replace(
            health,
            mode=Mode.FAILED if health.mode is Mode.FAILED else observer.mode,
            feed="",
            trouble=observer.trouble or health.trouble,
            time=self.clock.now(),
            verified_at=observer.verified_at,
            silences=self.repository.silences,
            pending=observer.pending,
            gaps=observer.gaps,
            disputes=self._projection.disputes,
            newest_at=self._projection.newest_at,
            dead_letters=observer.dead_letters or 0,
            letters_unknown=observer.letters_unknown,
            read_only=True,
            hints=tuple(self.repository.hints),
        )

    def _health(self) -> Health:
        feed = self.feed
        account = self._account
        mode = self._mode
        waiting = feed.trouble if feed and mode is Mode.LIVE else ""
        if self._recorder.trouble and mode is not Mode.FAILED:
            mode = Mode.RETRYING
        elif waiting:
            mode = Mode.RECONNECTING
        elif mode is Mode.LIVE and self.repository.is_provisional:
            mode = Mode.PROVISIONAL
        return Health(
            mode,
            feed.name if feed else "no feed",
            self.repository.name,
            account.read,
            account.applied,
            account.ignored,
            account.duplicates,
            account.dead_letters,
            account.in_flight,
            account.events_per_second(),
            None if self._timeline else account.lag_seconds,
            self._trouble or self._recorder.trouble or waiting,
            (*(feed.notices if feed else ()), *self.repository.notices),
            dict(account.ignored_types),
            gaps=feed.gaps if feed else 0,
            insecure=self._insecure,
        )

    @property
    def batch_count(self) -> int:
        """How many batches are known."""
        return len(self._projection)

    def row(self, batch_id: str) -> BatchRow | None:
        """Return the row of a batch in the newest picture."""
        return self._view.batches.get(batch_id) if self._view else None

    async def open(self, batch_id: str) -> None:
        """Keep the essays of a batch in the views from now on.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        await self._recorder.open(batch_id)

    def close_batch(self) -> None:
        """Let the essays of the open batch go."""
        self._projection.close()
        self._wake.set()

    async def essay(self, batch_id: str, essay_id: str) -> EssayState | None:
        """Return everything that is known of one essay."""
        essays = await self.repository.essays(batch_id, [essay_id])
        return essays[0] if essays else None

    async def audit(self, batch_id: str) -> Audit:
        """Return who says what of a batch's counts.

        Raises:
            NotFound: Nothing is known about the batch.
        """
        return await audit_lasting(batch_id, self.repository.evidence)

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters in the order of their arrival."""
        return await self.repository.dead_letters(after=after, limit=limit)

    # --- replay ----------------------------------------------------------------------------

    def pause(self, paused: bool) -> None:
        """Stop the replay or let it go on; from its end it goes on at the beginning."""
        timeline = self._recorded()
        timeline.pause(paused)
        if self._mode is Mode.ENDED and not paused:
            timeline.start_over()
        elif self._mode in (Mode.REPLAY, Mode.PAUSED):
            self._go(self._running_mode())

    def set_speed(self, speed: float | None) -> None:
        """Set the pace in event seconds per second; `None` means without waiting."""
        self._recorded().feed.set_speed(speed)
        self._wake.set()

    def set_loop(self, loop: bool) -> None:
        """Start over at the end of the recording, or stay there."""
        timeline = self._recorded()
        timeline.feed.loop = loop
        if loop:
            timeline.go_on()
        self._wake.set()

    def step(self, count: int = 1) -> None:
        """Let the next events through although the replay is paused."""
        timeline = self._recorded()
        if timeline.target is None:
            timeline.feed.step(count)

    async def seek(
        self,
        index: int | None = None,
        moment: datetime | None = None,
        fraction: float | None = None,
    ) -> None:
        """Go to a place in the recording, in either direction, and return when there.

        Args:
            index: Behind so many envelopes.
            moment: Behind all that happened up to this event time.
            fraction: Behind this part of all envelopes, 0 to 1.

        Raises:
            FeedError: The feed is no recording, or the engine has stopped.
        """
        timeline = self._recorded()
        feed = timeline.feed
        await feed.indexed()
        if moment is not None:
            index = feed.index_at(moment)
        elif fraction is not None:
            index = round(fraction * feed.length)
        if index is not None:
            await timeline.ask(min(max(index, 0), feed.length))

    async def seek_failure(self, direction: int) -> bool:
        """Pause right behind the next failure (1) or the one before (-1); tell if there is any.

        Raises:
            FeedError: The feed is no recording, or the engine has stopped.
        """
        timeline = self._recorded()
        async with timeline.searching:
            await timeline.feed.indexed()
            find = next_failure if direction > 0 else last_failure
            place = await find(timeline.feed)
            if place is None:
                return False
            self.pause(True)
            await timeline.ask(place)
            return True

    async def _travel(self, timeline: Timeline) -> None:
        """Restore the nearest checkpoint and read on, without waiting, to the target."""
        feed = timeline.feed
        timeline.rewind()
        while timeline.target is not None and feed.index < timeline.target:
            feed.pause(True)  # also drops steps that were not taken: none must be left over
            feed.step(min(timeline.target - feed.index, _STRIDE))
            chunk = await feed.read()
            if chunk is None:
                break
            if chunk:
                await self._recorder.take(chunk)
                timeline.note()
            await asyncio.sleep(0)
        await self._recorder.reopen()
        timeline.arrived()
        self._go(self._running_mode())

    def _recorded(self) -> Timeline:
        if self._timeline is None:
            raise FeedError("only a replay can be paused, paced and moved in")
        return self._timeline

    def _replay_state(self) -> ReplayState | None:
        if self._timeline is None:
            return None
        feed = self._timeline.feed
        start, end = feed.span or (None, None)
        return ReplayState(
            self._timeline.paused,
            feed.speed,
            feed.loop,
            feed.index,
            feed.length,
            start,
            end,
            feed.now,
        )

    def _running_mode(self) -> Mode:
        if self._timeline is None:
            return Mode.LIVE
        return Mode.PAUSED if self._timeline.paused else Mode.REPLAY

    def _go(self, mode: Mode) -> None:
        self._mode = mode
        self._wake.set()

    def _tell(self) -> None:
        self._wake.set()

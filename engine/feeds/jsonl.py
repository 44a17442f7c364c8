"""A JSONL file as a feed: read once to its end, or followed while others write to it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from pathlib import Path

from engine.clock import Clock, SystemClock, rfc3339
from engine.errors import FeedUnavailable
from engine.feeds.files import open_regular, open_text, unavailable
from engine.feeds.lines import envelopes
from engine.feeds.port import CHUNK_SIZE, Envelope, Feed, WholeFile
from engine.feeds.tail import Tail

DRAIN_SECONDS = 60.0
"""For how long a writer may go on in a file that was renamed before we let go of it."""

ELSEWHERE_BYTES = 16 * 1024 * 1024
"""From which size a file is worth a process of its own: to start one takes a tenth of a second."""

_NOTICES_KEPT = 20


class JsonlFeed(Feed):
    """The lines of one file.

    Followed, it survives rotation by renaming, truncation, and the file being away for a
    while; what it saw of that is in `notices`. A half line waits for its end.

    Args:
        path: The file.
        follow: Wait for more at the end, and for the file if it is not there yet.
        clock: Stamps notices and measures the quiet of renamed files.
        chunk_size: How many envelopes are handed over at most.
        poll_seconds: How often a followed file is looked at when it has nothing new.

    Raises:
        FeedUnavailable: The file is missing, unreadable, special, or not text.
    """

    def __init__(
        self,
        path: str | Path,
        follow: bool = False,
        clock: Clock | None = None,
        *,
        chunk_size: int = CHUNK_SIZE,
        poll_seconds: float = 0.2,
    ) -> None:
        self._path = Path(path)
        self.name = self._path.name
        self._follow = follow
        self._clock = clock or SystemClock()
        self._chunk_size = chunk_size
        self._poll_seconds = poll_seconds
        self._closed = asyncio.Event()
        self._ready: list[Envelope] = []
        self._notices: deque[str] = deque(maxlen=_NOTICES_KEPT)
        self._current: Tail | None = None
        self._renamed: dict[Tail, float] = {}
        self._open_first()

    def _open_first(self) -> None:
        try:
            self._current = Tail(open_text(self._path))
        except FeedUnavailable as error:
            if not (self._follow and isinstance(error.__cause__, FileNotFoundError)):
                raise
            self._note("waiting for the file: it does not exist yet")

    @property
    def may_run_ahead(self) -> bool:
        """Always: nobody has to be told what was recorded."""
        return True

    async def read(self) -> list[Envelope] | None:
        """Return the next lines, waiting for them if the file is followed.

        Raises:
            FeedUnavailable: The system refuses to read on.
        """
        await asyncio.sleep(0)
        while not self._closed.is_set():
            more = self._advance()
            if len(self._ready) >= self._chunk_size or (self._ready and not more):
                chunk = self._ready[: self._chunk_size]
                del self._ready[: self._chunk_size]
                return chunk
            if more:
                await asyncio.sleep(0)
            elif not self._follow:
                return None
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._closed.wait()
        return None

    def whole_file(self) -> WholeFile | None:
        """Return the file if nothing was read of it yet, nobody waits for more, and it is long."""
        if self._follow or self._current is None or self._current.size < ELSEWHERE_BYTES:
            return None
        if self._current.offset or self._closed.is_set():
            return None
        return WholeFile(str(self._path), self._current.descriptor, self._chunk_size)

    async def aclose(self) -> None:
        """Close the file; a waiting `read` ends."""
        self._closed.set()
        for tail in self._tails():
            tail.close()
        self._current = None
        self._renamed.clear()

    @property
    def notices(self) -> list[str]:
        """The last things that happened to a followed file."""
        return list(self._notices)

    def _tails(self) -> list[Tail]:
        return [*self._renamed, *([self._current] if self._current else [])]

    def _advance(self) -> bool:
        """Read a block of what there is; return whether there was anything."""
        if len(self._ready) >= self._chunk_size:
            return True
        more = False
        try:
            for tail in self._tails():
                if self._follow:
                    self._check(tail)
                lines = tail.read()
                if lines is None:
                    self._at_end(tail)
                else:
                    self._ready += envelopes(lines)
                    more = True
                    if tail in self._renamed:
                        self._renamed[tail] = self._clock.monotonic()
            return (self._follow and not more and self._look()) or more
        except OSError as error:
            raise unavailable(str(self._path), error) from error

    def _check(self, tail: Tail) -> None:
        what, half = tail.restarted()
        if what:
            self._ready += envelopes(half)
            self._note(
                f"{what}; reading it from the start; what was written between a copy and "
                "the truncation cannot be recovered"
            )

    def _at_end(self, tail: Tail) -> None:
        """Let go of a file that has no more lines and will get none."""
        if not self._follow:
            self._current = None
        elif self._clock.monotonic() - self._renamed.get(tail, float("inf")) > DRAIN_SECONDS:
            del self._renamed[tail]
        else:
            return
        self._ready += envelopes(tail.close())

    def _look(self) -> bool:
        """See whether another file stands under the name now; return whether one does."""
        try:
            status = self._path.stat()
            if self._current and self._current.identity == (status.st_dev, status.st_ino):
                return False
            successor = Tail(open_regular(self._path))
        except FileNotFoundError:
            if self._current:
                self._note_once("waiting for the file: it is gone")
            return False
        except OSError as error:
            self._note_once(f"waiting for the file: {unavailable(self.name, error)}")
            return False
        except FeedUnavailable as error:
            self._note_once(f"waiting for the file: {error}")
            return False
        if self._current:
            self._renamed[self._current] = self._clock.monotonic()
        what = "another file under this name" if self._current else "the file is there now"
        self._current = successor
        self._note(f"{what}; reading it from the start")
        return True

    def _note(self, what: str) -> None:
        self._notices.append(f"{self.name}: {what} ({rfc3339(self._clock.now())})")

    def _note_once(self, what: str) -> None:
        if not (self._notices and self._notices[-1].startswith(f"{self.name}: {what}")):
            self._note(what)

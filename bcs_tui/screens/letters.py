"""Dead letters: what came in and could not be used, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from bcs_tui.format import clean, clock, count, fit, stamp
from bcs_tui.screens.page import Context, Page
from bcs_tui.widgets.block import Block
from bcs_tui.widgets.ink import Line, Piece, wrapped
from bcs_tui.widgets.line_view import LineView, Sight
from engine import BCSError, DeadLetter, View

_SHOWN = 1000
_PAYLOAD_LINES = 4


class LetterRows:
    """Dead letters, newest first; a source for a `LineView`."""

    def __init__(self) -> None:
        self.letters: Sequence[DeadLetter] = ()
        self.now: datetime | None = None

    def __len__(self) -> int:
        return len(self.letters)

    def key(self, index: int) -> str:
        return str(len(self.letters) - index)

    def find(self, key: str) -> int | None:
        index = len(self.letters) - int(key)
        return index if 0 <= index < len(self.letters) else None

    def letter(self, key: str | None) -> DeadLetter | None:
        """Return the letter of a row."""
        index = self.find(key) if key is not None else None
        return None if index is None else self.letters[index]

    def sight(self, index: int) -> Sight:
        return Sight(self.letters[index])

    def paint(self, index: int, width: int) -> Line:
        letter = self.letters[index]
        place = 16 if width >= 100 else 10
        return [
            (f" {fit(clock(letter.received_at, self.now), 12)}  ", "muted"),
            (fit(clean(letter.position).partition(",")[0], place) + "  ", ""),
            (fit(clean(letter.reason), 18) + "  ", "failed"),
            (fit(clean(letter.message, 400), max(0, width - place - 39)), ""),
        ]


class LettersScreen(Page):
    """What could not be used."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "reload", show=False)]
    HINTS: ClassVar[Sequence[tuple[str, str]]] = (
        ("1", "fleet"),
        ("2", "events"),
        ("r", "read again"),
        ("q", "quit"),
    )
    KEYS: ClassVar[Sequence[tuple[str, str]]] = (("r", "read them again"),)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.rows = LetterRows()
        self._read_at = -1
        self._trouble = ""
        self.columns = Block(id="columns")
        self.table = LineView(self.rows, id="main")
        self.empty = Block(id="empty")
        self.payload = Block(id="payload")

    def body(self) -> Iterable[Widget]:
        return (self.columns, self.table, self.empty, self.payload)

    def update_view(self, view: View, changed: Iterable[str] | None) -> None:
        self.rows.now = view.now
        if view.health.dead_letters != self._read_at and (self._read_at < 0 or self.may_settle()):
            self._read_at = view.health.dead_letters
            self.action_reload()
        self.columns.show(_columns)
        self.set_class(not len(self.rows), "-nothing")
        self._show_empty()

    def on_screen_resume(self) -> None:
        """Read them again: what came while another page was open may not have been counted."""
        self._read_at = -1

    def second(self) -> None:
        if self.view is not None and self.view.health.dead_letters != self._read_at:
            self.update_view(self.view, ())

    def action_reload(self) -> None:
        """Read the newest dead letters again."""
        # Not a coroutine yet: one that is replaced at once would never be awaited.
        work: Any = self._read  # Textual's own types refuse a function
        self.run_worker(work, group="letters", exclusive=True)

    async def _read(self) -> None:
        engine = self.context.engine
        try:
            letters: list[DeadLetter] = []
            after = 0
            while page := await engine.dead_letters(after=after, limit=_SHOWN):
                after += len(page)
                letters = [*letters, *page][-_SHOWN:]
        except BCSError as error:
            self._trouble = str(error)
            self._show_empty()
            if len(self.rows):
                self.say(self._trouble, "warn")
            return
        self._trouble = ""
        self._show_empty()
        self.rows.letters = letters[::-1]
        self.table.update_rows()
        self.set_class(not letters, "-nothing")
        self._show_payload()
        self.show_heading()

    def _show_empty(self) -> None:
        """Say why there is nothing to see: there is nothing, or it cannot be read."""
        text, ink = self._trouble, "warn"
        if not text:
            text, ink = "No dead letter: all that was read was usable.", ""
        self.empty.show(
            lambda width: [
                [("   ", ""), *line] for line in wrapped(clean(text, 400), ink, max(10, width - 4))
            ]
        )

    @on(LineView.Moved)
    def _show_payload(self) -> None:
        letter = self.rows.letter(self.table.key)
        if letter is None:
            self.payload.show(lambda _width: ())
            return
        head: list[Piece] = [(f" {clean(letter.source, 60)}", "strong")]
        head.append((f"  {clean(letter.position)}  {stamp(letter.received_at)}", "muted"))
        head.append((f"  {letter.size:,} bytes", "muted"))
        if letter.field:
            head.append((f"  field {clean(letter.field)}", "accent"))
        why = clean(letter.message, 400)
        body = letter.payload.decode("utf-8", "backslashreplace")
        self.payload.show(
            lambda width: [
                head,
                *([(" ", ""), *line] for line in wrapped(why, "failed", width - 2)),
                *_payload(body, width),
            ]
        )

    def heading(self, view: View) -> tuple[Sequence[Line], Line]:
        shown, total = len(self.rows), max(view.health.dead_letters, len(self.rows))
        unknown = "" if shown else view.health.letters_unknown
        parts: list[Line] = [[("Dead letters", "strong"), (f"  {unknown or count(total)}", "")]]
        if shown < total:
            parts.append([(f"newest {count(shown)} shown", "muted")])
        return parts, [(f"{self.table.cursor + 1}/{shown}" if shown else "", "")]

    def selected_id(self) -> str | None:
        letter = self.rows.letter(self.table.key)
        return letter.sha256 if letter else None


def _columns(width: int) -> list[Line]:
    place = 16 if width >= 101 else 10
    text = f" {fit('RECEIVED', 12)}  {fit('POSITION', place)}  {fit('REASON', 18)}  WHY"
    return [[(text, "muted")]]


def _payload(body: str, width: int) -> list[Line]:
    room = max(10, width - 2)
    text = clean(body, room * _PAYLOAD_LINES)
    return [[(" " + text[i : i + room], "")] for i in range(0, len(text), room)]

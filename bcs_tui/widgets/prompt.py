"""The line at the bottom in which something is typed: a filter, a command, a time."""

from __future__ import annotations

from collections.abc import Iterable

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static


class Prompt(Horizontal):
    """Asks for a line of text; hidden when it has nothing to ask."""

    DEFAULT_CSS = """
    Prompt { height: 1; display: none; background: $panel; }
    Prompt.-open { display: block; }
    Prompt > Static { width: auto; padding: 0 1; color: $primary; text-style: bold; }
    Prompt > Input { width: 1fr; height: 1; border: none; padding: 0; background: $panel; }
    Prompt > Input:focus { border: none; background: $panel; background-tint: 0%; }
    """

    class Edited(Message):
        """The text changed while it is typed."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    class Done(Message):
        """The line was entered, or given up: then `text` is `None`."""

        def __init__(self, kind: str, text: str | None) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    kind = ""

    def compose(self) -> ComposeResult:
        yield Static(id="prompt-label")
        yield Input(select_on_focus=False)

    def ask(
        self, kind: str, label: str, value: str = "", *, hint: str = "", words: Iterable[str] = ()
    ) -> None:
        """Open the line; `words` are suggested while typing."""
        self.kind = kind
        self.query_one("#prompt-label", Static).update(Content(label))
        line = self.query_one(Input)
        line.placeholder = hint
        line.suggester = SuggestFromList(words, case_sensitive=False) if words else None
        with line.prevent(Input.Changed):
            line.value = value
        line.cursor_position = len(value)
        self.add_class("-open")
        # At once: `focus` would come behind keys that are on their way already.
        self.screen.set_focus(line)

    @property
    def is_open(self) -> bool:
        """Whether something is being typed."""
        return self.has_class("-open")

    def _close(self, text: str | None) -> None:
        self.remove_class("-open")
        self.post_message(self.Done(self.kind, text))

    @on(Input.Changed)
    def _edited(self, event: Input.Changed) -> None:
        event.stop()
        if self.is_open:
            self.post_message(self.Edited(self.kind, event.value))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._close(event.value)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self._close(None)

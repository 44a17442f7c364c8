"""What the command palette finds: batches by id, and the commands of the dashboard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from bcs_tui.format import clean
from bcs_tui.screens.batch import BatchScreen
from bcs_tui.screens.page import Page
from bcs_tui.widgets.states import state_of

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_HITS = 20

_ACTIONS = (
    ("Fleet", "every batch, worst first", "show('fleet')"),
    ("Events", "what came in and what became of it", "show('events')"),
    ("Dead letters", "what could not be used, and why", "show('letters')"),
    ("Dark or light", "change the theme", "shade"),
    ("Help", "the keys of this page", "help"),
    ("Quit", "leave the dashboard", "quit"),
)


class Commands(Provider):
    """Batches and commands; ids are shown as text, never as markup."""

    async def discover(self) -> Hits:
        for title, text, action in _ACTIONS:
            yield DiscoveryHit(title, self._action(action), help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, text, action in _ACTIONS:
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), self._action(action), help=text)
        page = self.screen
        if not isinstance(page, Page) or page.view is None:
            return
        wanted, hits = query.lower(), 0
        for batch_id, row in page.view.batches.items():
            if wanted not in batch_id.lower():
                continue
            name = clean(batch_id, 80)
            yield Hit(
                len(query) / max(len(query), len(batch_id)),
                Content(name),
                partial(page.app.push_screen, BatchScreen(page.context, batch_id)),
                text=name,
                help=f"batch, {state_of(row)}",
            )
            hits += 1
            if hits == _MOST_HITS:
                return

    def _action(self, action: str) -> Callable[[], object]:
        return cast("Callable[[], object]", partial(self.app.run_action, action))

"""The top line: what is going on, where from and where to, can it be trusted, what time is it."""

from __future__ import annotations

from collections.abc import Sequence

from bcs_tui.format import clean, clock, compact, count, duration, fit
from bcs_tui.widgets.ink import Line, Piece, fitting, spread, width_of, wrapped
from engine import Health, Mode, View

_BADGES = {
    Mode.STARTING: "badge-calm",
    Mode.LIVE: "badge-live",
    Mode.REPLAY: "badge-calm",
    Mode.PAUSED: "badge-hold",
    Mode.ENDED: "badge-calm",
    Mode.RETRYING: "badge-alert",
    Mode.LAGGING: "badge-hold",
    Mode.RECONNECTING: "badge-alert",
    Mode.STALE: "badge-alert",
    Mode.PROVISIONAL: "badge-hold",
    Mode.FAILED: "badge-alert",
}


def health(view: View, title: str, width: int, *, behind: bool = False) -> list[Line]:
    """Return the top line; what counts trouble comes before what is merely interesting.

    Args:
        view: The newest picture.
        title: What the dashboard was started as.
        width: In cells.
        behind: Whether the terminal is too slow for the frames.
    """
    state = view.health
    badge: list[Piece] = [(f" {_word(state)} ", _BADGES[state.mode])]
    if state.read_only:
        badge.append((" READ-ONLY " if width >= 100 else " RO ", "badge-calm"))
    if state.insecure:
        badge.append((" INSECURE ", "badge-alert"))
    now = clock(state.time or view.now)
    time: list[Piece] = [(f"{now} ", "strong"), ("UTC ", "muted")]
    if width < 70:
        time = [(f"{now}Z ", "strong")]
    name: list[Piece] = [(f" {clean(title, 40)} ", "strong")] if width >= 100 else [(" ", "")]
    room = width - width_of(badge) - width_of(time) - width_of(name) - 5
    return [
        spread([*name, *badge, ("  ", ""), *fitting(_parts(view, behind, room), room)], time, width)
    ]


def _word(state: Health) -> str:
    """Return the word of the badge, with the moment since when it is stale."""
    if state.mode is Mode.STALE and state.verified_at:
        return f"STALE since {clock(state.verified_at)}"
    return state.mode.upper()


def _watched(view: View, behind: bool, room: int) -> Sequence[Line]:
    """Return what counts where others record and we only look."""
    state = view.health
    parts: list[Line] = [[(clean(state.backend, 24), "")]]
    if state.dead_letters:
        parts.append([(f"dead {count(state.dead_letters)} !", "failed")])
    elif state.letters_unknown:
        parts.append([("dead ", "muted"), (state.letters_unknown, "")])
    if state.gaps:
        parts.append([(f"gaps {count(state.gaps)} !", "warn")])
    parts += _disputes(state)
    if behind:
        parts.append([("rendering behind !", "warn")])
    if state.newest_at:
        age = max(0.0, (view.now - state.newest_at).total_seconds())
        parts.append([("newest event ", "muted"), (f"{duration(age)} old", "")])
    if state.pending:
        parts.append([("to read ", "muted"), (compact(state.pending), "")])
    if verified := _verified(state):
        parts.append(verified)
    return parts


_LONG_SILENCE_SECONDS = 5.0


def _verified(state: Health) -> Line:
    """Return how long ago everything shown was verified: what the part last heard of says."""
    if state.verified_at is None or state.time is None:
        return []
    age = max(0.0, (state.time - state.verified_at).total_seconds())
    part, silence = max(state.silences.items(), key=lambda one: one[1], default=("", 0.0))
    if silence > max(age, _LONG_SILENCE_SECONDS):
        return [(f"{clean(part, 24)} ", ""), ("verified ", "muted"),
                (f"{duration(silence)} ago", "warn")]  # fmt: skip
    return [("verified ", "muted"), (f"{duration(max(age, silence))} ago", "")]


def _disputes(state: Health) -> list[Line]:
    """Return how many batches an audit would be about; nothing if there is none."""
    return [[(f"audit {count(state.disputes)} !", "warn")]] if state.disputes else []


def _parts(view: View, behind: bool, room: int) -> Sequence[Line]:
    state = view.health
    if state.read_only:
        return _watched(view, behind, room)
    way: Line = [
        (clean(state.feed, 24 if room < 90 else 48), ""),
        (" → ", "muted"),
        (clean(state.backend, 24), ""),
    ]
    parts: list[Line] = [way]
    if state.dead_letters:
        parts.append([(f"dead {count(state.dead_letters)} !", "failed")])
    if state.gaps:
        parts.append([(f"gaps {count(state.gaps)} !", "warn")])
    if behind:
        parts.append([("rendering behind !", "warn")])
    if view.replay is None:
        late = state.lag_seconds is not None and state.lag_seconds > 30
        lag = duration(state.lag_seconds)
        parts.append([("lag ", "muted"), (lag + (" !" if late else ""), "warn" if late else "")])
    parts.append(
        [(fit(compact(int(state.events_per_second)), 5, right=True), ""), (" ev/s", "muted")]
    )
    for name, number in (
        ("read", state.read),
        ("applied", state.applied),
        ("ignored", state.ignored),
        ("dup", state.duplicates),
    ):
        parts.append([(f"{name} ", "muted"), (compact(number), "")])
    if state.in_flight:
        parts.append([("in flight ", "muted"), (compact(state.in_flight), "")])
    return parts


_MOST_TROUBLE = 3


def trouble(view: View, width: int) -> list[Line]:
    """Return the lines that say what is wrong, or none."""
    state = view.health
    text, ink = clean(state.trouble, 400), "failed"
    if not text and state.notices:
        text, ink = clean(state.notices[-1], 400), "warn"
    if not text:
        return []
    lines = wrapped(text, ink, max(10, width - 4))[:_MOST_TROUBLE]
    return [[(" ! " if number == 0 else "   ", ink), *line] for number, line in enumerate(lines)]

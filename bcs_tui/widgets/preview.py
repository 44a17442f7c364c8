"""The selected batch beside the fleet, where there is room for it."""

from __future__ import annotations

from datetime import datetime

from bcs_tui.format import NOTHING, Glyph, clean, compact, duration, fit, percent, rate, stamp
from bcs_tui.widgets.bars import progress
from bcs_tui.widgets.focus import AHEAD, DISPUTED, next_step, why
from bcs_tui.widgets.ink import Line, Piece, clip, wrapped
from bcs_tui.widgets.phase_strip import strip, took
from bcs_tui.widgets.states import INK_OF, mark, outlook, phase_word, state_of, step_state
from engine import BatchRow


def preview(row: BatchRow, now: datetime, glyphs: Glyph, width: int) -> list[Line]:
    """Return the lines of the preview."""
    width -= 2
    summary = row.summary
    state = state_of(row)
    lines: list[Line] = [
        [],
        [mark(state, glyphs), (f" {clean(summary.batch_id, 80)}", "strong")],
        *wrapped(why(row, now), INK_OF[state], width),
        [],
        *strip(summary, glyphs, width),
        [],
    ]
    for step in summary.steps:
        name: list[Piece] = [mark(step_state(step), glyphs), (" " + fit(clean(step.step), 16), "")]
        numbers = f"{compact(step.completed):>6} of {compact(step.total):<6}"
        bar = progress(step, max(6, width - 40), ascii_only=glyphs.ascii_only)
        part = percent(step.completed, step.total).rjust(5)
        lines.append([*name, (numbers, "muted"), *bar, (part, "")])
        word, ink = phase_word(step)
        details: list[Piece] = [("  " + fit(word, 16), ink)]
        skipped, pending = step.missing
        for number, title, number_ink in (
            (step.failed, "failed", "failed"),
            (step.unknown, "unknown", "warn"),
            (skipped, "skipped", "muted"),
            (pending, "pending", ""),
        ):
            if number:
                details.append((f"{compact(number)} {title}  ", number_ink))
        if (lasted := took(step, now)) != NOTHING:
            details.append((f"{'for' if step.running else 'took'} {lasted}", "muted"))
        lines += [details, []]
    return [clip([("  ", ""), *line], width + 2) for line in [*lines, *_facts(row, now, width)]]


def _facts(row: BatchRow, now: datetime, width: int) -> list[Line]:
    summary = row.summary
    text, ink = outlook(row, now)
    last = ("last event", stamp(summary.last_event_at), "")
    if row.is_ahead:
        last = ("last event", f"{last[1]}, {AHEAD}", "warn")
    facts: list[tuple[str, str, str]] = [
        ("essays", f"{summary.seen:,} seen", ""),
        ("pipeline", clean(summary.pipeline or "-"), ""),
        ("owner", clean(summary.owner or "-"), ""),
        ("started", stamp(summary.started_at), ""),
        last,
        ("ETA", text, ink),
    ]
    if summary.expected is not None:
        facts[0] = ("essays", f"{summary.expected:,} expected, {summary.seen:,} seen", "")
    if row.eta:
        facts[-1] = ("ETA", f"{text}, from {row.eta.basis}", "")
    if row.rate_per_minute:
        facts.insert(-1, ("rate", f"{rate(row.rate_per_minute)} results a minute", ""))
    if row.summary.status != "processing":
        facts.pop()
    if row.is_measuring:
        facts[-1] = ("rate, ETA", "are measured: few results were seen yet", "muted")
    if summary.rejected:
        facts.insert(1, ("uploads", f"{summary.rejected:,} rejected", "warn"))
    if row.stalled_since is not None:
        silence = duration((now - row.stalled_since).total_seconds())
        facts[-1] = ("silent", f"for {silence}; {next_step(row)}", "warn")
    if summary.is_disputed:
        facts.insert(0, ("audit", DISPUTED, "warn"))
    return [
        [(fit(name, 12), "muted"), (fit(value, width - 12), look)] for name, value, look in facts
    ]

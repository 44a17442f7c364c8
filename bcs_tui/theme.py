"""Two quiet themes, and the inks that everything is drawn with.

An ink is a role (`failed`, `muted` …), not a colour: themes decide what it looks like, and a
state is never told by its ink alone.
"""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

DARK: Final = Theme(
    name="bcs-dark",
    dark=True,
    primary="#86a8cf",
    secondary="#7d8ca3",
    accent="#86a8cf",
    success="#85b38c",
    warning="#d8b06c",
    error="#e0877d",
    foreground="#cdd3dc",
    background="#15181d",
    surface="#1b1f26",
    panel="#21262e",
    boost="#21262e",
    variables={
        "ink-strong": "#eef1f5",
        "ink-muted": "#949eac",
        "ink-quiet": "#808a99",
        "ink-faint": "#4c5563",
        "ink-live": "#1d3326",
        "ink-alert": "#3d2323",
        "ink-hold": "#3a301c",
        "cursor": "#283040",
        "cursor-idle": "#21262e",
        "input-cursor-background": "#cdd3dc",
        "input-selection-background": "#86a8cf 35%",
        "scrollbar": "#2f3743",
        "scrollbar-hover": "#46505f",
        "scrollbar-active": "#86a8cf",
        "scrollbar-background": "#15181d",
        "scrollbar-background-hover": "#15181d",
        "scrollbar-background-active": "#15181d",
    },
)

LIGHT: Final = Theme(
    name="bcs-light",
    dark=False,
    primary="#2d5f96",
    secondary="#5f6b7c",
    accent="#2d5f96",
    success="#2b6e3f",
    warning="#865300",
    error="#a8322a",
    foreground="#2c323b",
    background="#fbfaf7",
    surface="#f3f1ec",
    panel="#eae7e0",
    boost="#eae7e0",
    variables={
        "ink-strong": "#0f1318",
        "ink-muted": "#5b6471",
        "ink-quiet": "#666e7a",
        "ink-faint": "#b4b6b9",
        "ink-live": "#d9ebdc",
        "ink-alert": "#f6dcd8",
        "ink-hold": "#f5e8cc",
        "cursor": "#dde6f0",
        "cursor-idle": "#eae7e0",
        "input-cursor-background": "#2c323b",
        "input-selection-background": "#2d5f96 30%",
        "scrollbar": "#d3d0c8",
        "scrollbar-hover": "#b9b5ab",
        "scrollbar-active": "#2d5f96",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
    },
)

THEMES: Final = (DARK, LIGHT)

INKS: Final = {
    "strong": "color: $ink-strong; text-style: bold;",
    "muted": "color: $ink-muted;",
    "quiet": "color: $ink-quiet;",
    "faint": "color: $ink-faint;",
    "accent": "color: $primary;",
    "done": "color: $success;",
    "running": "color: $primary;",
    "failed": "color: $error;",
    "warn": "color: $warning;",
    "badge-live": "color: $success; background: $ink-live; text-style: bold;",
    "badge-calm": "color: $primary; background: $cursor; text-style: bold;",
    "badge-hold": "color: $warning; background: $ink-hold; text-style: bold;",
    "badge-alert": "color: $error; background: $ink-alert; text-style: bold;",
    "cursor": "background: $cursor;",
    "cursor-idle": "background: $cursor-idle;",
}
"""What each ink is, in terms of the theme. `quiet` is for zeros and the like; `faint` is for
ornament, never for meaning."""

INK_CLASSES: Final = frozenset(f"ink--{name}" for name in INKS)
INK_CSS: Final = "\n".join(f".ink--{name} {{ {rules} }}" for name, rules in INKS.items()) + (
    "\nApp:nocolor .ink--cursor { text-style: reverse; }"
    "\nApp:nocolor .ink--cursor-idle { text-style: underline; }"
)

"""Whatever the text, what comes out of the sanitiser is harmless and stays as it is."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from bcs_tui.format import clean

NASTY = st.text(
    st.sampled_from(
        "a[]\x00\x07\x08\x1b\x7f\x9b\x9d\u0301\u0489\u200d\u202e\u2066\ufe0f\ufeff\ud800漢❤"
    )
)
ANY = st.text(st.characters(exclude_categories=())) | NASTY
LIMITS = st.integers(1, 300)


@given(ANY, LIMITS)
@example("\u0301" * 3, 1)
@example("\U000e0041" * 60, 200)
def test_nothing_that_controls_a_terminal_is_left(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY, LIMITS)
def test_cleaning_twice_changes_nothing(text: str, limit: int) -> None:
    once = clean(text, limit)
    assert clean(once, limit) == once


@given(ANY)
def test_marks_do_not_pile_up(text: str) -> None:
    height = 0
    for character in clean(text, 10_000):
        height = height + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        assert height <= 2


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200))
def test_plain_text_is_left_alone(text: str) -> None:
    assert clean(text) == text

"""How values look: floors, units, no negative ages, and text that cannot harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bcs_tui import format as f

NOW = datetime(2026, 2, 3, 14, 2, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("completed", "total", "shown"),
    [
        (0, 0, "-"),
        (0, 9, "0%"),
        (1761, 1766, "99%"),
        (1766, 1766, "100%"),
        (999_999, 1_000_000, "99%"),
    ],
)
def test_percent_is_floored_and_full_only_when_complete(
    completed: int, total: int, shown: str
) -> None:
    assert f.percent(completed, total) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (9_999, "9999"), (10_000, "10.0k"), (12_399, "12.3k"), (999_999, "999k"),
     (1_000_000, "1.0M"), (999_999_999, "999M"), (3_100_000_000, "3.1G")],
)  # fmt: skip
def test_compact_fits_five_characters_and_never_rounds_up(number: int, shown: str) -> None:
    assert f.compact(number) == shown
    assert len(shown) <= 5


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (float("nan"), "-"), (float("inf"), "-"), (-5, "0.0s"), (1.13, "1.1s"),
     (9.94, "9.9s"), (9.96, "9s"), (48, "48s"), (60, "1m00"), (218, "3m38"),
     (3_720, "1h02m"), (183_600, "2d03h")],
)  # fmt: skip
def test_durations(seconds: float | None, shown: str) -> None:
    assert f.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3600, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (86_399, "23h"), (86_400, "1d")],
)
def test_ages_have_one_unit_and_the_future_counts_as_now(seconds: int, shown: str) -> None:
    assert f.age(NOW - timedelta(seconds=seconds), NOW) == shown
    assert f.age(None, NOW) == "-"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0, 3, "<5s"), (50, 70, "50–70s"), (360, 540, "6–9m"), (3600, 9000, "1–3h"), (9, 9, "9s"),  # noqa: RUF001
     (1, float("inf"), "-"), (-10, 8, "0–8s")],  # noqa: RUF001
)  # fmt: skip
def test_an_eta_is_a_range_in_one_unit(low: float, high: float, shown: str) -> None:
    assert f.eta(low, high) == shown


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0.0"),
        (3.14, "3.1"),
        (412.9, "412"),
        (123_456, "123k"),
    ],
)
def test_rates_fit_five_characters(rate: float | None, shown: str) -> None:
    assert f.rate(rate) == shown


def test_a_clock_time_says_the_day_when_it_is_another() -> None:
    assert f.clock(NOW) == f.clock(NOW, NOW) == "14:02:07"
    assert f.clock(NOW, NOW + timedelta(days=1)) == "Feb  3 14:02"
    assert f.clock(NOW, NOW + timedelta(days=400)) == "2026 Feb  3"
    assert f.clock(None, NOW) == "-"
    assert f.stamp(NOW) == "2026-02-03 14:02:07 UTC"


def test_text_is_fitted_to_cells_not_characters() -> None:
    assert f.fit("abc", 5) == "abc  "
    assert f.fit("abc", 5, right=True) == "  abc"
    assert f.fit("abcdef", 4) == "abc…"
    assert f.fit("漢字漢字", 5) == "漢字…"
    assert f.fit("漢字漢字", 4) == "漢 …"
    assert f.fit("abc", 0) == f.fit("abc", -3) == ""


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("plain [b]markup[/b] stays", "plain [b]markup[/b] stays"),
        ("\x1b[2J\x07", "␛[2J␇"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("a\x9bb\x7f", "a<9b>b␡"),
        ("a\u202eb\u2066c", "a<202e>b<2066>c"),
        ("a\u200bb\ufeff\u200d", "a<200b>b<feff><200d>"),
        ("❤\ufe0f", "❤<fe0f>"),
        ("\U000e0041", "<e0041>"),
        ("\ud800", "<d800>"),
        ("a\tb\nc\r", "a␉b␊c␍"),
        ("a\u00a0b\u3000c\u2028d", "a b c<2028>d"),
        ("e\u0301", "e\u0301"),
        ("e" + "\u0301" * 40, "e\u0301\u0301"),
        ("\u0301x", "◌\u0301x"),
        ("שלום 漢字 Ünïcode", "שלום 漢字 Ünïcode"),
        ("\u3164\u2800", "<3164><2800>"),
    ],
)  # fmt: skip
def test_hostile_characters_become_visible(hostile: str, harmless: str) -> None:
    assert f.clean(hostile) == harmless


def test_long_text_is_cut_and_says_so() -> None:
    assert f.clean("x" * 4_096) == "x" * 199 + "…"
    assert f.clean("x" * 200) == "x" * 200
    assert f.clean("\x1b" * 5, limit=3) == "␛␛…"
    assert len(f.clean("e" + "\u0301" * 100_000)) <= 200


def test_every_state_has_a_glyph_of_its_own_shape_in_ascii_too() -> None:
    unicode, plain = f.Glyph(), f.Glyph(ascii_only=True)
    kinds = ("done", "failed", "problems", "stalled", "running", "ready", "pending", "skipped", "?")
    assert len({unicode[kind] for kind in kinds}) == len(kinds)
    assert len({plain[kind] for kind in kinds}) == len(kinds)
    assert all(plain[kind].isascii() for kind in kinds)

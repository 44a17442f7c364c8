"""Pipelines: their order, and what a batch still needs of them."""

from __future__ import annotations

from graphlib import CycleError

import pytest

from engine.errors import NotFound, SettingsError
from engine.models import BatchRecord
from engine.pipelines import (
    Phase,
    Planned,
    dependencies,
    order,
    parse_pipelines,
    phases_of,
    pipelines,
    remaining,
)
from engine.summaries import BatchSummary, summarize

SOUND = """
[short]
phases = ["one", "two"]
[phases.one]
after = []
[phases.two]
after = ["one"]
"""


def test_the_pipelines_that_ship() -> None:
    assert phases_of() == {
        "ai_feedback": ("spellcheck", "nlp", "ai_feedback"),
        "cj_assessment": ("spellcheck", "cj_assessment"),
        "nlp": ("spellcheck", "nlp"),
        "comprehensive": ("spellcheck", "cj_assessment", "nlp", "ai_feedback"),
    }
    assert dependencies() == {
        "spellcheck": (),
        "nlp": ("spellcheck",),
        "cj_assessment": ("spellcheck",),
        "ai_feedback": ("spellcheck", "nlp"),
    }
    assert all(line.description for line in pipelines().values())


@pytest.mark.parametrize("name", list(phases_of()))
def test_the_listed_order_respects_the_dependencies(name: str) -> None:
    assert order(pipelines()[name].phases) == phases_of()[name]


def test_phases_stand_behind_what_they_need_and_otherwise_as_listed() -> None:
    phases = [Phase("d", ("b", "c")), Phase("c", ("a",)), Phase("b", ("a",)), Phase("a", ())]
    assert order(phases) == ("a", "c", "b", "d")


def test_a_needed_phase_of_another_pipeline_is_left_out() -> None:
    assert order([Phase("two", ("one",))]) == ("two",)


def test_a_circle_has_no_order() -> None:
    with pytest.raises(CycleError):
        order([Phase("a", ("b",)), Phase("b", ("a",))])


def test_a_description_may_be_missing() -> None:
    assert parse_pipelines(SOUND)["short"].description == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[short]", "[short"),
        ('"two"]', '"three"]'),
        ('["one"]', '["two"]'),
        ('["one"]', '["unheard_of"]'),
        ("after = []", "before = []"),
        ("after = []", "after = 7"),
        ("[phases", "[phase"),
        ("[short]\nphases", "short"),
    ],
)
def test_pipelines_that_make_no_sense_are_refused_in_one_line(old: str, new: str) -> None:
    assert old in SOUND
    with pytest.raises(SettingsError, match=r"^pipelines: [^\n]+$"):
        parse_pipelines(SOUND.replace(old, new))


def state(**completed: int) -> BatchSummary:
    counts = {step: [number, 0] for step, number in completed.items()}
    return summarize(BatchRecord("b1", expected=3, seen=3, counts=counts), phases_of())


def test_what_is_complete_is_left_out() -> None:
    assert remaining("nlp", state(spellcheck=3, nlp=1)) == (
        Planned("spellcheck", False, "already completed for all 3 essays"),
        Planned("nlp", True, "2 of 3 essays lack it"),
    )


def test_of_an_unknown_batch_everything_would_run() -> None:
    empty = summarize(BatchRecord("b1"), phases_of())
    plan = remaining("comprehensive", empty)
    assert [line.phase for line in plan] == list(phases_of()["comprehensive"])
    assert {(line.runs, line.reason) for line in plan} == {(True, "no essay has completed it")}


def test_an_unknown_pipeline_is_not_found_and_the_known_ones_are_named() -> None:
    with pytest.raises(NotFound, match=r"no pipeline 'x'; there are: ai_feedback, "):
        remaining("x", state())

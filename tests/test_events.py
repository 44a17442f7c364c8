"""What becomes of the envelopes of real services."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from envelopes import START, at, document, encode, refs, spellchecked_document, stamp, vector

from engine import bounds
from engine.bounds import Refused, identifier
from engine.events import Event, Ignored, Rejected, checked_time, parse
from engine.models import (
    COMPLETED,
    FAILED,
    PENDING,
    BatchFact,
    EssaysFact,
    Fact,
    PhaseFact,
    RegistrationFact,
    StepFact,
)
from engine.payloads import IGNORED_TYPES, PAYLOADS

SYSTEM = {"timestamp": stamp(5), "error_info": {}}
BASE = {"timestamp": stamp(5)}


def facts_of(event_type: str, data: dict[str, Any]) -> tuple[Fact, ...]:
    event = parse(encode(document(event_type, data)))
    assert isinstance(event, Event), event
    return event.facts


def essay_update(status: str, **more: Any) -> dict[str, Any]:
    return {
        "entity_id": "e1",
        "parent_id": "b1",
        "status": status,
        "system_metadata": SYSTEM,
        **more,
    }


def lists(succeeded: list[str], failed: list[str]) -> dict[str, list[str]]:
    return {"successful_essay_ids": succeeded, "failed_essay_ids": failed}


ESSAYS = EssaysFact("b1", ("e1", "e2"), at(5))

ABOUT_BATCHES: list[tuple[str, dict[str, Any], tuple[Fact, ...]]] = [
    (
        "huleedu.batch.essays.registered.v1",
        {
            "entity_id": "b1",
            "expected_essay_count": 3,
            "essay_ids": ["e1", "e2", "e1"],
            "metadata": BASE,
            "user_id": "t1",
        },
        (RegistrationFact("b1", 3, ("e1", "e2"), at(5), "t1"),),
    ),
    (
        "huleedu.file.essay.content.provisioned.v1",
        {"entity_id": "b1", "file_upload_id": "u1", **BASE},
        (BatchFact("b1", "provisioned", "u1", "", at(5)),),
    ),
    (
        "huleedu.file.essay.validation.failed.v1",
        {"entity_id": "b1", "file_upload_id": "u1", **BASE},
        (BatchFact("b1", "rejected", "u1", "", at(5)),),
    ),
    (
        "huleedu.els.essay.slot.assigned.v1",
        {"batch_id": "b1", "essay_id": "e1", "original_file_name": "Åsa.docx", **BASE},
        (EssaysFact("b1", ("e1",), at(5), "Åsa.docx"),),
    ),
    (
        "huleedu.els.excess.content.provisioned.v1",
        {"batch_id": "b1", "text_storage_id": "s1", **BASE},
        (BatchFact("b1", "excess", "s1", "", at(5)),),
    ),
    (
        "huleedu.batch.content.provisioning.completed.v1",
        {"batch_id": "b1", "essays_for_processing": refs(["e1", "e2"]), **BASE},
        (BatchFact("b1", "content_complete", "", "r1", at(5)), ESSAYS),
    ),
    (
        "huleedu.els.batch.validation.errors.v1",
        {"batch_id": "b1", "failed_essays": [], "error_summary": {}, "metadata": BASE},
        (BatchFact("b1", "content_errors", "", "r1", at(5)),),
    ),
    (
        "huleedu.els.batch.validation.errors.v1",
        {
            "batch_id": "b1",
            "failed_essays": refs(["e1", "e2"]),
            "error_summary": {"critical_failure": True},
            "metadata": BASE,
        },
        (BatchFact("b1", "content_failed", "", "r1", at(5)), ESSAYS),
    ),
    (
        "huleedu.batch.student.matching.initiate.command.v1",
        {"entity_id": "b1", "essays_to_process": refs(["e1", "e2"]), **BASE},
        (BatchFact("b1", "matching", "initiated", "r1", at(5)), ESSAYS),
    ),
    (
        "huleedu.batch.student.matching.requested.v1",
        {"entity_id": "b1", "essays_to_process": [], **BASE},
        (BatchFact("b1", "matching", "requested", "r1", at(5)),),
    ),
    (
        "huleedu.batch.author.matches.suggested.v1",
        {"batch_id": "b1", "match_results": refs(["e1", "e2"]), **BASE},
        (BatchFact("b1", "matching", "suggested", "r1", at(5)), ESSAYS),
    ),
    (
        "huleedu.class.student.associations.confirmed.v1",
        {"batch_id": "b1", "associations": refs(["e1", "e2"]), **BASE},
        (BatchFact("b1", "matching", "confirmed", "r1", at(5)), ESSAYS),
    ),
    (
        "huleedu.els.batch.essays.ready.v1",
        {"batch_id": "b1", "ready_essays": refs(["e1", "e2"]), "metadata": BASE},
        (BatchFact("b1", "ready", "", "r1", at(5)), ESSAYS),
    ),
    (
        "huleedu.commands.batch.pipeline.v1",
        {"batch_id": " b1 ", "requested_pipeline": " nlp "},
        (BatchFact("b1", "requested", "nlp", "r1", at(0)),),
    ),
    (
        "huleedu.pipeline.denied.v1",
        {"batch_id": "b1", "requested_pipeline": "nlp", "denial_reason": "why", **BASE},
        (BatchFact("b1", "denied", "why", "r1", at(5)),),
    ),
    (
        "huleedu.batch.phase.skipped.v1",
        {"batch_id": "b1", "phase_name": "nlp", "metadata": BASE},
        (PhaseFact("b1", "nlp", "skipped", "r1", at(5), "already_completed"),),
    ),
    *(
        (
            event_type,
            {"entity_id": "b1", "essays_to_process": refs(["e1", "e2"]), **BASE},
            (PhaseFact("b1", phase, "started", "r1", at(5), value), ESSAYS),
        )
        for event_type, phase, value in [
            ("huleedu.els.spellcheck.initiate.command.v1", "spellcheck", ""),
            ("huleedu.batch.cj_assessment.initiate.command.v1", "cj_assessment", ""),
            ("huleedu.batch.nlp.initiate.command.v2", "nlp", ""),
            ("huleedu.batch.ai_feedback.initiate.command.v1", "ai_feedback", ""),
            ("huleedu.batch.nlp.processing.requested.v2", "nlp", "dispatched"),
        ]
    ),
    (
        "huleedu.els.cj_assessment.requested.v1",
        {"entity_id": "b1", "essays_for_cj": [], **BASE},
        (PhaseFact("b1", "cj_assessment", "started", "r1", at(5), "dispatched"),),
    ),
    (
        "huleedu.cj_assessment.failed.v1",
        {
            "entity_id": "b1",
            "cj_assessment_job_id": "17",
            "system_metadata": {"error_info": {"error_message": "too few"}},
            **BASE,
        },
        (PhaseFact("b1", "cj_assessment", "failed_critically", "r1", at(5), "too few"),),
    ),
    (
        "huleedu.cj_assessment.failed.v1",
        {"entity_id": "b1", "cj_assessment_job_id": "17", "system_metadata": {}, **BASE},
        (PhaseFact("b1", "cj_assessment", "failed_critically", "r1", at(5)),),
    ),
    (
        "batch.pipeline.completed",
        {"batch_id": "b1", "final_status": "cancelled", "metadata": BASE},
        (BatchFact("b1", "completed", "cancelled", "r1", at(5)),),
    ),
    (
        "huleedu.batch.pipeline.completed.v1",
        {"batch_id": "b1", "final_status": "completed_successfully", "metadata": {}},
        (BatchFact("b1", "completed", "completed_successfully", "r1", at(0)),),
    ),
    (
        "huleedu.ras.batch.results.ready.v1",
        {"batch_id": "b1", "overall_status": "completed_with_failures", **BASE},
        (BatchFact("b1", "results", "completed_with_failures", "r1", at(5)),),
    ),
]


@pytest.mark.parametrize(("event_type", "data", "expected"), ABOUT_BATCHES)
def test_events_about_batches(
    event_type: str, data: dict[str, Any], expected: tuple[Fact, ...]
) -> None:
    assert facts_of(event_type, data) == expected


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("pending", PENDING),
        ("in_progress", PENDING),
        ("completed", COMPLETED),
        ("failed", FAILED),
    ],
)
def test_a_thin_spellcheck_result(status: str, outcome: int) -> None:
    event = parse(encode(spellchecked_document("b1", "e1", status, 5)))
    assert isinstance(event, Event)
    (fact,) = event.facts
    metadata = {
        "completion_status": ("pending", "failed", "success")[outcome],
        "timestamp": "2026-03-02T09:00:05Z",
        "processing_duration_ms": 900,
    }
    assert isinstance(fact, StepFact)
    assert json.loads(fact.metadata) == metadata
    assert (fact.batch_id, fact.essay_id, fact.step) == ("b1", "e1", "spellcheck")
    assert (fact.outcome, fact.time, fact.detail) == (outcome, at(5), 1)
    assert fact.event_id == event.event_id


def test_step_metadata_never_holds_the_event_id() -> None:
    for raw in [*vector("comprehensive_batch"), *vector("rare_events")]:
        event = parse(raw)
        for fact in event.facts if isinstance(event, Event) else ():
            if isinstance(fact, StepFact):
                assert event.event_id not in fact.metadata


def step_of(event_type: str, data: dict[str, Any]) -> tuple[StepFact, dict[str, Any]]:
    (fact,) = facts_of(event_type, data)
    assert isinstance(fact, StepFact)
    return fact, json.loads(fact.metadata)


def test_a_rich_spellcheck_result() -> None:
    failure = {"error_code": "X", "context": {"tries": [1, 2]}}
    fact, metadata = step_of(
        "huleedu.essay.spellcheck.results.v1",
        {
            "entity_id": "e1",
            "batch_id": "b1",
            "status": "spellcheck_failed",
            "system_metadata": {**BASE, "error_info": failure},
            "corrections_made": 4,
            "processing_duration_ms": 12,
            "correction_metrics": {"word_count": 300},
        },
    )
    assert (fact.step, fact.outcome, fact.detail, fact.time) == ("spellcheck", FAILED, 2, at(5))
    assert metadata["error"] == failure
    assert (metadata["corrections_made"], metadata["word_count"]) == (4, 300)


def test_an_nlp_result_names_no_batch() -> None:
    fact, metadata = step_of(
        "huleedu.essay.nlp.completed.v1",
        {
            "essay_id": "e1",
            "nlp_metrics": {"word_count": 7, "sentence_count": 2, "language_detected": "sv"},
            "grammar_analysis": {"error_count": 1},
            **BASE,
        },
    )
    assert (fact.batch_id, fact.step, fact.outcome) == ("", "nlp", COMPLETED)
    assert (metadata["language"], metadata["grammar_errors"]) == ("sv", 1)


@pytest.mark.parametrize(
    "event_type", ["huleedu.essay.aifeedback.completed.v1", "essay.aifeedback.completed"]
)
def test_ai_feedback_in_both_spellings(event_type: str) -> None:
    details = {"model_version": "m1", "feedback_type": "full", "processing_time_seconds": 1.5}
    data = essay_update(
        "ai_feedback_success", feedback_details=details, additional_metrics={"tokens": 9}
    )
    fact, metadata = step_of(event_type, data)
    assert (fact.batch_id, fact.step, fact.outcome, fact.detail) == (
        "b1",
        "ai_feedback",
        COMPLETED,
        2,
    )
    assert metadata["metrics"] == {"tokens": 9}


@pytest.mark.parametrize(
    ("status", "step", "outcome"),
    [
        ("awaiting_spellcheck", "spellcheck", PENDING),
        ("spellchecking_in_progress", "spellcheck", PENDING),
        ("spellchecked_success", "spellcheck", COMPLETED),
        ("spellcheck_failed", "spellcheck", FAILED),
        ("nlp_processing_in_progress", "nlp", PENDING),
        ("cj_assessment_success", "cj_assessment", COMPLETED),
        ("grammar_check_failed", "grammar_check", FAILED),
        ("awaiting_editor_revision", "editor_revision", PENDING),
    ],
)
@pytest.mark.parametrize("event_type", ["essay.status.updated.v1", "essay.status.events"])
def test_essay_status(event_type: str, status: str, step: str, outcome: int) -> None:
    fact, metadata = step_of(event_type, essay_update(status))
    assert (fact.step, fact.outcome, fact.time) == (step, outcome, at(5))
    assert metadata["status"] == status


def test_an_essay_status_that_is_about_no_step_ties_the_essay_to_its_batch() -> None:
    facts = facts_of("essay.status.updated.v1", essay_update("uploaded"))
    assert facts == (EssaysFact("b1", ("e1",), at(5)),)


def test_an_essay_status_about_no_step_and_no_batch_carries_no_progress() -> None:
    data = essay_update("uploaded", parent_id=None)
    event = parse(encode(document("essay.status.updated.v1", data)))
    assert event == Ignored("essay.status.updated.v1", at(5), True)


def test_a_spellcheck_request_makes_the_step_pending() -> None:
    (fact,) = facts_of("huleedu.essay.spellcheck.requested.v1", essay_update("awaiting_spellcheck"))
    assert isinstance(fact, StepFact)
    assert fact == StepFact("b1", "e1", "spellcheck", PENDING, at(5), fact.event_id)


def test_lists_of_a_batch_are_about_its_essays_as_well() -> None:
    phase, *steps = facts_of(
        "huleedu.batch.nlp.analysis.completed.v1",
        {
            "batch_id": "b1",
            "status": "completed_with_failures",
            "processing_summary": lists(["e1"], ["e2"]),
            **BASE,
        },
    )
    assert phase == PhaseFact("b1", "nlp", "reported", "r1", at(5), "completed_with_failures")
    assert [
        (step.essay_id, step.outcome, step.detail, step.metadata)
        for step in steps
        if isinstance(step, StepFact)
    ] == [("e1", COMPLETED, 0, "{}"), ("e2", FAILED, 0, "{}")]


def test_cj_lists_come_with_the_job_that_gave_them() -> None:
    phase, step = facts_of(
        "huleedu.cj_assessment.completed.v1",
        {
            "entity_id": "b1",
            "status": "completed_successfully",
            "cj_assessment_job_id": "17",
            "processing_summary": lists(["e1"], []),
            **BASE,
        },
    )
    assert isinstance(phase, PhaseFact)
    assert phase.status == "reported"
    assert isinstance(step, StepFact)
    assert (step.detail, json.loads(step.metadata)["cj_job_id"]) == (1, "17")


def test_cj_results_leave_out_anchors() -> None:
    result = {"essay_id": "e1", "rank": 1, "letter_grade": "A", "normalized_score": 0.75}
    data = {
        "batch_id": "b1",
        "cj_assessment_job_id": "17",
        "essay_results": [result, result | {"essay_id": "anchor", "is_anchor": True}],
        **BASE,
    }
    fact, metadata = step_of("huleedu.assessment.result.published.v1", data)
    assert (fact.essay_id, fact.detail) == ("e1", 2)
    assert (metadata["rank"], metadata["letter_grade"], metadata["normalized_score"]) == (
        1,
        "A",
        0.75,
    )


def test_a_phase_outcome_that_is_not_final_is_a_report() -> None:
    data = {
        "batch_id": "b1",
        "phase_name": "nlp",
        "phase_status": "processing_pipelines",
        "processed_essays": [],
        "failed_essay_ids": [],
    }
    facts = facts_of("huleedu.els.batch.phase.outcome.v1", data)
    assert facts == (PhaseFact("b1", "nlp", "reported", "r1", at(0), "processing_pipelines"),)


def test_every_known_type_is_understood_or_ignored() -> None:
    assert not IGNORED_TYPES & PAYLOADS.keys()
    seen = {json.loads(raw)["event_type"] for raw in vector("comprehensive_batch")}
    assert seen <= IGNORED_TYPES | PAYLOADS.keys()


@pytest.mark.parametrize("event_type", sorted(IGNORED_TYPES))
def test_types_without_progress_are_known_and_ignored(event_type: str) -> None:
    assert parse(encode(document(event_type, None))) == Ignored(event_type, START, True)


def test_an_unknown_type_is_ignored_by_name() -> None:
    assert parse(encode(document("new.v1", [1]))) == Ignored("new.v1", START, False)
    timeless = encode(document("new.v1", {}), event_timestamp=None)
    assert parse(timeless) == Ignored("new.v1", None, False)


@pytest.mark.parametrize("name", ["\x1b[2J", "x" * 201])
def test_a_type_that_cannot_be_shown_is_refused(name: str) -> None:
    event = parse(encode(document(name, {})))
    assert isinstance(event, Rejected)
    assert (event.reason, event.field) == ("identifier", "event_type")


def test_a_result_of_one_step_may_not_speak_of_another() -> None:
    data = {
        **essay_update("nlp_success"),
        "batch_id": "b1",
        "corrections_made": 0,
        "processing_duration_ms": 1,
        "correction_metrics": {},
    }
    event = parse(encode(document("huleedu.essay.spellcheck.results.v1", data)))
    assert isinstance(event, Rejected)
    assert (event.reason, event.field) == ("status", "data.status")


def test_ids_that_were_accepted_are_remembered_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remembered: dict[str, str] = {}
    monkeypatch.setattr(bounds, "_accepted", remembered)
    monkeypatch.setattr(bounds, "_MOST_ACCEPTED", 3)
    names = [identifier("".join(["e", str(number)]), "field") for number in range(5)]
    assert names == ["e0", "e1", "e2", "e3", "e4"]
    assert list(remembered) == ["e3", "e4"]
    assert identifier("".join("e4"), "field") is names[4]


# The type is guessed at before decoding; a wrong guess must not matter.


def layouts(envelope: dict[str, Any]) -> list[bytes]:
    escaped = json.dumps(envelope).replace('"event_type"', '"event\\u005ftype"')
    return [
        json.dumps(envelope, separators=(",", ":")).encode(),
        json.dumps(envelope, indent=1).encode(),
        escaped.encode(),
        json.dumps(dict(reversed(envelope.items()))).encode(),
        json.dumps({"x": {"event_type": "batch.pipeline.completed"}} | envelope).encode(),
        json.dumps({"x": {"event_type": "unheard.of"}} | envelope).encode(),
    ]


@pytest.mark.parametrize("number", range(6))
def test_how_json_is_laid_out_does_not_matter(number: int) -> None:
    envelope = spellchecked_document("b1", "e1")
    assert parse(layouts(envelope)[number]) == parse(encode(envelope))


def test_a_wrong_guess_of_the_same_shape_is_noticed() -> None:
    update = document("essay.status.updated.v1", essay_update("nlp_success"))
    inside = {"x": {"event_type": "huleedu.essay.spellcheck.requested.v1"}}
    event = parse(json.dumps(inside | update).encode())
    assert event == parse(encode(update))
    assert isinstance(event, Event)
    assert [fact.step for fact in event.facts if isinstance(fact, StepFact)] == ["nlp"]


def test_an_unknown_type_that_carries_a_known_envelope_is_ignored() -> None:
    envelope = document("letter.v1", {}) | {"data": spellchecked_document("b1", "e1")}
    raw = json.dumps(dict(reversed(envelope.items()))).encode()
    assert parse(raw) == Ignored("letter.v1", START, False)


# Times


def test_the_payload_s_own_time_counts_before_the_envelope_s() -> None:
    envelope = spellchecked_document("b1", "e1", seconds=5)
    event = parse(encode(envelope, event_timestamp=stamp(900)))
    assert isinstance(event, Event)
    assert event.time == at(5)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (START.replace(tzinfo=None), START),
        (START.astimezone(timezone(timedelta(hours=2))), START),
        (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_become_utc(moment: datetime, expected: datetime) -> None:
    checked = checked_time(moment, "field")
    assert checked == expected
    assert checked.tzinfo is UTC


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1969, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2200, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, tzinfo=timezone(timedelta(hours=-14))),
    ],
)
def test_times_out_of_range_are_refused(moment: datetime) -> None:
    with pytest.raises(Refused) as refused:
        checked_time(moment, "field")
    assert (refused.value.reason, refused.value.field) == ("range", "field")


def test_an_event_needs_a_time_of_some_kind() -> None:
    envelope = spellchecked_document("b1", "e1")
    assert isinstance(parse(encode(envelope, event_timestamp=None)), Event)
    request = document(
        "huleedu.commands.batch.pipeline.v1", {"batch_id": "b1", "requested_pipeline": "nlp"}
    )
    event = parse(encode(request, event_timestamp=None))
    assert isinstance(event, Rejected)
    assert (event.reason, event.field) == ("missing:event_timestamp", "event_timestamp")


@pytest.mark.parametrize(
    ("event_id", "known"),
    [
        ("E383C5BE-40E8-4fcd-a0e1-600a7cfb3038", True),
        ("e383c5be40e84fcda0e1600a7cfb3038", True),
        ("e383c5be-40e8-4fcd-a0e1600a7cfb3038", True),
        ("????????-????-????-????-????????????", False),
        ("g383c5be-40e8-4fcd-a0e1-600a7cfb3038", False),
        ("e383c5be-40e8-4fcd-a0e1-600a7cfb303é", False),
        ("e383c5be-40e8-4fcd-a0e1-600a7cfb3038\n", False),
        ("e383c5be-40e84-fcd-a0e1-600a7cfb3038", False),
    ],
)
def test_an_event_id_is_a_uuid_with_or_without_its_dashes(event_id: str, known: bool) -> None:
    envelope = spellchecked_document("b1", "e1")
    event = parse(encode(envelope, event_id=event_id))
    assert isinstance(event, Event) == known
    if isinstance(event, Rejected):
        assert (event.reason, event.field) == ("identifier", "event_id")


@pytest.mark.parametrize("other", [*sorted(IGNORED_TYPES)[:1], "essay.status.events", "unheard.of"])
def test_of_an_event_type_that_occurs_twice_the_last_counts(other: str) -> None:
    raw = encode(spellchecked_document("b1", "e1"))
    twice = b'{"event_type": "' + other.encode() + b'", ' + raw[1:]
    assert parse(twice) == parse(raw)
    last = raw[:-1] + b', "event_type": "huleedu.resource.consumption.v1"}'
    assert parse(last) == Ignored("huleedu.resource.consumption.v1", at(0), True)


def test_the_type_may_stand_anywhere_in_an_envelope() -> None:
    envelope = spellchecked_document("b1", "e1")
    first = {"event_type": envelope["event_type"], **envelope}
    last = {name: envelope[name] for name in envelope if name != "event_type"}
    last["event_type"] = envelope["event_type"]
    assert parse(encode(first)) == parse(encode(last)) == parse(encode(envelope))

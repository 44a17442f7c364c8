"""Notifications of deployed services as hints: which batch to read again, and nothing more."""

from __future__ import annotations

import json

import pytest
from envelopes import vector

from engine.hints import hint

BATCH = "9a89b6b0-a247-4158-a83b-ba51bea27dc0"
MESSAGES = [json.loads(line)["message"].encode() for line in vector("pubsub_messages")]


def test_real_notifications_name_their_batch() -> None:
    named = {json.loads(message)["event"]: hint(message) for message in MESSAGES}
    assert named["batch_phase_concluded"] == BATCH
    assert named["batch_spellcheck_completed"] == BATCH
    assert named["pipeline_completed"] == BATCH
    for message in MESSAGES:
        assert hint(message) == json.loads(message)["data"].get("batch_id")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"event": "essay_status_updated", "data": {"essay_id": "e1", "status": "nlp"}}',
        b'{"event": "class_created", "data": {"batch_id": null}}',
        b'{"event": "batch_phase_concluded", "data": {"batch_id": ""}}',
        b'{"event": "batch_phase_concluded", "data": {"batch_id": 7}}',
        b'{"event": "batch_phase_concluded", "data": null}',
        b'{"event": "batch_phase_concluded", "data": {"batch_id": "\xc3("}}',
        b'{"data": {"batch_id": "b1"}}',
        b'{"event": "x", "data": ' + b"[" * 100_000,
    ],
)
def test_what_names_no_batch_is_no_hint(message: bytes) -> None:
    assert hint(message) is None

"""A simulated batch: its essays, its ids, and the envelope around all that is said of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from engine.clock import rfc3339

JsonObject = dict[str, Any]

BOS = "batch-orchestrator-service"
BOS_DIRECT = "batch_orchestrator_service"
ELS = "essay-lifecycle-service"
ELS_DIRECT = "essay_lifecycle_service"
RAS = "result_aggregator_service"
BCS = "batch_conductor_service"
FILES = "file-service"
GATEWAY = "api_gateway_service"
SPELLCHECKER = "spell-checker-service"
NLP = "nlp-service"
CJ = "cj_assessment_service"
AI_FEEDBACK = "ai_feedback_service"

_COURSES = (("ENG5", "en"), ("ENG6", "en"), ("SV1", "sv"), ("SV2", "sv"))


def new_uuid(rng: Random) -> str:
    """Return a random UUID, version 4, as text."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def new_storage_id(rng: Random) -> str:
    """Return 32 random hexadecimal digits."""
    return f"{rng.getrandbits(128):032x}"


class Essay(msgspec.Struct):
    """One text and what the services know it by."""

    essay_id: str
    upload_id: str
    file_name: str
    text_id: str
    corrected_id: str
    words: int

    def reference(self, corrected: bool) -> JsonObject:
        """Return the reference by which services hand an essay on."""
        text_id = self.corrected_id if corrected else self.text_id
        return {"essay_id": self.essay_id, "text_storage_id": text_id, "spellcheck_metrics": None}


class SimulatedBatch:
    """What stays the same about a batch while it is worked on; every id comes from `rng`."""

    def __init__(self, rng: Random, size: int) -> None:
        self.rng = rng
        self.batch_id = new_uuid(rng)
        self.correlation_id = new_uuid(rng)
        self.course, self.language = rng.choice(_COURSES)
        self.user_id = f"teacher-{rng.randrange(40):02d}"
        self.org_id = f"org-school-{rng.randrange(6)}"
        self.class_id = new_uuid(rng) if rng.random() < 0.7 else None
        self.prompt_id = new_storage_id(rng)
        self.job_id = str(rng.randrange(100, 10_000))
        noun = "essay" if self.language == "en" else "uppsats"
        self.essays = [
            Essay(
                new_uuid(rng),
                new_uuid(rng),
                f"{noun}_{number:02d}.docx",
                new_storage_id(rng),
                new_storage_id(rng),
                rng.randrange(180, 900),
            )
            for number in range(1, size + 1)
        ]

    @property
    def class_type(self) -> str:
        """GUEST without a class, else REGULAR."""
        return "REGULAR" if self.class_id else "GUEST"

    @property
    def prompt(self) -> JsonObject:
        """The reference to the essay prompt."""
        stored = {"storage_id": self.prompt_id, "path": ""}
        return {"references": {"student_prompt_text": stored}}

    @property
    def sender(self) -> JsonObject:
        """The envelope metadata of commands."""
        return {"user_id": self.user_id, "org_id": self.org_id}

    def system(self, moment: datetime, event: str | None, **more: Any) -> JsonObject:
        """Return system metadata about the batch."""
        return system_metadata(self.batch_id, "batch", None, moment, event, **more)

    def base(self, event_name: str, moment: datetime) -> JsonObject:
        """Return the members that most payloads about a batch begin with."""
        return {
            "event_name": event_name,
            "entity_id": self.batch_id,
            "entity_type": "batch",
            "parent_id": None,
            "timestamp": rfc3339(moment),
        }

    def envelope(
        self,
        event_type: str,
        source: str,
        moment: datetime,
        data: JsonObject,
        *,
        run: str = "",
        metadata: JsonObject | None = None,
    ) -> bytes:
        """Return an envelope in the text form of the real services.

        It is stamped when it is published, a little after what it tells of.
        """
        published = moment + timedelta(microseconds=self.rng.randrange(2_000, 40_000))
        return json.dumps(
            {
                "event_id": new_uuid(self.rng),
                "event_type": event_type,
                "event_timestamp": rfc3339(published),
                "source_service": source,
                "schema_version": 1,
                "correlation_id": run or self.correlation_id,
                "data_schema_uri": None,
                "data": data,
                "metadata": metadata,
            }
        ).encode()

    def notification(
        self, source: str, moment: datetime, kind: str, priority: str, payload: JsonObject
    ) -> bytes:
        """Return a request to notify the teacher, which carries no progress."""
        data = {
            "teacher_id": self.user_id,
            "notification_type": kind,
            "category": "batch_progress",
            "priority": priority,
            "payload": {"batch_id": self.batch_id, **payload},
            "action_required": False,
            "deadline_timestamp": None,
            "correlation_id": self.correlation_id,
            "batch_id": self.batch_id,
            "class_id": None,
            "timestamp": rfc3339(moment),
        }
        kind_of_event = "huleedu.notification.teacher.requested.v1"
        return self.envelope(kind_of_event, source, moment, data)


def system_metadata(
    entity_id: str,
    entity_type: str,
    parent_id: str | None,
    moment: datetime,
    event: str | None,
    *,
    stage: str | None = None,
    started_at: datetime | None = None,
    completed_at: datetime | None = None,
    error: JsonObject | None = None,
) -> JsonObject:
    """Return the system metadata that most payloads carry."""
    return {
        "entity_id": entity_id,
        "entity_type": entity_type,
        "parent_id": parent_id,
        "timestamp": rfc3339(moment),
        "processing_stage": stage,
        "started_at": rfc3339(started_at) if started_at else None,
        "completed_at": rfc3339(completed_at) if completed_at else None,
        "event": event,
        "error_info": error or {},
    }

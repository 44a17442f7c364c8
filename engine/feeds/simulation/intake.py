"""What services say until the work begins: registration, content, requests, commands."""

from __future__ import annotations

from datetime import datetime

from engine.clock import rfc3339
from engine.feeds.simulation.batch import (
    BCS,
    BOS,
    BOS_DIRECT,
    ELS,
    FILES,
    GATEWAY,
    Essay,
    JsonObject,
    SimulatedBatch,
    new_storage_id,
)


def registered(batch: SimulatedBatch, moment: datetime) -> bytes:
    """The orchestrator names the essays it expects."""
    data = {
        "event": "batch.essays.registered",
        "entity_id": batch.batch_id,
        "expected_essay_count": len(batch.essays),
        "essay_ids": [essay.essay_id for essay in batch.essays],
        "metadata": batch.system(moment, "batch.essays.registered"),
        "course_code": batch.course,
        "student_prompt_ref": batch.prompt,
        "user_id": batch.user_id,
        "org_id": batch.org_id,
        "class_id": batch.class_id,
    }
    return batch.envelope("huleedu.batch.essays.registered.v1", "batch-service", moment, data)


def file_added(batch: SimulatedBatch, moment: datetime, essay: Essay) -> bytes:
    """The file service received an upload."""
    data = {
        "event": "batch.file.added",
        "batch_id": batch.batch_id,
        "file_upload_id": essay.upload_id,
        "filename": essay.file_name,
        "user_id": batch.user_id,
        "correlation_id": batch.correlation_id,
        "timestamp": rfc3339(moment),
    }
    kind = "huleedu.file.batch.file.added.v1"
    return batch.envelope(kind, FILES, moment, data, metadata={})


def provisioned(batch: SimulatedBatch, moment: datetime, essay: Essay) -> bytes:
    """The file service has the text of an upload."""
    data = {
        "event": "essay.content.provisioned",
        "entity_id": batch.batch_id,
        "file_upload_id": essay.upload_id,
        "original_file_name": essay.file_name,
        "raw_file_storage_id": new_storage_id(batch.rng),
        "text_storage_id": essay.text_id,
        "file_size_bytes": essay.words * 23,
        "content_md5_hash": new_storage_id(batch.rng),
        "correlation_id": batch.correlation_id,
        "timestamp": rfc3339(moment),
    }
    kind = "huleedu.file.essay.content.provisioned.v1"
    return batch.envelope(kind, FILES, moment, data, metadata={})


def rejected(batch: SimulatedBatch, moment: datetime, essay: Essay) -> bytes:
    """The file service refuses an upload; its essay never gets a text."""
    detail: JsonObject = {
        "error_code": "CONTENT_TOO_SHORT",
        "message": f"{essay.file_name}: 12 words; at least 50 are needed",
        "correlation_id": batch.correlation_id,
        "timestamp": rfc3339(moment),
        "service": "file_service",
        "operation": "validate_content",
        "details": {},
        "stack_trace": None,
        "trace_id": None,
        "span_id": None,
    }
    data = {
        "event": "essay.validation.failed",
        "entity_id": batch.batch_id,
        "file_upload_id": essay.upload_id,
        "original_file_name": essay.file_name,
        "raw_file_storage_id": new_storage_id(batch.rng),
        "validation_error_code": "CONTENT_TOO_SHORT",
        "validation_error_detail": detail,
        "file_size_bytes": 310,
        "correlation_id": batch.correlation_id,
        "timestamp": rfc3339(moment),
    }
    kind = "huleedu.file.essay.validation.failed.v1"
    return batch.envelope(kind, FILES, moment, data, metadata={})


def slot_assigned(batch: SimulatedBatch, moment: datetime, essay: Essay) -> bytes:
    """The lifecycle service ties an upload to an essay."""
    data = {
        "event": "essay.slot.assigned",
        "batch_id": batch.batch_id,
        "essay_id": essay.essay_id,
        "file_upload_id": essay.upload_id,
        "text_storage_id": essay.text_id,
        "original_file_name": essay.file_name,
        "correlation_id": batch.correlation_id,
        "timestamp": rfc3339(moment),
    }
    kind = "huleedu.els.essay.slot.assigned.v1"
    return batch.envelope(kind, ELS, moment, data, metadata={})


def content_complete(batch: SimulatedBatch, moment: datetime, essays: list[Essay]) -> bytes:
    """Every upload is there or refused."""
    data = {
        "event": "batch.content.provisioning.completed",
        "batch_id": batch.batch_id,
        "provisioned_count": len(essays),
        "expected_count": len(batch.essays),
        "course_code": batch.course,
        "user_id": batch.user_id,
        "essays_for_processing": [essay.reference(False) for essay in essays],
        "correlation_id": batch.correlation_id,
        "timestamp": rfc3339(moment),
    }
    kind = "huleedu.batch.content.provisioning.completed.v1"
    return batch.envelope(kind, ELS, moment, data, metadata={})


def ready(batch: SimulatedBatch, moment: datetime, essays: list[Essay]) -> bytes:
    """The students of a regular batch are known: it can be worked on."""
    data = {
        "event": "batch.essays.ready",
        "batch_id": batch.batch_id,
        "ready_essays": [essay.reference(False) for essay in essays],
        "metadata": batch.system(moment, "batch.essays.ready"),
        "course_code": batch.course,
        "course_language": batch.language,
        "student_prompt_ref": batch.prompt,
        "class_type": batch.class_type,
    }
    kind = "huleedu.els.batch.essays.ready.v1"
    return batch.envelope(kind, ELS, moment, data, metadata={})


def requested(
    batch: SimulatedBatch, moment: datetime, run: str, pipeline: str, retry: bool
) -> bytes:
    """A teacher asks for a pipeline."""
    data = {
        "batch_id": batch.batch_id,
        "requested_pipeline": pipeline,
        "client_correlation_id": run,
        "user_id": batch.user_id,
        "is_retry": retry,
        "retry_reason": "some essays failed" if retry else None,
        "prompt_payload": {"assignment_id": None, "cms_prompt_ref": batch.prompt},
    }
    kind = "huleedu.commands.batch.pipeline.v1"
    return batch.envelope(kind, GATEWAY, moment, data, run=run, metadata={"org_id": batch.org_id})


def denied(batch: SimulatedBatch, moment: datetime, run: str, pipeline: str) -> bytes:
    """The orchestrator refuses a pipeline for want of credits."""
    needed = len(batch.essays) * 12
    data = {
        **batch.base("pipeline.denied", moment),
        "batch_id": batch.batch_id,
        "user_id": batch.user_id,
        "org_id": batch.org_id,
        "requested_pipeline": pipeline,
        "denial_reason": "insufficient_credits",
        "required_credits": needed,
        "available_credits": needed // 3,
        "resource_breakdown": {"cj_comparison": needed - 20, "ai_feedback": 20},
        "denied_at": moment.replace(tzinfo=None).isoformat(),
    }
    kind = "huleedu.pipeline.denied.v1"
    return batch.envelope(kind, BOS_DIRECT, moment, data, run=run, metadata={})


def processing_started(
    batch: SimulatedBatch, moment: datetime, pipeline: str, phases: list[str]
) -> bytes:
    """The teacher is told that the work begins."""
    payload = {
        "requested_pipeline": pipeline,
        "resolved_pipeline": phases,
        "first_phase": phases[0],
        "total_phases": len(phases),
        "message": f"Processing started: Initiating {phases[0]} phase",
    }
    return batch.notification(BOS_DIRECT, moment, "batch_processing_started", "low", payload)


def skipped(batch: SimulatedBatch, moment: datetime, run: str, phase: str) -> bytes:
    """The conductor leaves out a phase that every essay has completed."""
    data = {
        "event": "batch.phase.skipped",
        "batch_id": batch.batch_id,
        "phase_name": phase,
        "skip_reason": "already_completed",
        "storage_id": None,
        "correlation_id": run,
        "metadata": batch.system(moment, "batch.phase.skipped"),
    }
    kind = "huleedu.batch.phase.skipped.v1"
    return batch.envelope(kind, BCS, moment, data, run=run, metadata={})


def initiate(
    batch: SimulatedBatch, moment: datetime, run: str, phase: str, essays: list[Essay]
) -> bytes:
    """The orchestrator has a phase begin."""
    suffix = ".v2" if phase == "nlp" else ""
    data: JsonObject = {
        **batch.base(f"batch.{phase}.initiate.command{suffix}", moment),
        "essays_to_process": [essay.reference(phase != "spellcheck") for essay in essays],
        "language": batch.language,
    }
    if phase != "spellcheck":
        data["student_prompt_ref"] = batch.prompt
    if phase in ("cj_assessment", "ai_feedback"):
        data |= {"course_code": batch.course, "class_type": batch.class_type}
    if phase == "cj_assessment":
        data["assignment_id"] = None
    if phase == "ai_feedback":
        data["owner_user_id"] = batch.user_id
    scope = "els" if phase == "spellcheck" else "batch"
    kind = f"huleedu.{scope}.{phase}.initiate.command{suffix or '.v1'}"
    return batch.envelope(kind, BOS, moment, data, run=run, metadata=batch.sender)

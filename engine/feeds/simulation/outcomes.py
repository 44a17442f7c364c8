"""What services say of a whole batch: batch results, ends of phases and pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from engine.clock import rfc3339
from engine.feeds.simulation.batch import (
    BOS_DIRECT,
    CJ,
    ELS,
    ELS_DIRECT,
    NLP,
    RAS,
    Essay,
    JsonObject,
    SimulatedBatch,
)

SUCCESSFUL = "completed_successfully"
WITH_FAILURES = "completed_with_failures"
CRITICAL = "failed_critically"


def status_of(succeeded: int, failed: int) -> str:
    """Return the status with which a phase ends."""
    if not succeeded:
        return CRITICAL
    return WITH_FAILURES if failed else SUCCESSFUL


def nlp_analysed(
    batch: SimulatedBatch,
    moment: datetime,
    run: str,
    succeeded: list[Essay],
    failed: list[Essay],
    seconds: float,
) -> bytes:
    """The analysis of a batch is over; only here are its failures named."""
    event = "batch.nlp.analysis.completed"
    data = {
        **batch.base(event, moment),
        "status": status_of(len(succeeded), len(failed)),
        "system_metadata": {
            **batch.system(moment, None),
            # The service forgets the zone in this one place.
            "timestamp": moment.replace(tzinfo=None).isoformat(),
        },
        "batch_id": batch.batch_id,
        "processing_summary": _summary(succeeded, failed, seconds),
    }
    kind = "huleedu.batch.nlp.analysis.completed.v1"
    return batch.envelope(kind, NLP, moment, data, run=run, metadata={})


def cj_completed(
    batch: SimulatedBatch, moment: datetime, run: str, essays: list[Essay], seconds: float
) -> bytes:
    """All comparisons are made: one event for the batch."""
    event = "cj_assessment.completed"
    data = {
        **batch.base(event, moment),
        "status": SUCCESSFUL,
        "system_metadata": batch.system(
            moment,
            event,
            stage="completed",
            started_at=moment - timedelta(seconds=seconds),
            completed_at=moment,
        ),
        "cj_assessment_job_id": batch.job_id,
        "processing_summary": {
            **_summary(essays, [], seconds),
            "single_essay_batch": len(essays) == 1,
        },
    }
    kind = "huleedu.cj_assessment.completed.v1"
    return batch.envelope(kind, CJ, moment, data, run=run, metadata={})


def cj_failed(batch: SimulatedBatch, moment: datetime, run: str, error: JsonObject) -> bytes:
    """The comparisons came to nothing."""
    event = "cj_assessment.failed"
    data = {
        **batch.base(event, moment),
        "status": CRITICAL,
        "system_metadata": batch.system(moment, None, stage="failed", error=error),
        "cj_assessment_job_id": batch.job_id,
    }
    kind = "huleedu.cj_assessment.failed.v1"
    return batch.envelope(kind, CJ, moment, data, run=run, metadata={})


def assessed(batch: SimulatedBatch, moment: datetime, run: str, essays: list[Essay]) -> bytes:
    """The ranks and grades of a batch."""
    data = {
        **batch.base("assessment.result.published", moment),
        "batch_id": batch.batch_id,
        "cj_assessment_job_id": batch.job_id,
        "assignment_id": None,
        "assessment_method": "cj_assessment",
        "model_used": "claude-3-5-haiku",
        "model_provider": "anthropic",
        "model_version": None,
        "essay_results": _ranking(batch, essays),
        "assessment_metadata": {
            "anchor_essays_used": 0,
            "calibration_method": "default",
            "comparison_count": len(essays) * 10,
            "llm_temperature": 0.0,
            "assignment_id": None,
        },
        "assessed_at": rfc3339(moment),
    }
    kind = "huleedu.assessment.result.published.v1"
    return batch.envelope(kind, CJ, moment, data, run=run, metadata={})


def _ranking(batch: SimulatedBatch, essays: list[Essay]) -> list[JsonObject]:
    ranked = essays[:]
    batch.rng.shuffle(ranked)
    results: list[JsonObject] = []
    for rank, essay in enumerate(ranked, 1):
        score = round(1 - (rank - 1) / len(ranked), 4)
        confidence = round(batch.rng.uniform(0.5, 0.99), 3)
        results.append(
            {
                "essay_id": essay.essay_id,
                "normalized_score": score,
                "letter_grade": "FEDCBA"[min(5, int(score * 6))],
                "confidence_score": confidence,
                "confidence_label": "HIGH" if confidence > 0.8 else "MID",
                "bt_score": round(score * 2 - 1, 6),
                "rank": rank,
                "is_anchor": False,
                "feedback_uri": None,
                "metrics_uri": None,
                "display_name": None,
            }
        )
    return results


def phase_ended(
    batch: SimulatedBatch,
    moment: datetime,
    run: str,
    phase: str,
    succeeded: list[Essay],
    failed: list[Essay],
) -> bytes:
    """The lifecycle service closes a phase: the last essay is through."""
    data = {
        "batch_id": batch.batch_id,
        "phase_name": phase,
        "phase_status": status_of(len(succeeded), len(failed)),
        "processed_essays": [essay.reference(True) for essay in succeeded],
        "failed_essay_ids": [essay.essay_id for essay in failed],
        "correlation_id": run,
    }
    kind = "huleedu.els.batch.phase.outcome.v1"
    return batch.envelope(kind, ELS, moment, data, run=run, metadata={})


def phase_notified(
    batch: SimulatedBatch, moment: datetime, phase: str, succeeded: int, failed: int
) -> bytes:
    """The teacher is told that a phase is over."""
    total = succeeded + failed
    payload = {
        "phase_name": phase,
        "phase_status": status_of(succeeded, failed),
        "success_count": succeeded,
        "failed_count": failed,
        "total_count": total,
        "message": f"{phase} completed for batch: {succeeded} of {total} essays completed",
    }
    kind = f"batch_{phase}_completed"
    return batch.notification(ELS_DIRECT, moment, kind, "standard", payload)


def pipeline_completed(
    batch: SimulatedBatch, moment: datetime, run: str, phases: list[str], seconds: float
) -> bytes:
    """The orchestrator's last word; it counts phases, not essays, and so never sees failures."""
    event = "batch.pipeline.completed"
    told = {
        "batch_id": batch.batch_id,
        "completed_phases": phases,
        "final_status": SUCCESSFUL,
    }
    data = {
        "event": event,
        **told,
        "processing_duration_seconds": round(seconds, 6),
        "successful_essay_count": len(batch.essays),
        "failed_essay_count": 0,
        "correlation_id": run,
        "metadata": batch.system(moment, event),
    }
    return batch.envelope(event, BOS_DIRECT, moment, data, run=run, metadata=told)


def pipeline_notified(
    batch: SimulatedBatch, moment: datetime, phases: list[str], seconds: float
) -> bytes:
    """The teacher is told that a pipeline is over."""
    payload = {
        "final_status": SUCCESSFUL,
        "completed_phases": phases,
        "successful_essays": len(batch.essays),
        "failed_essays": 0,
        "duration_seconds": round(seconds, 6),
        "message": "Pipeline completed successfully",
    }
    return batch.notification(BOS_DIRECT, moment, "pipeline_completed", "high", payload)


def results_ready(
    batch: SimulatedBatch,
    moment: datetime,
    run: str,
    counts: Mapping[str, tuple[int, int]],
    seconds: float,
) -> bytes:
    """The aggregator has all results; `counts` are successes and failures of each phase."""
    failures = any(failed for _, failed in counts.values())
    status = WITH_FAILURES if failures else SUCCESSFUL
    data = {
        **batch.base("batch.results.ready", moment),
        "entity_id": None,
        "entity_type": None,
        "status": status,
        "system_metadata": batch.system(moment, "results_ready"),
        "batch_id": batch.batch_id,
        "user_id": batch.user_id,
        "total_essays": len(batch.essays),
        "completed_essays": min(succeeded for succeeded, _ in counts.values()),
        "phase_results": {
            phase: {
                "phase_name": phase,
                "status": "completed",
                "completed_count": succeeded,
                "failed_count": failed,
                "processing_time_seconds": None,
            }
            for phase, (succeeded, failed) in counts.items()
        },
        "overall_status": status,
        "processing_duration_seconds": round(seconds, 6),
    }
    kind = "huleedu.ras.batch.results.ready.v1"
    return batch.envelope(kind, RAS, moment, data, run=run, metadata={})


def _summary(succeeded: list[Essay], failed: list[Essay], seconds: float) -> JsonObject:
    return {
        "total_essays": len(succeeded) + len(failed),
        "successful": len(succeeded),
        "failed": len(failed),
        "successful_essay_ids": [essay.essay_id for essay in succeeded],
        "failed_essay_ids": [essay.essay_id for essay in failed],
        "processing_time_seconds": round(seconds, 2),
    }

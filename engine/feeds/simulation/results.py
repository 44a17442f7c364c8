"""What workers say of single essays."""

from __future__ import annotations

from datetime import datetime, timedelta

from engine.clock import rfc3339
from engine.feeds.simulation.batch import (
    AI_FEEDBACK,
    NLP,
    SPELLCHECKER,
    Essay,
    JsonObject,
    SimulatedBatch,
    system_metadata,
)

_UNMEASURED = (
    "first_order_coherence",
    "second_order_coherence",
    "avg_bigram_pmi",
    "avg_trigram_pmi",
    "avg_bigram_npmi",
    "avg_trigram_npmi",
)


def spellcheck_thin(
    batch: SimulatedBatch,
    moment: datetime,
    run: str,
    essay: Essay,
    seconds: float,
    error: JsonObject | None,
) -> bytes:
    """The spellchecker is done with an essay: the short form, for the conductor."""
    data = {
        "entity_id": essay.essay_id,
        "batch_id": batch.batch_id,
        "correlation_id": run,
        "status": "failed" if error else "completed",
        "corrected_text_storage_id": None if error else essay.corrected_id,
        # Services put the beginning of the error's text here, not its code.
        "error_code": str(error)[:100] if error else None,
        "processing_duration_ms": int(seconds * 1000),
        "timestamp": rfc3339(moment),
    }
    return batch.envelope(
        "huleedu.batch.spellcheck.phase.completed.v1",
        SPELLCHECKER,
        moment,
        data,
        run=run,
        metadata={"partition_key": essay.essay_id},
    )


def spellcheck_rich(
    batch: SimulatedBatch,
    moment: datetime,
    run: str,
    essay: Essay,
    seconds: float,
    error: JsonObject | None,
) -> bytes:
    """The same result in full, for those who keep it."""
    words = 0 if error else essay.words
    corrections = words * batch.rng.randrange(2, 9) // 100
    dictionary = corrections // 3
    data = {
        **_about(batch, essay, "spellcheck.results", moment),
        "status": "spellcheck_failed" if error else "spellchecked_success",
        "system_metadata": _system(batch, essay, moment, None, None, error),
        "batch_id": batch.batch_id,
        "correlation_id": run,
        "user_id": batch.user_id,
        "corrections_made": corrections,
        "correction_metrics": {
            "total_corrections": corrections,
            "l2_dictionary_corrections": dictionary,
            "spellchecker_corrections": corrections - dictionary,
            "word_count": words,
            "correction_density": round(100 * corrections / words, 3) if words else 0.0,
        },
        "original_text_storage_id": essay.text_id,
        "corrected_text_storage_id": None if error else essay.corrected_id,
        "processing_duration_ms": int(seconds * 1000),
        "processor_version": "pyspellchecker_1.0_L2_swedish",
    }
    return batch.envelope(
        "huleedu.essay.spellcheck.results.v1",
        SPELLCHECKER,
        moment,
        data,
        run=run,
        metadata={"partition_key": essay.essay_id},
    )


def nlp_completed(
    batch: SimulatedBatch, moment: datetime, run: str, essay: Essay, seconds: float
) -> bytes:
    """The analysis of an essay succeeded; neither its batch nor failures are ever named."""
    rng = batch.rng
    sentences = max(1, essay.words // rng.randrange(11, 19))
    metrics = {
        "word_count": essay.words,
        "sentence_count": sentences,
        "avg_sentence_length": round(essay.words / sentences, 2),
        "language_detected": batch.language,
        "processing_time_ms": int(seconds * 1000),
        "mean_zipf_frequency": round(rng.uniform(3.9, 5.1), 6),
        "percent_tokens_zipf_below_3": round(rng.uniform(0, 9), 3),
        "mtld_score": round(rng.uniform(40, 95), 4),
        "hdd_score": round(rng.uniform(0.7, 0.9), 6),
        "mean_dependency_distance": round(rng.uniform(1.7, 2.6), 6),
        "phrasal_indices": {},
        "clausal_indices": {},
    }
    grammar = {
        "error_count": rng.randrange(15),
        "errors": [],
        "language": batch.language,
        "processing_time_ms": int(seconds * 300),
        "grammar_category_counts": None,
        "grammar_rule_counts": None,
    }
    source = {"source": "nlp_service", "phase": "phase_2_analysis"}
    data = {
        **_about(batch, essay, "essay.nlp.completed", moment),
        "parent_id": None,
        "essay_id": essay.essay_id,
        "text_storage_id": essay.corrected_id,
        "nlp_metrics": {**metrics, **dict.fromkeys(_UNMEASURED, 0.0)},
        "grammar_analysis": grammar,
        "processing_metadata": {**source, "student_prompt_storage_id": batch.prompt_id},
    }
    kind = "huleedu.essay.nlp.completed.v1"
    return batch.envelope(kind, NLP, moment, data, run=run, metadata={})


def ai_feedback(
    batch: SimulatedBatch,
    moment: datetime,
    run: str,
    essay: Essay,
    seconds: float,
    error: JsonObject | None,
) -> bytes:
    """The feedback on an essay is written, or the model's provider did not deliver."""
    started = moment - timedelta(seconds=seconds)
    event = "essay.aifeedback.completed"
    data = {
        **_about(batch, essay, event, moment),
        "status": "ai_feedback_failed" if error else "ai_feedback_success",
        "system_metadata": _system(batch, essay, moment, event, started, error),
        "feedback_details": {
            "model_version": "claude-3-5-haiku",
            "generation_timestamp": rfc3339(moment),
            "feedback_type": "student_facing",
            "processing_time_seconds": round(seconds, 3),
        },
        "feedback_content_storage_id": None if error else essay.corrected_id[::-1],
        "additional_metrics": None if error else {"tokens": essay.words * 3 // 4 + 60},
    }
    kind = "huleedu.essay.aifeedback.completed.v1"
    return batch.envelope(kind, AI_FEEDBACK, moment, data, run=run, metadata={})


def _about(batch: SimulatedBatch, essay: Essay, event_name: str, moment: datetime) -> JsonObject:
    return {
        "event_name": event_name,
        "entity_id": essay.essay_id,
        "entity_type": "essay",
        "parent_id": batch.batch_id,
        "timestamp": rfc3339(moment),
    }


def _system(
    batch: SimulatedBatch,
    essay: Essay,
    moment: datetime,
    event: str | None,
    started: datetime | None,
    error: JsonObject | None,
) -> JsonObject:
    return system_metadata(
        essay.essay_id,
        "essay",
        batch.batch_id,
        moment,
        event,
        stage="failed" if error else "completed",
        started_at=started,
        completed_at=moment if started else None,
        error=error,
    )

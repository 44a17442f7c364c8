"""Envelopes as services send them, in the fewest members that count, and feeds made of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from engine.feeds.port import Envelope, Feed, Seekable

VECTORS = Path(__file__).parent / "vectors"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    return at(seconds).isoformat()


def vector(name: str) -> list[bytes]:
    return (VECTORS / f"{name}.jsonl").read_bytes().splitlines()


def document(event_type: str, data: Any, *, seconds: float = 0, run: str = "r1") -> dict[str, Any]:
    content = json.dumps([event_type, data, seconds, run])
    return {
        "event_id": str(uuid5(NAMESPACE_OID, content)),
        "event_type": event_type,
        "event_timestamp": stamp(seconds),
        "source_service": "tests",
        "schema_version": 1,
        "correlation_id": run,
        "data_schema_uri": None,
        "data": data,
        "metadata": {},
    }


def encode(envelope: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(envelope | changes).encode()


def refs(essay_ids: Iterable[str]) -> list[dict[str, str]]:
    return [{"essay_id": essay_id, "text_storage_id": "0" * 32} for essay_id in essay_ids]


def registered(batch_id: str, essay_ids: Sequence[str], expected: int, seconds: float = 0) -> bytes:
    data = {
        "entity_id": batch_id,
        "expected_essay_count": expected,
        "essay_ids": essay_ids,
        "metadata": {"timestamp": stamp(seconds)},
        "user_id": "teacher-1",
    }
    return encode(document("huleedu.batch.essays.registered.v1", data, seconds=seconds))


def spellchecked_document(
    batch_id: str, essay_id: str, status: str = "completed", seconds: float = 0, run: str = "r1"
) -> dict[str, Any]:
    data = {
        "entity_id": essay_id,
        "batch_id": batch_id,
        "correlation_id": run,
        "status": status,
        "corrected_text_storage_id": None,
        "error_code": None,
        "processing_duration_ms": 900,
        "timestamp": stamp(seconds),
    }
    event_type = "huleedu.batch.spellcheck.phase.completed.v1"
    return document(event_type, data, seconds=seconds, run=run)


def spellchecked(*values: Any, **names: Any) -> bytes:
    return encode(spellchecked_document(*values, **names))


def nlp_result(essay_id: str, seconds: float = 0, words: int = 300) -> bytes:
    """A result of an essay that names no batch."""
    data = {
        "essay_id": essay_id,
        "parent_id": None,
        "timestamp": stamp(seconds),
        "nlp_metrics": {"word_count": words, "sentence_count": 20, "language_detected": "sv"},
        "grammar_analysis": {"error_count": 3},
    }
    return encode(document("huleedu.essay.nlp.completed.v1", data, seconds=seconds))


def requested(batch_id: str, pipeline: str, seconds: float = 0, run: str = "r1") -> bytes:
    data = {"batch_id": batch_id, "requested_pipeline": pipeline}
    event_type = "huleedu.commands.batch.pipeline.v1"
    return encode(document(event_type, data, seconds=seconds, run=run))


def started(
    batch_id: str, phase: str, essay_ids: Sequence[str], seconds: float = 0, run: str = "r1"
) -> bytes:
    event_type = {
        "spellcheck": "huleedu.els.spellcheck.initiate.command.v1",
        "nlp": "huleedu.batch.nlp.initiate.command.v2",
        "cj_assessment": "huleedu.batch.cj_assessment.initiate.command.v1",
        "ai_feedback": "huleedu.batch.ai_feedback.initiate.command.v1",
    }[phase]
    data = {
        "entity_id": batch_id,
        "essays_to_process": refs(essay_ids),
        "timestamp": stamp(seconds),
    }
    return encode(document(event_type, data, seconds=seconds, run=run))


def phase_ended(
    batch_id: str,
    phase: str,
    status: str,
    seconds: float = 0,
    run: str = "r1",
    *,
    succeeded: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> bytes:
    data = {
        "batch_id": batch_id,
        "phase_name": phase,
        "phase_status": status,
        "processed_essays": refs(succeeded),
        "failed_essay_ids": list(failed),
        "correlation_id": run,
    }
    event_type = "huleedu.els.batch.phase.outcome.v1"
    return encode(document(event_type, data, seconds=seconds, run=run))


def pipeline_ended(batch_id: str, status: str, seconds: float = 0, run: str = "r1") -> bytes:
    data = {
        "batch_id": batch_id,
        "final_status": status,
        "metadata": {"timestamp": stamp(seconds)},
    }
    return encode(document("batch.pipeline.completed", data, seconds=seconds, run=run))


class ListFeed(Feed):
    """Envelopes from memory, a chunk at a time; notes how often it was acknowledged."""

    name = "list"

    def __init__(self, raws: Iterable[bytes], chunk_size: int = 1000) -> None:
        self._rest = [Envelope(raw, f"line {n}") for n, raw in enumerate(raws, 1)]
        self._chunk_size = chunk_size
        self.acknowledged = 0

    async def read(self) -> list[Envelope] | None:
        chunk = self._rest[: self._chunk_size]
        del self._rest[: self._chunk_size]
        return chunk or None

    async def acknowledge(self, ahead: int = 0) -> None:
        self.acknowledged += 1

    async def aclose(self) -> None:
        return None


class Tape(Seekable):
    """A recording in memory: one envelope a second, the first at `START`."""

    name = "tape"

    def __init__(self, raws: Sequence[bytes], *, paused: bool = True, chunk_size: int = 7) -> None:
        self._envelopes = [Envelope(raw, f"line {n}") for n, raw in enumerate(raws, 1)]
        self._chunk_size = chunk_size
        self._index = self._steps = 0
        self._wake = asyncio.Event()
        self.paused = paused
        self.speed: float | None = None
        self.loop = False
        self.breaks = False

    async def read(self) -> list[Envelope] | None:
        await asyncio.sleep(0)
        if self.breaks:
            raise OSError("the tape broke")
        due = self._steps if self.paused else self._chunk_size
        if self._index == self.length:
            if not self.loop:
                return None
            if due:
                self.move(0)
            else:
                await self._interrupted()
            return []
        if not due:
            await self._interrupted()
            return []
        chunk = self._envelopes[self._index :][: min(due, self._chunk_size)]
        self._index += len(chunk)
        self._steps = max(0, self._steps - len(chunk))
        return chunk

    async def _interrupted(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def aclose(self) -> None:
        self._wake.set()

    @property
    def index(self) -> int:
        return self._index

    @property
    def length(self) -> int:
        return len(self._envelopes)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        return (START, at(self.length - 1)) if self.length else None

    @property
    def now(self) -> datetime | None:
        return at(max(0, self._index - 1)) if self.length else None

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self._steps = 0
        self._wake.set()

    def set_speed(self, speed: float | None) -> None:
        self.speed = speed

    def step(self, count: int = 1) -> None:
        if self.paused:
            self._steps += count
            self._wake.set()

    def look(self, index: int, count: int) -> list[Envelope]:
        return self._envelopes[index : index + min(count, self._chunk_size)]

    def index_at(self, moment: datetime) -> int:
        return min(self.length, max(0, int((moment - START).total_seconds()) + 1))

    def move(self, index: int) -> None:
        self._index = index
        self._steps = 0
        self._wake.set()

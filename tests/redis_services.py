"""What the deployed service does with its documents: how it reads, and its two ways to write."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
import redis.exceptions
from redis.asyncio import Redis

from engine.backends import redis_counts, redis_notices, redis_survey

TTL_SECONDS = 604_800


def steps_of(raw: bytes | None) -> set[str]:
    """The completed steps of a document, as the service reads it: nothing if it is odd."""
    try:
        state = json.loads(raw.decode()) if raw is not None else {}
    except ValueError:
        return set()
    steps = state.get("completed_steps") if isinstance(state, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        return set()
    return set(steps)


def check_strictly(raw: bytes) -> dict[str, Any]:
    """A document that the service can read and add to; returns it."""
    text = raw.decode("ascii")
    state = json.loads(text)
    assert isinstance(state, dict)
    steps = state["completed_steps"]
    assert isinstance(steps, list)
    assert all(isinstance(step, str) for step in steps)
    assert len(steps) == len(set(steps))
    assert isinstance(state["step_metadata"], dict)
    assert all(isinstance(state["step_metadata"][step], dict) for step in steps)
    for name in ("created_at", "last_updated"):
        moment = datetime.fromisoformat(state[name])
        assert moment.isoformat() == state[name]
        assert state[name].endswith("+00:00")
    return state


def with_step(raw: bytes | None, step: str, metadata: dict[str, Any]) -> bytes | None:
    """What the service stores after one more step; `None` when it knows the step already."""
    now = datetime.now(UTC).isoformat()
    steps = steps_of(raw)
    if step in steps:
        return None
    try:
        state = json.loads(raw.decode()) if raw is not None else None
    except ValueError:
        state = None
    if not isinstance(state, dict):
        state = {
            "completed_steps": [],
            "step_metadata": {},
            "created_at": now,
        }
    state["completed_steps"] = list(steps | {step})
    state["step_metadata"][step] = metadata
    state["last_updated"] = now
    return json.dumps(state).encode()


class Service:
    """Writes as the deployed procedure does, or (`watch_first`) as it should have been."""

    def __init__(self, client: Redis, *, watch_first: bool, stale_seconds: float = 0.0) -> None:
        self._client = client
        self._watch_first = watch_first
        self._stale_seconds = stale_seconds

    async def record(self, batch_id: str, essay_id: str, step: str, **metadata: Any) -> None:
        key = f"bcs:essay_state:{batch_id}:{essay_id}"
        while True:
            async with self._client.pipeline(transaction=True) as pipe:
                if self._watch_first:
                    await pipe.watch(key)
                    raw = await pipe.get(key)
                else:
                    raw = await self._client.get(key)
                    await asyncio.sleep(self._stale_seconds * random.random())
                    await pipe.watch(key)
                after = with_step(raw, step, metadata)
                if after is None:
                    return
                pipe.multi()
                pipe.set(key, after, ex=TTL_SECONDS)
                pipe.delete(f"bcs:batch_summary:{batch_id}")
                try:
                    await pipe.execute()
                except redis.exceptions.WatchError:
                    continue
                return


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what services write looked at more often than somebody at a screen would need."""
    for module, name in (
        (redis_notices, "LOOK_SECONDS"),
        (redis_survey, "ROUND_SECONDS"),
        (redis_counts, "RECOUNT_SECONDS"),
        (redis_counts, "TURN_SECONDS"),
    ):
        assert getattr(module, name) <= 10
        monkeypatch.setattr(module, name, 0.2)

"""The life of one simulated batch, from its registration to its results."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Concatenate, ParamSpec

from engine.feeds.simulation import intake, outcomes, results
from engine.feeds.simulation.batch import Essay, JsonObject, SimulatedBatch, new_uuid
from engine.feeds.simulation.plot import Plot, World

_P = ParamSpec("_P")
Timed = tuple[float, bytes]
"""An event and when it happens, in seconds from the origin of the world."""

PHASES = {
    "nlp": ("spellcheck", "nlp"),
    "cj_assessment": ("spellcheck", "cj_assessment"),
    "ai_feedback": ("spellcheck", "nlp", "ai_feedback"),
    "comprehensive": ("spellcheck", "cj_assessment", "nlp", "ai_feedback"),
}
_NEEDS: dict[str, tuple[str, ...]] = {
    "spellcheck": (),
    "cj_assessment": ("spellcheck",),
    "nlp": ("spellcheck",),
    "ai_feedback": ("spellcheck", "nlp"),
}
_WORKERS = {"spellcheck": (3, 3.5), "nlp": (2, 3.0), "ai_feedback": (3, 11.0)}
_STORAGE_LOST = {
    "error_code": "CONTENT_SERVICE_ERROR",
    "error_message": "Content not found",
    "error_type": "HuleEduError",
}
_RATE_LIMITED = {
    "error_code": "RATE_LIMIT",
    "error_message": "anthropic answered 429: rate limit exceeded, retry after 30 s",
    "error_type": "HuleEduError",
    "context": {"provider": "anthropic", "attempts": 3},
}
_TIMED_OUT = {
    "error_code": "TIMEOUT",
    "error_message": "anthropic did not answer within 60 s",
    "error_type": "HuleEduError",
    "context": {"provider": "anthropic", "attempts": 3},
}
_TOO_FEW = {
    "error_code": "CJ_INSUFFICIENT_COMPARISONS",
    "error_message": "Only 1 essay left after filtering",
    "error_type": "HuleEduError",
    "context": {"essays": 1},
}


class Life:
    """Tells, event by event, what happens to a batch."""

    def __init__(self, batch: SimulatedBatch, plot: Plot, world: World, begins: float) -> None:
        self.begins = begins
        self._batch = batch
        self._plot = plot
        self._world = world
        self._at = begins
        self._run_id = ""
        self._attempt = 0
        self._stopped = False
        self._essays = batch.essays[plot.rejected :]
        self._done: dict[str, set[int]] = {}
        self._failed: dict[str, set[int]] = {}

    def events(self) -> Iterator[Timed]:
        """Yield everything that is said of the batch, in the order of time."""
        yield from self._intake()
        for attempt, pipeline in enumerate(self._plot.pipelines):
            if self._stopped:
                return
            self._attempt = attempt
            self._at += 240.0 if attempt else self._batch.rng.uniform(8, 40)
            yield from self._run(pipeline)

    def _tell(
        self,
        say: Callable[Concatenate[SimulatedBatch, datetime, _P], bytes],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Timed:
        return self._at, say(self._batch, self._world.moment(self._at), *args, **kwargs)

    def _intake(self) -> Iterator[Timed]:
        batch, rng = self._batch, self._batch.rng
        yield self._tell(intake.registered)
        for number, essay in enumerate(batch.essays):
            if number == self._plot.uploads:
                self._stopped = True
                return
            self._at += rng.uniform(0.3, 5.0)
            yield self._tell(intake.file_added, essay)
            self._at += rng.uniform(0.02, 0.3)
            if number < self._plot.rejected:
                yield self._tell(intake.rejected, essay)
                continue
            yield self._tell(intake.provisioned, essay)
            self._at += rng.uniform(0.02, 0.1)
            yield self._tell(intake.slot_assigned, essay)
        self._at += 0.4
        yield self._tell(intake.content_complete, self._essays)
        if batch.class_id:
            self._at += rng.uniform(15, 50)
            yield self._tell(intake.ready, self._essays)

    def _run(self, pipeline: str) -> Iterator[Timed]:
        self._run_id = new_uuid(self._batch.rng)
        began = self._at
        retry = pipeline in self._plot.pipelines[: self._attempt]
        yield self._tell(intake.requested, self._run_id, pipeline, retry)
        self._at += 0.15
        if self._plot.denied:
            self._stopped = True
            yield self._tell(intake.denied, self._run_id, pipeline)
            return
        left = [phase for phase in PHASES[pipeline] if not self._is_complete(phase)]
        for phase in PHASES[pipeline]:
            if phase not in left:
                yield self._tell(intake.skipped, self._run_id, phase)
        if left:
            yield self._tell(intake.processing_started, pipeline, left)
        for phase in left:
            self._at += 0.2
            yield from self._phase(phase)
            if self._stopped:
                return
        seconds = (self._at - began) / self._world.rate
        counts = {
            phase: (len(self._done[phase]), len(self._failed.get(phase, ())))
            for phase in PHASES[pipeline]
        }
        self._at += 0.1
        yield self._tell(outcomes.pipeline_completed, self._run_id, left, seconds)
        yield self._tell(outcomes.pipeline_notified, left, seconds)
        self._at += 0.15
        yield self._tell(outcomes.results_ready, self._run_id, counts, seconds)

    def _is_complete(self, phase: str) -> bool:
        return len(self._done.get(phase, ())) == len(self._essays)

    def _phase(self, phase: str) -> Iterator[Timed]:
        """One phase of a run; it sets `_stopped` if the run ends here."""
        essays = [
            (number, essay)
            for number, essay in enumerate(self._batch.essays)
            if number >= self._plot.rejected
            and number not in self._done.get(phase, ())
            and all(number in self._done.get(need, ()) for need in _NEEDS[phase])
        ]
        self._done.setdefault(phase, set())
        self._failed[phase] = set()
        given = [essay for _, essay in essays]
        yield self._tell(intake.initiate, self._run_id, phase, given)
        began = self._at
        if phase == "cj_assessment":
            yield from self._compare(essays)
        else:
            yield from self._work(phase, essays)
        if self._stopped:
            return
        self._at += 0.1
        succeeded = [essay for number, essay in essays if number in self._done[phase]]
        failed = [essay for number, essay in essays if number in self._failed[phase]]
        if phase == "nlp":
            seconds = self._at - began
            yield self._tell(outcomes.nlp_analysed, self._run_id, succeeded, failed, seconds)
        yield self._tell(outcomes.phase_ended, self._run_id, phase, succeeded, failed)
        if phase != "ai_feedback":
            yield self._tell(outcomes.phase_notified, phase, len(succeeded), len(failed))
        self._stopped = not succeeded

    def _compare(self, essays: list[tuple[int, Essay]]) -> Iterator[Timed]:
        """Comparative judgement: quiet for minutes, then one event for all."""
        seconds = 20 + 3 * len(essays) * self._batch.rng.uniform(0.8, 1.4)
        self._at += seconds
        numbers = {number for number, _ in essays}
        if self._plot.critical_in == "cj_assessment":
            self._failed["cj_assessment"] = numbers
            yield self._tell(outcomes.cj_failed, self._run_id, _TOO_FEW)
            return
        self._done["cj_assessment"] |= numbers
        given = [essay for _, essay in essays]
        yield self._tell(outcomes.cj_completed, self._run_id, given, seconds)
        yield self._tell(outcomes.assessed, self._run_id, given)

    def _work(self, phase: str, essays: list[tuple[int, Essay]]) -> Iterator[Timed]:
        """A phase in which workers take one essay after the other."""
        count = len(essays)
        if self._plot.stalls_in == phase:
            count = count * self._batch.rng.randrange(30, 70) // 100
            self._stopped = True
        for done_at, seconds, number, essay in self._schedule(phase, essays)[:count]:
            self._at = done_at
            error = self._error(phase, number)
            (self._failed if error else self._done)[phase].add(number)
            if phase == "spellcheck":
                yield self._tell(results.spellcheck_thin, self._run_id, essay, seconds, error)
                yield self._tell(results.spellcheck_rich, self._run_id, essay, seconds, error)
            elif phase == "ai_feedback":
                yield self._tell(results.ai_feedback, self._run_id, essay, seconds, error)
            elif not error:
                yield self._tell(results.nlp_completed, self._run_id, essay, seconds)

    def _schedule(
        self, phase: str, essays: list[tuple[int, Essay]]
    ) -> list[tuple[float, float, int, Essay]]:
        """Give the essays to the workers; return when each is done and how long it took."""
        rng = self._batch.rng
        workers, typical = _WORKERS[phase]
        slow = rng.randrange(len(essays)) if self._plot.straggler and essays else -1
        free = [self._at] * workers
        done: list[tuple[float, float, int, Essay]] = []
        for place, (number, essay) in enumerate(essays):
            luck = rng.random()
            seconds = typical * (0.5 + luck / 2 + 3 * luck * luck * luck * luck * luck * luck)
            if place == slow:
                seconds = 12 * typical
            begins = heapq.heappop(free)
            heapq.heappush(free, begins + seconds)
            done.append((begins + seconds, seconds, number, essay))
        return sorted(done, key=lambda entry: entry[0])

    def _error(self, phase: str, number: int) -> JsonObject | None:
        """Decide whether an essay fails now, and of what."""
        plot = self._plot
        if phase == "ai_feedback" and self._world.is_overloaded(self._at):
            if self._batch.rng.random() < 0.6:
                return _RATE_LIMITED
        elif plot.critical_in == phase or (
            not self._attempt and number in plot.failing.get(phase, ())
        ):
            return _TIMED_OUT if phase == "ai_feedback" else _STORAGE_LOST
        return None

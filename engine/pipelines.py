"""Pipelines: which phases there are, in which order, and which of them a batch still needs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from typing import NamedTuple

from engine.errors import NotFound, SettingsError
from engine.summaries import BatchSummary


class Phase(NamedTuple):
    """One phase of a pipeline and the phases it needs."""

    name: str
    after: tuple[str, ...]


class Pipeline(NamedTuple):
    """A named sequence of phases."""

    name: str
    description: str
    phases: tuple[Phase, ...]


class Planned(NamedTuple):
    """One line of a plan: a phase, whether it would run, and why or why not."""

    phase: str
    runs: bool
    reason: str


def parse_pipelines(text: str) -> dict[str, Pipeline]:
    """Read pipelines from TOML text.

    Raises:
        SettingsError: The text is not TOML, or a phase is unknown or in a cycle.
    """
    try:
        tables = tomllib.loads(text)
        needs = {name: tuple(table["after"]) for name, table in tables.pop("phases").items()}
        if unknown := {phase for after in needs.values() for phase in after} - needs.keys():
            raise KeyError(*sorted(unknown))
        pipelines = {
            name: Pipeline(
                name,
                table.get("description", ""),
                tuple(Phase(phase, needs[phase]) for phase in table["phases"]),
            )
            for name, table in tables.items()
        }
        for pipeline in pipelines.values():
            order(pipeline.phases)
    except (tomllib.TOMLDecodeError, KeyError, AttributeError, TypeError, CycleError) as error:
        raise SettingsError(f"pipelines: {type(error).__name__}: {error}") from error
    return pipelines


@cache
def pipelines() -> Mapping[str, Pipeline]:
    """Return the pipelines that ship with bcs-tui, by name."""
    return parse_pipelines(files("engine").joinpath("pipelines.toml").read_text("utf-8"))


@cache
def phases_of() -> Mapping[str, tuple[str, ...]]:
    """Return the phase names of each pipeline, in order."""
    return {
        name: tuple(phase.name for phase in pipeline.phases)
        for name, pipeline in pipelines().items()
    }


@cache
def dependencies() -> Mapping[str, tuple[str, ...]]:
    """Return the phases that each known phase needs."""
    return {phase.name: phase.after for line in pipelines().values() for phase in line.phases}


def order(phases: Iterable[Phase]) -> tuple[str, ...]:
    """Return phase names so that each stands behind the ones it needs.

    Raises:
        CycleError: Phases need each other in a circle.
    """
    listed = list(phases)
    position = {phase.name: index for index, phase in enumerate(listed)}
    sorter = TopologicalSorter({phase.name: phase.after for phase in listed})
    sorter.prepare()
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: position.get(name, len(position)))
        sorter.done(*ready)
        ordered += [name for name in ready if name in position]
    return tuple(ordered)


def remaining(pipeline_name: str, summary: BatchSummary) -> tuple[Planned, ...]:
    """Return what a request of a pipeline on a batch would run, and what it would leave out.

    A phase is left out when every essay of the batch has completed its step.

    Raises:
        NotFound: There is no pipeline of that name.
    """
    pipeline = pipelines().get(pipeline_name)
    if pipeline is None:
        known = ", ".join(pipelines())
        raise NotFound(f"no pipeline {pipeline_name!r}; there are: {known}")
    counts = {step.step: step for step in summary.steps}
    plan: list[Planned] = []
    for name in order(pipeline.phases):
        step = counts.get(name)
        if step and step.total and step.completed == step.total:
            known = "" if summary.expected is not None else " seen; none are registered"
            reason = f"already completed for all {step.total} essays{known}"
            plan.append(Planned(name, False, reason))
        elif step and step.completed:
            missing = step.total - step.completed
            plan.append(Planned(name, True, f"{missing} of {step.total} essays lack it"))
        else:
            plan.append(Planned(name, True, "no essay has completed it"))
    return tuple(plan)

"""What may not be removed: all that a version, a baseline or a recent run depends on, directly and indirectly.

Comes in: the history and how much of it is to be kept. Goes out: `Kept`. Called by the garbage collection. An execution
is kept or goes as a whole: with one of its outputs gone, TFX's cache could not answer with the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.history.published import standing
from pipeline.history.runs import History, Run, run_state
from pipeline.records import LEFT_OUT, RUNNING, SUCCEEDED

if TYPE_CHECKING:
    from pipeline.metadata import StoredArtifact

_BASELINES = 2
"""Blessed models per pipeline that a run may be compared with: the newest, and the one before it where the newest is
the candidate itself."""

_DAY = 24 * 3600


@dataclass
class Graph:
    """Which execution made and read which artifact, for the whole store."""

    artifacts: dict[int, StoredArtifact]
    origin: dict[int, int] = field(default_factory=dict)
    """The first execution that made an artifact, by artifact."""
    inputs: dict[int, set[int]] = field(default_factory=dict)
    """Artifacts by execution."""
    outputs: dict[int, set[int]] = field(default_factory=dict)


@dataclass
class Kept:
    """What stays, and why."""

    reasons: dict[int, str]
    """The first reason that was found, by artifact."""
    executions: set[int]
    """Executions that stay whole, and those of the runs that are kept."""
    folders: set[str]
    """Folders that records name which this store doesn't know: another store's artifacts."""


def read_graph(history: History) -> Graph:
    """Read all artifacts of the store and their uses, in batches."""
    assert history.reader is not None, "only a store can be collected"
    graph = Graph({a.id: a for a in history.reader.artifacts()})
    for use in history.reader.uses_of_artifacts(graph.artifacts):
        if use.role == "output":
            graph.origin[use.artifact] = min(use.execution, graph.origin.get(use.artifact, use.execution))
        sides = graph.outputs if use.role == "output" else graph.inputs
        sides.setdefault(use.execution, set()).add(use.artifact)
    return graph


def kept(history: History, graph: Graph, keep: int, older_than: float | None) -> Kept:
    """Return what may not be removed.

    Args:
        history: of the work directory.
        graph: of its store.
        keep: number of newest runs that are kept whole.
        older_than: runs that began less than so many days ago are kept whole, too; None: the number alone decides.
    """
    found = Kept({}, set(), set())
    for artifact in standing(history):
        _keep(found, graph, [artifact.id], f"version {artifact.properties.get('pushed_version', '')} is published")
    for blessed in _baselines(history, graph):
        _keep(found, graph, blessed, "a blessed model that the next run is compared with")
    at: dict[str, list[int]] = {}
    for artifact in graph.artifacts.values():
        at.setdefault(artifact.uri, []).append(artifact.id)
    for run, reason in _kept_runs(history, keep, older_than):
        executions = {e.id for e in history.executions(run)}
        found.executions |= executions
        ids = {i for e in executions for i in (*graph.inputs.get(e, ()), *graph.outputs.get(e, ()))}
        # What a resolver passed on is no output of its own; the record names it.
        recorded = [uri for stage in run.record.stages for uri in stage.outputs] if run.record else []
        _keep(found, graph, ids | {i for uri in recorded for i in at.get(uri, ())}, reason)
    for run in history.runs:
        if run.stored is None and run.record is not None and run.record.executed:
            found.folders |= {uri for stage in run.record.stages for uri in stage.outputs}
    return found


def _keep(found: Kept, graph: Graph, artifacts: Iterable[int], reason: str) -> None:
    """Keep artifacts with everything upstream of them, and with what else the same executions made."""
    waiting = set(artifacts) - found.reasons.keys()
    while waiting:
        found.reasons |= dict.fromkeys(waiting, reason)
        origins = {graph.origin[i] for i in waiting if i in graph.origin} - found.executions
        new = {i for e in origins for i in (*graph.inputs.get(e, ()), *graph.outputs.get(e, ()))}
        found.executions |= origins
        waiting = new - found.reasons.keys()


def _kept_runs(history: History, keep: int, older_than: float | None) -> Iterator[tuple[Run, str]]:
    """Yield the runs that are kept whole, and why."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - older_than * _DAY)) if older_than else None
    succeeded = complete = False
    for place, run in enumerate(history.runs):
        state = _state(history, run, exactly=not succeeded)
        whole = run.record is not None and all(s.state != LEFT_OUT for s in run.record.stages)
        if state == RUNNING:
            yield run, f"run {run.id} is not finished"
        elif place < keep:
            yield run, f"run {run.id} is among the newest {keep}"
        elif since is not None and run.started >= since:
            yield run, f"run {run.id} is younger than {older_than:g} days"
        elif state == SUCCEEDED and not succeeded:
            yield run, f"run {run.id} is the newest that succeeded"
        elif state == SUCCEEDED and whole and not complete:
            yield run, f"run {run.id} is the newest with all stages that succeeded"
        succeeded = succeeded or state == SUCCEEDED
        complete = complete or (state == SUCCEEDED and whole)


def _state(history: History, run: Run, exactly: bool) -> str:
    """Return the state of a run; without `exactly`, of one without a record only whether it is running."""
    if run.record is not None or exactly:
        return run_state(run, history.executions(run))
    states = history.reader.run_states(run.stored) if history.reader and run.stored else set()
    return RUNNING if states & {"NEW", "RUNNING"} else ""


def _live(*artifacts: StoredArtifact) -> bool:
    return all(artifact.state == "LIVE" for artifact in artifacts)


def _baselines(history: History, graph: Graph) -> Iterator[list[int]]:
    """Yield the newest positive blessings of each pipeline, each with its model."""
    assert history.reader is not None, "only a store can be collected"
    blessings = sorted((a for a in graph.artifacts.values() if a.type == "ModelBlessing"), key=lambda a: -a.id)
    models: dict[str, set[int]] = {name: set() for name in history.reader.pipelines()}
    for blessing in blessings:
        model = graph.artifacts.get(blessing.properties.get("current_model_id", 0))
        if blessing.properties.get("blessed") != 1 or model is None or not _live(blessing, model):
            continue
        pipeline = history.reader.place(graph.origin[blessing.id]).pipeline if blessing.id in graph.origin else ""
        seen = models.setdefault(pipeline, set())
        if len(seen) < _BASELINES or model.id in seen:
            seen.add(model.id)
            yield [blessing.id, model.id]
        if all(len(found) >= _BASELINES for found in models.values()):
            return

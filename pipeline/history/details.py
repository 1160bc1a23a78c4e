"""One run in full: its stages, what each made, from what, how long it took, what the gates said.

Comes in: a run. Goes out: `RunSummary`, a row of the list, or `RunDetails`. Called by `slipway runs list`, `runs show`
and the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.history.ingredients import flat
from pipeline.history.lineage import makers
from pipeline.history.published import STAGES
from pipeline.history.runs import DESTINATION, History, Run, run_state, utc, verdicts_of
from pipeline.records import HIT, RAN, RESOLVED, StageRecord
from serving.versions import parse_version

if TYPE_CHECKING:
    from pipeline.metadata import StoredArtifact, StoredExecution

METRICS_FILE = "summary.json"
"""What the Evaluator leaves in the artifact `evaluation`."""

_CANDIDATE = "candidate"
_FIRST_METRIC = "accuracy"
_NOT_SHOWN = ("fingerprint", "custom_config")
"""Properties that are shown taken apart, as the values of the config that the stage read."""


@dataclass(frozen=True)
class RunSummary:
    """One row of the list."""

    id: str
    name: str
    state: str
    started: str
    seconds: float
    driver: str
    """Who drove it, if it was no process of its own."""
    executed: bool
    """Whether anything was asked of TFX; otherwise nothing had changed."""
    version: int | None
    metric: str
    """Name of the metric in `value`: accuracy, or the first one that has a gate."""
    value: float | None
    error: str
    config: str


@dataclass(frozen=True)
class StageDetails:
    """What one stage did in a run."""

    id: str
    state: str
    execution: int | None
    """Id in the metadata store."""
    execution_state: str
    started: str
    seconds: float
    reason: str
    detail: str
    config: dict[str, Any]
    """The values that it read, by dotted name."""
    properties: dict[str, Any]
    inputs: dict[str, list[StoredArtifact]] = field(default_factory=dict)
    outputs: dict[str, list[StoredArtifact]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunDetails:
    """A run in full."""

    summary: RunSummary
    stages: list[StageDetails]
    verdicts: list[dict[str, Any]]
    metrics: dict[str, float | None]
    """Of the candidate on the whole split."""
    published: dict[str, str]
    """Folder of the version by kind: model, edge, forms."""
    log: str


def summaries(history: History, runs: Sequence[Run]) -> list[RunSummary]:
    """Return the rows of runs."""
    history.load(run for run in runs if run.record is None)
    return [summary(history, run) for run in runs]


def summary(history: History, run: Run) -> RunSummary:
    """Return a run's row."""
    record = run.record
    if record is not None:
        name, value = _headline(_gate_metrics(record.verdicts))
        return RunSummary(
            run.id, record.name, record.state, run.started, record.seconds, record.driver, record.executed,
            record.version, name, value, record.error, record.config,
        )  # fmt: skip
    executions = history.executions(run)
    name, value = _headline(metrics(executions, []))
    pipeline = _pipeline(history, executions)
    times = [e.created for e in executions], [e.updated for e in executions]
    seconds = round((max(times[1]) - min(times[0])) / 1000, 3) if executions else 0.0
    versions = _published(executions, history)
    version = parse_version(Path(versions["model"]).name) if "model" in versions else None
    state = run_state(run, executions)
    return RunSummary(run.id, pipeline, state, run.started, seconds, "", True, version, name, value, "", "")


def details(history: History, run: Run) -> RunDetails:
    """Return a run in full; that of a run that found nothing to do is told from where its results came."""
    executions = behind(history, run)
    stages = _stages(history, run, executions)
    record = run.record
    if record is not None:
        verdicts = record.verdicts
        places = {"model": record.served, "edge": record.bundle, "forms": record.forms}
        published = {kind: place for kind, place in places.items() if place}
    else:
        verdicts = verdicts_of(uri for e in executions for uris in e.outputs.values() for uri in uris)
        published = _published(executions, history)
    log = record.log if record is not None else ""
    return RunDetails(summary(history, run), stages, verdicts, metrics(executions, verdicts), published, log)


def behind(history: History, run: Run) -> list[StoredExecution]:
    """Return the executions of a run, or, where it found nothing to do, those that its results are from."""
    own = history.executions(run)
    if own or history.reader is None or run.record is None:
        return own
    recorded: dict[str, set[str]] = {}
    for stage in run.record.stages:
        for uri in stage.outputs:
            recorded.setdefault(uri, set()).add(stage.id)
    artifacts = history.reader.artifacts_at(recorded)
    origins = makers(history.reader, (artifact.id for artifact in artifacts))
    found = {e.id: e for e in history.reader.executions(origins.values()) if e.successful}
    nodes = nodes_of(history, list(found.values()))
    # A resolver's record names artifacts that others made, in other runs.
    own_ids = {origins[a.id] for a in artifacts if a.id in origins and nodes.get(origins[a.id]) in recorded[a.uri]}
    return [found[i] for i in sorted(own_ids)]


def nodes_of(history: History, executions: Sequence[StoredExecution]) -> dict[int, str]:
    """Return the stage of each execution, by its id."""
    return {e.id: history.reader.place(e.id).node for e in executions} if history.reader else {}


def metrics(executions: Sequence[StoredExecution], verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the candidate's metrics on the whole split.

    Args:
        executions: of the run.
        verdicts: what the gates said; the metrics that have one outlive the evaluation's removal.
    """
    for execution in executions:
        for uri in execution.outputs.get("evaluation", []):
            try:
                slices = json.loads(Path(uri, METRICS_FILE).read_text(encoding="utf-8"))["slices"]
                return dict(next(s["metrics"] for s in slices if s["model"] == _CANDIDATE and not s["slice"]))
            except (OSError, ValueError, LookupError, TypeError, StopIteration):
                continue
    return _gate_metrics(verdicts)


def _gate_metrics(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    checks = [check for verdict in verdicts if verdict["gate"] == "Evaluator" for check in verdict["checks"]]
    return {check["metric"]: check["value"] for check in checks if not check["slice"]}


def _pipeline(history: History, executions: Sequence[StoredExecution]) -> str:
    if history.reader is None or not executions:
        return ""
    only = history.pipelines[0] if len(history.pipelines) == 1 else ""
    return only or history.reader.place(executions[0].id).pipeline


def _headline(values: Mapping[str, float | None]) -> tuple[str, float | None]:
    name = _FIRST_METRIC if _FIRST_METRIC in values else next(iter(values), "")
    return name, values.get(name)


def _published(executions: Sequence[StoredExecution], history: History) -> dict[str, str]:
    """Return the folders of the versions that a run published, or found in service."""
    found: dict[str, str] = {}
    for execution in executions:
        stage = execution.type.rpartition(".")[2]
        for artifact in execution.output_ids if stage in STAGES and execution.successful else ():
            if artifact in history.pushed:
                found[STAGES[stage]] = str(history.pushed[artifact].properties[DESTINATION])
    return found


def _stages(history: History, run: Run, executions: Sequence[StoredExecution]) -> list[StageDetails]:
    recorded = {stage.id: stage for stage in run.record.stages} if run.record else {}
    nodes = nodes_of(history, executions)
    by_stage = {nodes[e.id]: e for e in sorted(executions, key=lambda e: e.id)}
    ids = [i for e in executions for keys in (e.inputs, e.artifacts) for found in keys.values() for i in found]
    artifacts = {a.id: a for a in history.reader.artifacts(ids)} if history.reader else {}
    order = [*recorded, *(stage for stage in by_stage if stage not in recorded)]
    return [_stage(stage, recorded.get(stage), by_stage.get(stage), artifacts) for stage in order]


def _stage(
    name: str, record: StageRecord | None, execution: StoredExecution | None, artifacts: Mapping[int, StoredArtifact]
) -> StageDetails:
    if execution is None:
        assert record is not None, "a stage is known from its record or from its execution"
        return StageDetails(name, record.state, None, "", "", record.seconds, record.reason, record.detail, {}, {})
    key = execution.key
    properties = {
        name: value
        for name, value in execution.properties.items()
        if name not in _NOT_SHOWN and not name.startswith("__") and value not in ("", None)
    }
    return StageDetails(
        name,
        record.state if record else _state(execution),
        execution.id,
        execution.state,
        utc(execution.created),
        record.seconds if record else round((execution.updated - execution.created) / 1000, 3),
        record.reason if record else "",
        record.detail if record else "",
        flat(key["config"]) if key else {},
        properties,
        {key: [artifacts[i] for i in ids if i in artifacts] for key, ids in execution.inputs.items()},
        {key: [artifacts[i] for i in ids if i in artifacts] for key, ids in execution.artifacts.items()},
    )


def _state(execution: StoredExecution) -> str:
    """Return the state of an execution in the words of the records."""
    if execution.successful and execution.resolves:
        return RESOLVED
    return {"CACHED": HIT, "COMPLETE": RAN}.get(execution.state, execution.state)

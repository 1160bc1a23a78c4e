"""Where a published version, or an artifact, comes from: back to its examples, its config and the commit.

Comes in: a version or a folder. Goes out: `Lineage`. Called by `slipway runs lineage`; the way upstream is also what
the garbage collection goes. The first execution that made an artifact is its origin; later ones that found it in the
cache are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.history.ingredients import Ingredients, flat, ingredients
from pipeline.history.published import Publication, at, publication
from pipeline.history.runs import History, utc
from serving.manifest import MANIFEST_FILE
from serving.versions import parse_version

if TYPE_CHECKING:
    from pipeline.locating import PublishedKind
    from pipeline.metadata import MetadataReader, StoredArtifact, StoredExecution
    from pipeline.records import RunRecord

OTHER_MODELS = ("baseline_model", "base_model")
"""Inputs that are models with a lineage of their own: what was compared with, and what the training started from."""

_REPORT = "ingest_report.json"


@dataclass(frozen=True)
class Step:
    """One execution on the way from the source to the artifact."""

    stage: str
    execution: int
    run: str
    started: str
    inputs: dict[str, list[int]]
    """Ids of artifacts by key."""
    outputs: dict[str, list[int]]


@dataclass(frozen=True)
class Data:
    """The examples."""

    uri: str
    fingerprint: str
    splits: dict[str, int] = field(default_factory=dict)
    """Number of examples."""
    spans: str = ""
    """Numbers of the spans that they are from, where the source has spans."""
    source: str = ""


@dataclass(frozen=True)
class Lineage:
    """Where something comes from."""

    title: str
    artifact: StoredArtifact | None
    """What the way back began with; None for a version that the store doesn't know."""
    publication: Publication | None
    steps: list[Step]
    """Upstream executions, the last one first."""
    artifacts: dict[int, StoredArtifact]
    data: Data | None
    ingredients: Ingredients
    config: dict[str, Any]
    """Effective values by dotted name: what the stages read, and the rest of the config of the run that trained."""
    commit: str
    """Of the run that trained; as published, where its record doesn't say."""
    remarks: list[str] = field(default_factory=list)

    def step_of(self, artifact: int) -> Step | None:
        """Return the step that made an artifact."""
        return next((s for s in self.steps if any(artifact in ids for ids in s.outputs.values())), None)


def trace(
    history: History,
    title: str,
    artifact: StoredArtifact | None,
    publication: Publication | None = None,
    remarks: Iterable[str] = (),
) -> Lineage:
    """Follow an artifact upstream.

    Args:
        history: of the work directory.
        title: what it is, for people.
        artifact: where to begin; None if the store has none.
        publication: the version that it was published as, if it was.
        remarks: what is to be said about it.
    """
    reader, remarks = history.reader, list(remarks)
    manifest = publication.manifest if publication else None
    published_commit = (manifest.git_commit if manifest else None) or ""
    if reader is None or artifact is None:
        return Lineage(title, None, publication, [], {}, None, Ingredients(), {}, published_commit, remarks)
    executions = upstream(reader, [artifact.id], set(OTHER_MODELS))
    steps = []
    for execution in sorted(executions, key=lambda e: e.id, reverse=True):
        place = reader.place(execution.id)
        started = utc(execution.created)
        steps.append(Step(place.node, execution.id, place.run, started, execution.inputs, execution.artifacts))
    ids = {i for e in executions for keys in (e.inputs, e.artifacts) for found in keys.values() for i in found}
    artifacts = {a.id: a for a in reader.artifacts(ids | {artifact.id})}
    by_stage = {step.stage: e for step in steps for e in executions if e.id == step.execution}
    found = ingredients(by_stage)
    record = _record(history, steps)
    config = {**(flat(record.settings) if record else {}), **found.config}
    data = _data(by_stage.get("ExampleGen"), artifacts, config)
    commit = (record.environment.get("commit", "") if record else "") or published_commit
    gone = sum(a.state != "LIVE" for a in artifacts.values())
    if gone:
        remarks.append(f"{gone} of the {len(artifacts)} artifacts were removed; what is known about them is kept")
    return Lineage(title, artifact, publication, steps, artifacts, data, found, config, commit, remarks)


def trace_version(history: History, kind: PublishedKind, name: str) -> Lineage:
    """Follow a published version upstream.

    Args:
        history: of the work directory.
        kind: what was published.
        name: the version's number, or `latest`.

    Raises:
        ConfigError: there is no such version.
    """
    return _trace_publication(history, publication(history, kind, name), kind)


def trace_folder(history: History, folder: Path) -> Lineage:
    """Follow the artifact in a folder, or the version, upstream.

    Args:
        history: of the work directory.
        folder: that of an artifact, one inside of it, or that of a version.

    Raises:
        ConfigError: neither the store nor a manifest says what it is.
    """
    place = folder.absolute()
    number = parse_version(place.name)
    if number is not None and (place / MANIFEST_FILE).is_file():
        return _trace_publication(history, at(history, place, number), "version")
    for candidate in (place, *place.parents) if history.reader else ():
        found = history.reader.artifacts_at([str(candidate)]) if history.reader else []
        if found:
            return trace(history, f"{found[-1].type} {candidate}", found[-1])
    raise ConfigError(
        f"{place} is no artifact that the metadata store of {history.workdir.root} knows, and no published version; "
        "expected such a folder (`slipway runs show` lists those of a run), the number of a version, or `latest`"
    )


def _trace_publication(history: History, found: Publication, kind: str) -> Lineage:
    remarks = []
    if found.manifest is None:
        remarks.append("its manifest can't be read, so it is damaged")
    elif found.manifest.restores is not None:
        remarks.append(f"it brings back the content of version {found.manifest.restores}, whose lineage this is")
    if not found.artifacts:
        remarks.append(
            "the metadata store knows nothing of it: it was published by hand or by runs with another store; its "
            "manifest is all there is"
        )
    elif len(found.artifacts) > 1:
        remarks.append(f"pushed again with the very same content: {len(found.artifacts) - 1} x")
    title = f"{kind} version {found.number} in {found.path}"
    return trace(history, title, found.artifacts[0] if found.artifacts else None, found, remarks)


def upstream(reader: MetadataReader, artifacts: Iterable[int], without: Iterable[str] = ()) -> list[StoredExecution]:
    """Return the executions that artifacts come from, directly and indirectly.

    Args:
        reader: of the store.
        artifacts: their ids.
        without: inputs that are not followed, by key.
    """
    found: dict[int, StoredExecution] = {}
    waiting, seen = set(artifacts), set(artifacts)
    passed_over = set(without)
    while waiting:
        origins = set(makers(reader, waiting).values())
        new = reader.executions(origins - found.keys())
        found |= {e.id: e for e in new}
        keys = (ids for e in new for key, ids in e.inputs.items() if key not in passed_over)
        waiting = {i for ids in keys for i in ids} - seen
        seen |= waiting
    return list(found.values())


def makers(reader: MetadataReader, artifacts: Iterable[int]) -> dict[int, int]:
    """Return the first execution that made each artifact, by the artifact's id."""
    origins: dict[int, int] = {}
    for use in reader.uses_of_artifacts(artifacts):
        if use.role == "output":
            origins[use.artifact] = min(use.execution, origins.get(use.artifact, use.execution))
    return origins


def _record(history: History, steps: Iterable[Step]) -> RunRecord | None:
    """Return the record of the run that trained, or else of the last one on the way."""
    runs = {step.stage: step.run for step in steps}
    names = [runs.get("Trainer"), *runs.values()]
    known = {run.id: run.record for run in history.runs}
    return next((record for name in names if name and (record := known.get(name))), None)


def _data(
    execution: StoredExecution | None, artifacts: Mapping[int, StoredArtifact], config: Mapping[str, Any]
) -> Data | None:
    if execution is None:
        return None
    key = execution.key
    examples = next((artifacts[i] for ids in execution.artifacts.values() for i in ids if i in artifacts), None)
    report: dict[str, Any] = {}
    if examples is not None:
        try:
            report = json.loads(Path(examples.uri, _REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = {}
    splits = {split: sum(classes.values()) for split, classes in report.get("examples", {}).items()}
    spans = str(examples.properties.get("spans") or "") if examples is not None else ""
    source = next((str(config[k]) for k in ("data.path", "data.source") if config.get(k)), report.get("source", ""))
    return Data(examples.uri if examples else "", key["data"] if key else "", splits, spans, source)

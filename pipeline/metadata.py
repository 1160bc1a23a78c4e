"""Reading ML Metadata: the one module that talks to the store.

Comes in: the way to a store. Goes out: runs, executions and artifacts, as small plain objects. Called by the runners
and by the commands that look at runs. Only getters by type, id, context and artifact are used: `filter_query` needs a
build of the store that newer releases don't have. What is asked for many ids goes in batches, since one question each
would be thousands of round trips to a database server. The only thing written is the state of artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format, struct_pb2
from ml_metadata.proto import metadata_store_pb2

from pipeline.metadata_connection import MetadataAccess, PatientStore

LIVE, MARKED, DELETED = "LIVE", "MARKED_FOR_DELETION", "DELETED"
"""States of an artifact: usable, about to be removed, removed. TFX's cache and resolvers take LIVE ones only."""

INPUT, OUTPUT = "input", "output"
"""How an execution used an artifact."""

BATCH = 1000
"""Ids per question: far below what a database takes in one statement, and few enough questions."""

_INPUTS = (metadata_store_pb2.Event.INPUT, metadata_store_pb2.Event.DECLARED_INPUT)
_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
_SUCCESSFUL = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


@dataclass(frozen=True)
class StoredArtifact:
    """One artifact."""

    id: int
    type: str
    uri: str
    state: str
    """One of MLMD's states: PENDING, LIVE, MARKED_FOR_DELETION, DELETED and so on; UNKNOWN if nobody said."""
    properties: dict[str, Any]
    created: int
    """Milliseconds since 1970, UTC."""


@dataclass(frozen=True)
class StoredExecution:
    """One execution of a node."""

    id: int
    state: str
    """One of MLMD's states: RUNNING, COMPLETE, CACHED, FAILED and so on."""
    properties: dict[str, Any]
    """Execution properties: what TFX's cache looks at, and some of TFX's own (their names begin with `__`)."""
    inputs: dict[str, list[int]]
    """Ids of the input artifacts by key."""
    outputs: dict[str, list[str]]
    """URIs of the output artifacts by key."""
    output_ids: list[int]
    """Ids of the output artifacts."""
    artifacts: dict[str, list[int]] = field(default_factory=dict)
    """Ids of the output artifacts by key."""
    type: str = ""
    """Dotted name of the component."""
    created: int = 0
    """Milliseconds since 1970, UTC."""
    updated: int = 0
    """The same, of the last change of its state."""

    @property
    def successful(self) -> bool:
        """Whether the execution's outputs may be used."""
        return self.state in ("COMPLETE", "CACHED")

    @property
    def resolves(self) -> bool:
        """Whether it looked artifacts up instead of making them."""
        return self.type.endswith("Resolver")

    @property
    def key(self) -> dict[str, Any] | None:
        """What the stage depends on besides its inputs (`pipeline.stage_keys`), or None where it has no such key."""
        text = stage_key(self.properties)
        return json.loads(text) if text else None


@dataclass(frozen=True)
class StoredRun:
    """One run of a pipeline as the store knows it."""

    context: int
    """Id of its context."""
    id: str
    created: int
    """Milliseconds since 1970, UTC."""


@dataclass(frozen=True)
class Use:
    """That an execution read or made an artifact."""

    execution: int
    artifact: int
    role: str
    """INPUT or OUTPUT; what a resolver passes on counts as neither."""


@dataclass(frozen=True)
class Place:
    """Where an execution belongs."""

    pipeline: str
    node: str
    run: str


class MetadataReader:
    """Runs, executions and artifacts in a metadata store."""

    def __init__(self, access: MetadataAccess):
        """Initialize.

        Args:
            access: the way to the store; a server that is away is asked again for a while.
        """
        self._store = PatientStore(access)

    def execution(self, execution_id: int) -> StoredExecution:
        """Return an execution by its id."""
        (stored,) = self._store.get_executions_by_id([execution_id])
        return self._read([stored])[0]

    def executions(self, ids: Iterable[int]) -> list[StoredExecution]:
        """Return the executions with these ids, sorted by id; unknown ids are passed over."""
        return self._read(self._batched(self._store.get_executions_by_id, ids))

    def last_success(self, pipeline: str, node: str, before: int | None = None) -> StoredExecution | None:
        """Return the newest successful execution of a node.

        Args:
            pipeline: name of the pipeline.
            node: id of the node.
            before: only executions with a smaller id.
        """
        context = self._store.get_context_by_type_and_name("node", f"{pipeline}.{node}")
        if context is None:
            return None
        stored: Iterable[Any] = self._store.get_executions_by_context(context.id)
        good = [e for e in stored if e.last_known_state in _SUCCESSFUL and (before is None or e.id < before)]
        return self._read([max(good, key=lambda e: e.id)])[0] if good else None

    def success_in_run(self, pipeline: str, run_id: str, node: str) -> StoredExecution | None:
        """Return the newest successful execution of a node in one run.

        Args:
            pipeline: name of the pipeline.
            run_id: id of the run.
            node: id of the node.
        """
        names = (("pipeline_run", run_id), ("node", f"{pipeline}.{node}"))
        contexts = [self._store.get_context_by_type_and_name(*name) for name in names]
        if None in contexts:
            return None
        of_run, of_node = (self._store.get_executions_by_context(context.id) for context in contexts)
        ids = {execution.id for execution in of_run}
        good = [e for e in of_node if e.id in ids and e.last_known_state in _SUCCESSFUL]
        return self._read([max(good, key=lambda e: e.id)])[0] if good else None

    def runs(self) -> list[StoredRun]:
        """Return all runs that the store knows, whichever orchestrator made them, in the order of their ids."""
        contexts = self._store.get_contexts_by_type("pipeline_run")
        return [StoredRun(c.id, c.name, c.create_time_since_epoch) for c in sorted(contexts, key=lambda c: c.id)]

    def runs_executions(self, runs: Iterable[StoredRun]) -> dict[int, list[StoredExecution]]:
        """Return what was executed in runs, sorted by id, by the context of the run."""
        stored = {run.context: self._store.get_executions_by_context(run.context) for run in runs}
        read = {e.id: e for e in self._read(e for found in stored.values() for e in found)}
        return {context: [read[i] for i in sorted(e.id for e in found)] for context, found in stored.items()}

    def run_states(self, run: StoredRun) -> set[str]:
        """Return the states of a run's executions."""
        stored = self._store.get_executions_by_context(run.context)
        return {metadata_store_pb2.Execution.State.Name(e.last_known_state) for e in stored}

    def pipelines(self) -> list[str]:
        """Return the names of the pipelines that share the store."""
        return sorted(context.name for context in self._store.get_contexts_by_type("pipeline"))

    def place(self, execution_id: int) -> Place:
        """Return pipeline, node and run of an execution; empty texts for what the store doesn't say."""
        names = {c.type: c.name for c in self._store.get_contexts_by_execution(execution_id)}
        pipeline, node = names.get("pipeline", ""), names.get("node", "")
        return Place(pipeline, node.removeprefix(f"{pipeline}."), names.get("pipeline_run", ""))

    def artifacts(self, ids: Iterable[int] | None = None) -> list[StoredArtifact]:
        """Return the artifacts with these ids, or all there are, sorted by id."""
        if ids is None:
            found: Sequence[Any] = self._store.get_artifacts()
        else:
            found = self._batched(self._store.get_artifacts_by_id, ids)
        return [_artifact(stored) for stored in sorted(found, key=lambda a: a.id)]

    def artifacts_of_type(self, name: str) -> list[StoredArtifact]:
        """Return all artifacts of a type, sorted by id."""
        return [_artifact(a) for a in sorted(self._store.get_artifacts_by_type(name), key=lambda a: a.id)]

    def artifacts_at(self, uris: Iterable[str]) -> list[StoredArtifact]:
        """Return the artifacts that lie at some URIs, sorted by id."""
        found = {a.id: a for uri in dict.fromkeys(uris) for a in self._store.get_artifacts_by_uri(uri)}
        return [_artifact(found[i]) for i in sorted(found)]

    def uses_of_artifacts(self, ids: Iterable[int]) -> list[Use]:
        """Return which executions read or made some artifacts."""
        return _uses(self._batched(self._store.get_events_by_artifact_ids, ids))

    def uses_by_executions(self, ids: Iterable[int]) -> list[Use]:
        """Return which artifacts some executions read or made."""
        return _uses(self._batched(self._store.get_events_by_execution_ids, ids))

    def set_state(self, ids: Iterable[int], state: str) -> None:
        """Give artifacts a new state: all those of a batch at once, or none.

        Args:
            ids: of the artifacts.
            state: MARKED or DELETED.
        """
        value = metadata_store_pb2.Artifact.State.Value(state)
        for batch in _batches(ids):
            stored = self._store.get_artifacts_by_id(batch)
            for artifact in stored:
                artifact.state = value
            self._store.put_artifacts(stored)

    def _batched(self, ask: Callable[[list[int]], Iterable[Any]], ids: Iterable[int]) -> list[Any]:
        return [found for batch in _batches(ids) for found in ask(batch)]

    def _read(self, stored: Iterable[metadata_store_pb2.Execution]) -> list[StoredExecution]:
        executions = {e.id: e for e in stored}
        events: dict[int, list[Any]] = {i: [] for i in sorted(executions)}
        for event in self._batched(self._store.get_events_by_execution_ids, executions):
            events[event.execution_id].append(event)
        ids = (e.artifact_id for found in events.values() for e in found if e.type in _OUTPUTS)
        uris = {a.id: a.uri for a in self._batched(self._store.get_artifacts_by_id, ids)}
        return [_execution(executions[i], events[i], uris) for i in events]


def stage_key(properties: Mapping[str, Any]) -> str | None:
    """Return the JSON of `StageKey` among execution properties: ours have it as one, TFX's in `custom_config`."""
    if properties.get("fingerprint"):
        return str(properties["fingerprint"])
    try:
        return str(json.loads(properties["custom_config"])["fingerprint"])
    except (KeyError, TypeError, ValueError):
        return None


def _batches(ids: Iterable[int]) -> Iterator[list[int]]:
    wanted = sorted(set(ids))
    return (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))


def _execution(stored: Any, events: list[Any], uris: dict[int, str]) -> StoredExecution:
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, list[int]] = {}
    for event in events:
        if event.path.steps:
            keys = inputs if event.type in _INPUTS else outputs
            keys.setdefault(event.path.steps[0].key, []).append(event.artifact_id)
    return StoredExecution(
        stored.id,
        metadata_store_pb2.Execution.State.Name(stored.last_known_state),
        {name: _value(value) for name, value in stored.custom_properties.items()},
        inputs,
        {key: [uris[i] for i in ids if i in uris] for key, ids in outputs.items()},
        [event.artifact_id for event in events if event.type in _OUTPUTS],
        outputs,
        stored.type,
        stored.create_time_since_epoch,
        stored.last_update_time_since_epoch,
    )


def _artifact(stored: metadata_store_pb2.Artifact) -> StoredArtifact:
    values = {**stored.properties, **stored.custom_properties}
    return StoredArtifact(
        stored.id,
        stored.type,
        stored.uri,
        metadata_store_pb2.Artifact.State.Name(stored.state),
        {name: _value(value) for name, value in values.items()},
        stored.create_time_since_epoch,
    )


def _uses(events: Iterable[metadata_store_pb2.Event]) -> list[Use]:
    roles = {**dict.fromkeys(_INPUTS, INPUT), metadata_store_pb2.Event.OUTPUT: OUTPUT}
    return [Use(e.execution_id, e.artifact_id, roles[e.type]) for e in events if e.type in roles]


def _value(value: metadata_store_pb2.Value) -> Any:
    plain = getattr(value, str(value.WhichOneof("value")), None)
    return json_format.MessageToDict(plain) if isinstance(plain, struct_pb2.Struct) else plain

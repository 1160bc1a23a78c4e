"""Reading ML Metadata: the one module that talks to the store.

Comes in: a connection. Goes out: executions, their properties and artifacts, as small plain objects. Called by the
runner and by the commands that look at runs. Only getters are used: `filter_query` needs a build of the store that
newer releases don't have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
_SUCCESSFUL = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


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

    @property
    def successful(self) -> bool:
        """Whether the execution's outputs may be used."""
        return self.state in ("COMPLETE", "CACHED")


class MetadataReader:
    """Executions in a metadata store."""

    def __init__(self, connection: metadata_store_pb2.ConnectionConfig):
        """Connect.

        Args:
            connection: how to reach the store.
        """
        self._store = mlmd.MetadataStore(connection)

    def execution(self, execution_id: int) -> StoredExecution:
        """Return an execution by its id."""
        (stored,) = self._store.get_executions_by_id([execution_id])
        return self._read(stored)

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
        return self._read(max(good, key=lambda e: e.id)) if good else None

    def _read(self, stored: metadata_store_pb2.Execution) -> StoredExecution:
        events = self._store.get_events_by_execution_ids([stored.id])
        artifacts = {a.id: a for a in self._store.get_artifacts_by_id([e.artifact_id for e in events])}
        inputs: dict[str, list[int]] = {}
        outputs: dict[str, list[str]] = {}
        for event in events:
            if not event.path.steps:
                continue
            key = event.path.steps[0].key
            if event.type == metadata_store_pb2.Event.INPUT:
                inputs.setdefault(key, []).append(event.artifact_id)
            else:
                outputs.setdefault(key, []).append(artifacts[event.artifact_id].uri)
        return StoredExecution(
            stored.id,
            metadata_store_pb2.Execution.State.Name(stored.last_known_state),
            {name: _value(value) for name, value in stored.custom_properties.items()},
            inputs,
            outputs,
            [event.artifact_id for event in events if event.type in _OUTPUTS],
        )


def _value(value: metadata_store_pb2.Value) -> Any:
    return getattr(value, str(value.WhichOneof("value")), None)

"""TFX's launcher, made safe to repeat, with a hook where it executes a node; and why the cache doesn't hold a node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ml_metadata import errors
from tfx.dsl.io import fileio
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.portable import data_types, launcher
from tfx.proto.orchestration import executable_spec_pb2, execution_result_pb2

from pipeline.errors import ConfigError
from pipeline.metadata import StoredExecution, stage_key
from pipeline.metadata_connection import MetadataAccess, MetadataAway
from pipeline.stage_keys import difference

_MOST_REASONS = 3

_log = logging.getLogger(__name__)


class PatientMetadata(tfx_metadata.Metadata):
    """TFX's handle of a metadata store; connecting waits for a server that is away."""

    def __init__(self, access: MetadataAccess):
        """Initialize.

        Args:
            access: the way to the store.
        """
        super().__init__(access.connection)
        self._access = access

    def __enter__(self) -> PatientMetadata:
        """Connect."""
        self._store = self._access.open()
        self._users += 1
        return self


class HookedLauncher(launcher.Launcher):
    """TFX's launcher for one run of a node, that may be the second attempt and may lose the metadata store on the way.

    Whatever talks to the store is done again while the store is away, and is written so that nothing is there twice
    when only the answer was lost. `on_execution` is called with what TFX resolved, right before a node that isn't in
    the cache executes.
    """

    def __init__(
        self,
        *args: Any,
        access: MetadataAccess,
        finished: Callable[[], StoredExecution | None],
        on_execution: Callable[[data_types.ExecutionInfo], None],
        **kwargs: Any,
    ):
        """Initialize.

        Args:
            *args: of TFX's launcher.
            access: the way to the metadata store.
            finished: returns the node's successful execution in this run, if there is one.
            on_execution: is told what is about to be executed.
            **kwargs: of TFX's launcher.
        """
        super().__init__(*args, mlmd_connection=PatientMetadata(access), **kwargs)
        self._access = access
        self._finished = finished
        self._on_execution = on_execution
        self._executor_spec = _without_engine(kwargs.get("executor_spec"))

    def launch(self) -> data_types.ExecutionInfo | None:
        """Execute the node; see TFX's launcher."""
        if self._system_node_handler is None:
            return super().launch()
        return self._access.patiently(self._resolve)

    def _resolve(self) -> data_types.ExecutionInfo | None:
        """Look artifacts up, unless an attempt before did so: two answers would both reach who asks for them."""
        done = self._finished()
        return data_types.ExecutionInfo(execution_id=done.id) if done is not None else super().launch()

    def _prepare_execution(self) -> Any:
        # An execution that was registered already is found and used again.
        return self._access.patiently(super()._prepare_execution)

    def _publish_successful_execution(self, *args: Any, **kwargs: Any) -> None:
        def publish() -> None:
            if self._finished() is None:
                super(HookedLauncher, self)._publish_successful_execution(*args, **kwargs)

        self._access.patiently(publish)

    def _publish_failed_execution(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._access.patiently(lambda: super(HookedLauncher, self)._publish_failed_execution(*args, **kwargs))
        except (MetadataAway, ConfigError, errors.StatusError) as error:  # the node's own error is the one to show
            _log.warning("that the node failed isn't in the metadata store: %s", error)

    def _run_executor(self, execution_info: data_types.ExecutionInfo) -> execution_result_pb2.ExecutorOutput:
        self._on_execution(execution_info)
        _remove_leftovers(execution_info)
        return super()._run_executor(execution_info)


def _remove_leftovers(info: data_types.ExecutionInfo) -> None:
    """Remove what an attempt left that was killed; a new one of the same run has the same id and the same folders."""
    folders = [artifact.uri for artifacts in info.output_dict.values() for artifact in artifacts]
    for folder in [uri for uri in folders if fileio.exists(uri)]:
        fileio.rmtree(folder) if fileio.isdir(folder) else fileio.remove(folder)
    if fileio.exists(info.execution_output_uri):
        fileio.remove(info.execution_output_uri)
    if fileio.exists(info.tmp_dir):
        fileio.rmtree(info.tmp_dir)
    fileio.makedirs(info.tmp_dir)


def _without_engine(spec: Any) -> Any:
    """Return what executes a node as TFX's cache is to see it: which engine of Beam's ran it made no difference."""
    if not isinstance(spec, executable_spec_pb2.BeamExecutableSpec):
        return spec
    seen = executable_spec_pb2.BeamExecutableSpec()
    seen.CopyFrom(spec)
    seen.ClearField("beam_pipeline_args")
    seen.ClearField("beam_pipeline_args_placeholders")
    return seen


def miss_reason(info: data_types.ExecutionInfo, last: StoredExecution | None, producers: Mapping[str, str]) -> str:
    """Return in words why a node is executed and not taken from the cache.

    Args:
        info: the execution at hand.
        last: the last successful execution of the node, if any.
        producers: name of the stage of this run that yielded an artifact, by the artifact's URI.
    """
    if last is None:
        return "first run"
    reasons = _key_differences(info.exec_properties, last.properties)
    for key, artifacts in info.input_dict.items():
        ids = [artifact.id for artifact in artifacts]
        if ids != last.inputs.get(key, []):
            made_by = {producers[artifact.uri] for artifact in artifacts if artifact.uri in producers}
            reasons.append(f"new {key}" + (f" from {', '.join(sorted(made_by))}" if made_by else ""))
    if not reasons:
        return "its outputs are gone, or the cache was switched off"
    more = f" and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return "; ".join(reasons[:_MOST_REASONS]) + more


def planned_key(node: Any) -> str | None:
    """Return the key (`pipeline.stage_keys`) with which a node was compiled; None where it has none."""
    values = {name: value.field_value.string_value for name, value in node.parameters.parameters.items()}
    return stage_key(values)


def _key_differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Return what differs between the execution properties, with our fingerprints taken apart."""
    old, new = stage_key(before), stage_key(now)
    if old and new and old != new:
        return difference(old, new)
    changed = (
        name for name, value in now.items() if name != "custom_config" and str(value) != str(before.get(name, value))
    )
    return [f"{name} changed" for name in sorted(changed)]

"""Runs a pipeline in this process: TFX's LocalDagRunner, watched, with a record of what happened.

Comes in: the config, the work directory and options. Goes out: the run's record, on disk after every stage. Called
by `slipway run` and by the tests. A stage that fails ends the run; the next run finds what went before in the cache
and continues there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import data_types, partial_run_utils, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.errors import ConfigError, GateRefused
from pipeline.metadata import MetadataReader
from pipeline.records import HIT, LEFT_OUT, RAN, RESOLVED, STAGE_FAILED, RunRecord, StageRecord
from pipeline.runners import partial
from pipeline.runners.facts import stage_facts
from pipeline.runners.launching import HookedLauncher, miss_reason
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.runners.resources import Meter

_RUN_ID_PARAMETER = "pipeline-run-id"


class StageError(RuntimeError):
    """A stage failed without an exception of its own, for example because an input is missing."""


class LocalRunner(local_dag_runner.LocalDagRunner):
    """LocalDagRunner that reports every stage, stops at a failed one and keeps a record."""

    def __init__(
        self, record: RunRecord, observer: Observer, options: RunOptions, past: Iterable[RunRecord], save: Any
    ):
        """Initialize.

        Args:
            record: filled as the run goes.
            observer: is told what happens.
            options: which stages run.
            past: earlier runs of the work directory, the newest first.
            save: is called after every change of the record.
        """
        super().__init__()
        self._record = record
        self._observer = observer
        self._options = options
        self._past = past
        self._save = save
        self._producers: dict[int, str] = {}

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Run a compiled pipeline stage by stage.

        Args:
            pipeline: TFX's intermediate representation.
            run_options: not used; `RunOptions` of the constructor take their place.

        Raises:
            GateRefused: the data broke its schema.
            StageError: a stage could not be executed.
        """
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, {_RUN_ID_PARAMETER: self._record.run_id})
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connections = deployment.metadata_connection_config
        config = getattr(connections, connections.WhichOneof("connection_config"))
        nodes = [node.pipeline_node for node in pipeline.nodes]
        self._record.executed = True
        self._record.stages = [StageRecord(node.node_info.id) for node in nodes]
        partial.mark(pipeline, self._options, self._past)
        self._observer.run_started(self._record)
        self._reader = MetadataReader(config)
        for node in nodes:
            stage = self._record.stage(node.node_info.id)
            if node.execution_options.HasField("skip"):
                stage.state = LEFT_OUT
                continue
            if node.execution_options.run.perform_snapshot:
                with tfx_metadata.Metadata(config) as handle:
                    partial_run_utils.snapshot(handle, pipeline)
            self._run_stage(node, stage, pipeline, deployment, config)

    def _run_stage(
        self, node: Any, stage: StageRecord, pipeline: pipeline_pb2.Pipeline, deployment: Any, config: Any
    ) -> None:
        """Launch one node and record what came of it."""
        meter = Meter()
        last = self._reader.last_success(pipeline.pipeline_info.id, stage.id)
        self._observer.stage_started(stage)

        def on_execution(info: data_types.ExecutionInfo) -> None:
            stage.state = RAN
            stage.reason = miss_reason(info, last, self._producers)
            self._observer.stage_runs(stage)

        hooked = HookedLauncher(
            pipeline_node=node,
            mlmd_connection=tfx_metadata.Metadata(config),
            pipeline_info=pipeline.pipeline_info,
            pipeline_runtime_spec=pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, stage.id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, stage.id),
            on_execution=on_execution,
        )
        try:
            info = hooked.launch()
            self._note_outcome(stage, info)
        except BaseException as error:
            stage.state = STAGE_FAILED
            stage.detail = str(error).split("\n", 1)[0]
            if isinstance(error, GateRefused):
                self._record.verdicts.append(vars(error.verdict))
            raise
        finally:
            stage.seconds, stage.cpu_seconds, stage.peak_mb = meter.read()
            self._observer.stage_finished(stage)
            self._save()

    def _note_outcome(self, stage: StageRecord, info: data_types.ExecutionInfo | None) -> None:
        """Read from the metadata store what became of a launched node."""
        if info is None or info.execution_id is None:
            raise StageError(f"{stage.id} was not executed; see the log")
        execution = self._reader.execution(info.execution_id)
        if not execution.successful and _is_resolver(info) and stage.id == "Tuner":
            raise ConfigError(
                "tune.mode is reuse, but no earlier run in this work directory has searched; run once with "
                "tune.mode: search, or switch tuning off"
            )
        if not execution.successful:
            raise StageError(
                f"{stage.id} ended in state {execution.state}, most likely because an input is missing; see the log"
            )
        if stage.state != RAN:
            stage.state = RESOLVED if _is_resolver(info) else HIT
            stage.reason = "nothing it depends on changed" if stage.state == HIT else ""
        stage.outputs = [uri for uris in execution.outputs.values() for uri in uris]
        if stage.state != RESOLVED:  # a resolver only passes on what others made
            self._producers.update(dict.fromkeys(execution.output_ids, stage.id))
        facts = stage_facts(stage.id, execution.outputs)
        stage.detail = facts.sentence
        if facts.verdict is not None:
            self._record.verdicts.append(vars(facts.verdict))
        if facts.version is not None and stage.id == "EdgePusher":
            self._record.bundle = facts.version[1]
        elif facts.version is not None and stage.id == "FormPusher":
            self._record.forms = facts.version[1]
        elif facts.version is not None:
            self._record.version, self._record.served = facts.version


def _is_resolver(info: data_types.ExecutionInfo) -> bool:
    """Return whether a node looks artifacts up instead of making them."""
    return bool(info.pipeline_node.node_info.type.name.endswith("Resolver"))

"""One stage of a run: launches its node, and notes in the run's record what came of it.

Comes in: a compiled pipeline and a run id. Goes out: the stage's record, its verdict and what it published. Shared by
the runner of whole runs (`local`) and by runs that are driven node by node (`nodes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import data_types, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.errors import ConfigError, GateRefused
from pipeline.metadata import MetadataReader, StoredExecution
from pipeline.metadata_connection import MetadataAccess
from pipeline.records import HIT, LEFT_OUT, RAN, RESOLVED, STAGE_FAILED, RunRecord, StageRecord
from pipeline.runners.facts import Facts, stage_facts
from pipeline.runners.launching import HookedLauncher, miss_reason
from pipeline.runners.observer import Observer
from pipeline.runners.resources import Meter

_RUN_ID_PARAMETER = "pipeline-run-id"


class StageError(RuntimeError):
    """A stage failed without an exception of its own, for example because an input is missing."""


@dataclass
class Outcome:
    """What came of a stage."""

    stage: StageRecord
    facts: Facts


class CompiledRun:
    """A compiled pipeline with the id of its run and the way to its metadata store."""

    def __init__(self, pipeline: pipeline_pb2.Pipeline, run_id: str, access: MetadataAccess):
        """Initialize.

        Args:
            pipeline: TFX's intermediate representation; the run id is written into it.
            run_id: of the run.
            access: the way to the metadata store, with the password that the representation doesn't hold.
        """
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, {_RUN_ID_PARAMETER: run_id})
        self.pipeline = pipeline
        self.reader = MetadataReader(access)
        self._access = access
        self.nodes = [node.pipeline_node for node in pipeline.nodes]
        self._run_id = run_id
        self._deployment = runner_utils.extract_local_deployment_config(pipeline)

    def node(self, node_id: str) -> Any:
        """Return the node with an id."""
        return next(node for node in self.nodes if node.node_info.id == node_id)

    def finished(self, node_id: str) -> StoredExecution | None:
        """Return the successful execution of a node in this run, if there is one."""
        return self.reader.success_in_run(self.pipeline.pipeline_info.id, self._run_id, node_id)

    def launch(self, node: Any, outcome: Outcome, producers: Mapping[str, str], observer: Observer) -> None:
        """Launch one node.

        Args:
            node: the node.
            outcome: is filled, also where an error is raised.
            producers: name of the stage of this run that yielded an artifact, by the artifact's URI.
            observer: is told what happens.

        Raises:
            GateRefused: the data broke its schema.
            StageError: the stage could not be executed.
        """
        stage, meter = outcome.stage, Meter()
        last = self.reader.last_success(self.pipeline.pipeline_info.id, stage.id)
        observer.stage_started(stage)

        def on_execution(info: data_types.ExecutionInfo) -> None:
            stage.state = RAN
            stage.reason = miss_reason(info, last, producers)
            observer.stage_runs(stage)

        try:
            info = self._launcher(node, on_execution).launch()
            self._note_execution(outcome, info)
        except BaseException as error:
            stage.state = STAGE_FAILED
            stage.detail = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).split("\n", 1)[0]
            if isinstance(error, GateRefused):
                outcome.facts = Facts(verdict=error.verdict)
            raise
        finally:
            stage.seconds, stage.cpu_seconds, stage.peak_mb = meter.read()
            observer.stage_finished(stage)

    def note_finished(self, node: Any, execution: StoredExecution, outcome: Outcome) -> None:
        """Fill the outcome from a successful execution of this run.

        Args:
            node: the node.
            execution: its execution; the stage's state is kept if it says already that the stage ran.
            outcome: is filled.
        """
        stage = outcome.stage
        if is_resolver(node):
            stage.state, stage.reason = RESOLVED, ""
        elif stage.state != RAN:
            cached = execution.state == "CACHED"
            stage.state, stage.reason = (HIT, "nothing it depends on changed") if cached else (RAN, stage.reason)
        stage.outputs = [uri for uris in execution.outputs.values() for uri in uris]
        outcome.facts = stage_facts(stage.id, execution.outputs)
        stage.detail = outcome.facts.sentence

    def _launcher(self, node: Any, on_execution: Any) -> HookedLauncher:
        node_id = node.node_info.id
        return HookedLauncher(
            pipeline_node=node,
            access=self._access,
            finished=lambda: self.finished(node_id),
            pipeline_info=self.pipeline.pipeline_info,
            pipeline_runtime_spec=self.pipeline.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(self._deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(self._deployment, node_id),
            on_execution=on_execution,
        )

    def _note_execution(self, outcome: Outcome, info: data_types.ExecutionInfo | None) -> None:
        """Read from the metadata store what became of a launched node."""
        stage = outcome.stage
        if info is None or info.execution_id is None:
            stage.state, stage.reason = LEFT_OUT, "its condition isn't met"
            return
        node = self.node(stage.id)
        execution = self.reader.execution(info.execution_id)
        if not execution.successful and is_resolver(node) and stage.id == "Tuner":
            raise ConfigError(
                "tune.mode is reuse, but no earlier run in this work directory has searched; run once with "
                "tune.mode: search, or switch tuning off"
            )
        if not execution.successful:
            raise StageError(
                f"{stage.id} ended in state {execution.state}, most likely because an input is missing; see the log"
            )
        self.note_finished(node, execution, outcome)


def is_resolver(node: Any) -> bool:
    """Return whether a node looks artifacts up instead of making them."""
    return bool(node.node_info.type.name.endswith("Resolver"))


def producers(record: RunRecord) -> dict[str, str]:
    """Return the name of the stage that yielded an artifact in a run, by the artifact's URI.

    A resolver yields none, since it passes on what others made.
    """
    return {uri: stage.id for stage in record.stages if stage.state in (HIT, RAN) for uri in stage.outputs}


def note(record: RunRecord, outcome: Outcome) -> None:
    """Write an outcome into the record of its run, in place of what an earlier attempt left."""
    record.stages = [outcome.stage if stage.id == outcome.stage.id else stage for stage in record.stages]
    facts, stage_id = outcome.facts, outcome.stage.id
    record.verdicts = [verdict for verdict in record.verdicts if verdict["gate"] != stage_id]
    if facts.verdict is not None:
        record.verdicts.append(vars(facts.verdict))
        place = {stage.id: number for number, stage in enumerate(record.stages)}
        record.verdicts.sort(key=lambda verdict: place.get(verdict["gate"], len(place)))
    if facts.version is not None and stage_id == "EdgePusher":
        record.bundle = facts.version[1]
    elif facts.version is not None and stage_id == "FormPusher":
        record.forms = facts.version[1]
    elif facts.version is not None:
        record.version, record.served = facts.version

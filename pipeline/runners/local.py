"""Runs a pipeline in this process: TFX's LocalDagRunner, watched, with a record of what happened.

Comes in: the config, the work directory and options. Goes out: the run's record, on disk after every stage. Called
by `slipway run` and by the tests. A stage that fails ends the run; the next run finds what went before in the cache
and continues there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tfx.orchestration.local import local_dag_runner
from tfx.orchestration.portable import partial_run_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.metadata_connection import MetadataAccess
from pipeline.records import LEFT_OUT, RunRecord, StageRecord
from pipeline.runners import partial
from pipeline.runners.facts import Facts
from pipeline.runners.launching import PatientMetadata
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.runners.stage import CompiledRun, Outcome, note, producers


class LocalRunner(local_dag_runner.LocalDagRunner):
    """LocalDagRunner that reports every stage, stops at a failed one and keeps a record."""

    def __init__(
        self,
        record: RunRecord,
        observer: Observer,
        options: RunOptions,
        past: Iterable[RunRecord],
        save: Callable[[], None],
        access: MetadataAccess,
    ):
        """Initialize.

        Args:
            record: filled as the run goes.
            observer: is told what happens.
            options: which stages run.
            past: earlier runs of the work directory, the newest first.
            save: is called after every change of the record.
            access: the way to the metadata store.
        """
        super().__init__()
        self._record = record
        self._observer = observer
        self._options = options
        self._past = past
        self._save = save
        self._access = access

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Run a compiled pipeline stage by stage.

        Args:
            pipeline: TFX's intermediate representation.
            run_options: not used; `RunOptions` of the constructor take their place.

        Raises:
            GateRefused: the data broke its schema.
            StageError: a stage could not be executed.
        """
        self._record.executed = True
        self._record.stages = [StageRecord(node.pipeline_node.node_info.id) for node in pipeline.nodes]
        partial.mark(pipeline, self._options, self._past)
        self._observer.run_started(self._record)
        run = CompiledRun(pipeline, self._record.run_id, self._access)
        for node in run.nodes:
            stage = self._record.stage(node.node_info.id)
            if node.execution_options.HasField("skip"):
                stage.state = LEFT_OUT
                continue
            if node.execution_options.run.perform_snapshot:
                with PatientMetadata(self._access) as handle:
                    partial_run_utils.snapshot(handle, pipeline)
            outcome = Outcome(stage, Facts())
            try:
                run.launch(node, outcome, producers(self._record), self._observer)
            finally:
                note(self._record, outcome)
                self._save()

"""Metadata stores with made-up runs, written by MLMD itself, in the shape in which TFX leaves them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.config.metadata_store import MetadataSettings
from pipeline.history.runs import History, open_history
from pipeline.metadata_connection import metadata_connection
from pipeline.workdir import WorkDir

PIPELINE = "made-up"

STAGES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "ExampleGen": ({}, {"examples": "Examples"}),
    "StatisticsGen": ({"examples": "Examples"}, {"statistics": "ExampleStatistics"}),
    "Transform": ({"examples": "Examples", "statistics": "ExampleStatistics"}, {"transform_graph": "TransformGraph"}),
    "Trainer": (
        {"examples": "Examples", "transform_graph": "TransformGraph"},
        {"model": "Model", "model_run": "ModelRun"},
    ),
    "Evaluator": (
        {"examples": "Examples", "model": "Model"},
        {"evaluation": "ModelEvaluation", "blessing": "ModelBlessing"},
    ),
    "Pusher": (
        {"model": "Model", "evaluation": "ModelEvaluation", "blessing": "ModelBlessing"},
        {"pushed_model": "PushedModel"},
    ),
}
"""Inputs and outputs of each stage, with the types of the artifacts."""

_LIVE = pb.Artifact.LIVE


@dataclass
class Made:
    """One run as it was made: execution and artifacts by stage."""

    id: str
    executions: dict[str, int] = field(default_factory=dict)
    artifacts: dict[str, list[int]] = field(default_factory=dict)


class Synthetic:
    """A work directory with a store."""

    def __init__(self, root: Path):
        self.workdir = WorkDir(root)
        self.workdir.create()
        self.store = mlmd.MetadataStore(metadata_connection(MetadataSettings(), self.workdir))
        self.contexts = {
            name: self.store.put_context_type(pb.ContextType(name=name))
            for name in ("pipeline", "pipeline_run", "node")
        }
        self.types = {
            kind: self.store.put_artifact_type(pb.ArtifactType(name=kind))
            for kind in {kind for sides in STAGES.values() for side in sides for kind in side.values()}
        }
        self.kinds = {
            stage: self.store.put_execution_type(pb.ExecutionType(name=f"made.up.{stage}")) for stage in STAGES
        }
        names = ["pipeline"] + ["node"] * len(STAGES)
        titles = [PIPELINE] + [f"{PIPELINE}.{stage}" for stage in STAGES]
        ids = self.store.put_contexts(
            [pb.Context(type_id=self.contexts[n], name=t) for n, t in zip(names, titles, strict=True)]
        )
        self.pipeline, self.nodes = ids[0], dict(zip(STAGES, ids[1:], strict=True))

    def history(self) -> History:
        return open_history(self.workdir)

    def run(
        self,
        run_id: str,
        cached: dict[str, Made] | None = None,
        stages: Sequence[str] = tuple(STAGES),
        blessed: bool = True,
        version: int | None = None,
        state: str = "COMPLETE",
        files: bool = True,
    ) -> Made:
        """Add one run."""
        return self.runs([run_id], cached, stages, blessed, {run_id: version}, state, files)[0]

    def runs(
        self,
        ids: Sequence[str],
        cached: dict[str, Made] | None = None,
        stages: Sequence[str] = tuple(STAGES),
        blessed: bool = True,
        versions: dict[str, int | None] | None = None,
        state: str = "COMPLETE",
        files: bool = True,
        size: int = 100,
    ) -> list[Made]:
        """Add runs, in few calls of the store.

        Args:
            ids: of the runs.
            cached: run whose artifacts a stage takes from the cache, by stage.
            stages: those that run.
            blessed: whether the Evaluator blesses the models.
            versions: number as which a run publishes.
            state: of the last execution.
            files: whether to make the artifacts' folders.
            size: bytes per artifact.
        """
        made = [Made(run_id) for run_id in ids]
        contexts = self.store.put_contexts(
            [pb.Context(type_id=self.contexts["pipeline_run"], name=run_id) for run_id in ids]
        )
        for stage in stages:
            source = (cached or {}).get(stage)
            last = stage == stages[-1]
            executions = self._executions(stage, len(made), "CACHED" if source else state if last else "COMPLETE")
            events, associations, attributions = [], [], []
            for run, execution, context in zip(made, executions, contexts, strict=True):
                run.executions[stage] = execution
                for place in (context, self.pipeline, self.nodes[stage]):
                    associations.append(pb.Association(context_id=place, execution_id=execution))
                inputs = STAGES[stage][0]
                for key, kind in inputs.items():
                    maker = next(s for s in STAGES if kind in STAGES[s][1].values())
                    position = list(STAGES[maker][1].values()).index(kind)
                    if maker in run.artifacts:
                        events.append(_event(execution, run.artifacts[maker][position], key, pb.Event.INPUT))
            if source is not None:
                for run in made:
                    run.artifacts[stage] = source.artifacts[stage]
            elif state == "COMPLETE" or not last:
                self._outputs(stage, made, blessed, versions or {}, files, size)
            for run in made:
                for key, artifact in zip(STAGES[stage][1], run.artifacts.get(stage, []), strict=False):
                    events.append(_event(run.executions[stage], artifact, key, pb.Event.OUTPUT))
            self.store.put_events(events)
            self.store.put_attributions_and_associations(attributions, associations)
        return made

    def publish(self, number: int, restores: int | None = None, base: str = "served") -> Path:
        """Put a version into its folder."""
        from serving import manifest
        from serving.manifest import Manifest, describe_files, model_digest

        folder = self.workdir.root / base / str(number)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"model")
        files = describe_files(folder)
        draft = Manifest(
            name=PIPELINE, version=number, created="2026-01-01T00:00:00Z", files=files,
            model_digest=model_digest(files), slipway_version="0", metrics={"accuracy": 0.9}, config_hash="c" * 64,
            data_fingerprint="d" * 32, git_commit="f" * 40, restores=restores,
        )  # fmt: skip
        manifest.write(folder, draft)
        return folder

    def folder(self, artifact: int) -> Path:
        (stored,) = self.store.get_artifacts_by_id([artifact])
        return Path(stored.uri)

    def states(self) -> dict[int, str]:
        return {a.id: pb.Artifact.State.Name(a.state) for a in self.store.get_artifacts()}

    def _executions(self, stage: str, count: int, state: str) -> list[int]:
        return self.store.put_executions(
            [
                pb.Execution(
                    type_id=self.kinds[stage],
                    last_known_state=pb.Execution.State.Value(state),
                    custom_properties={"fingerprint": pb.Value(string_value=key(stage))},
                )
                for _ in range(count)
            ]
        )

    def _outputs(
        self, stage: str, made: list[Made], blessed: bool, versions: dict[str, int | None], files: bool, size: int
    ) -> None:
        for name, kind in STAGES[stage][1].items():
            artifacts = []
            for run in made:
                uri = self.workdir.artifacts / stage / name / str(run.executions[stage])
                artifact = pb.Artifact(type_id=self.types[kind], uri=str(uri), state=_LIVE)
                if kind == "ModelBlessing":
                    artifact.custom_properties["blessed"].int_value = int(blessed)
                    artifact.custom_properties["current_model_id"].int_value = run.artifacts["Trainer"][0]
                number = versions.get(run.id)
                if kind == "PushedModel" and number is not None:
                    place = self.workdir.root / "served" / str(number)
                    artifact.custom_properties["pushed_destination"].string_value = str(place)
                    artifact.custom_properties["pushed_version"].string_value = str(number)
                artifacts.append(artifact)
                if files:
                    (uri / "deep").mkdir(parents=True)
                    (uri / "deep" / "file").write_bytes(b"x" * size)
            for run, artifact_id in zip(made, self.store.put_artifacts(artifacts), strict=True):
                run.artifacts.setdefault(stage, []).append(artifact_id)


def key(stage: str, **config: object) -> str:
    """Return a stage's key of about the size that real ones have."""
    code = {f"package.module_{number}": f"{number:016x}" for number in range(100)}
    libraries = {"tensorflow": "2.16.2"}
    return json.dumps({"code": code, "config": {stage.lower(): config}, "data": "", "libraries": libraries})


def record(workdir: WorkDir, run_id: str, state: str = "succeeded", **fields: object) -> None:
    """Write the record of a run."""
    from pipeline.records import RunRecord, StageRecord

    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    values = {"started": started, "pid": 0, "log": "", "fingerprint": "", "state": state, "executed": True, **fields}
    values["stages"] = [StageRecord(**stage) for stage in fields.get("stages", [])]  # type: ignore[attr-defined]
    RunRecord(run_id, PIPELINE, "made-up.yaml", **values).save(workdir.records)  # type: ignore[arg-type]


def _event(execution: int, artifact: int, key_: str, kind: int) -> pb.Event:
    event = pb.Event(execution_id=execution, artifact_id=artifact, type=kind)  # type: ignore[arg-type]
    event.path.steps.add().key = key_
    event.path.steps.add().index = 0
    return event

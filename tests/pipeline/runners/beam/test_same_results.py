"""A run with two workers, beside the same stages in this process: the same examples, statistics, graph and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
from google.protobuf import json_format
from tfx.components.transform.executor import Executor as TransformExecutor
from tfx.types import artifact, standard_artifacts

from pipeline.beam_options import IN_PROCESS, WORKERS_RUNNER, beam_args
from pipeline.components import bulk_inferrer, evaluator, example_gen, statistics_gen
from pipeline.config.loading import load
from pipeline.evaluation.eval_config import eval_config
from pipeline.records import HIT, RunRecord
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.running import run_pipeline
from pipeline.workdir import WorkDir
from tests.pipeline.components.artifacts import executor, made
from transform.ingest import chunks

pytestmark = [pytest.mark.slow, pytest.mark.orchestration]

YAML = """
name: shapes
data: {{source: {folder}}}
transform: {{size: [16, 16]}}
model: {{name: mlp}}
train: {{epochs: 1, batch_size: 16}}
evaluate: {{split: train, top_k: 2, slices: [label]}}
bulk_infer: {{split: train}}
push: {{keep: 2}}
beam: {{runner: workers, workers: 2}}
"""
PIECES = 25
"""Images of a chunk and of a shard, so that there is something to share."""


class Run:
    """A finished run and its config."""

    def __init__(self, root: Path, folder: Path):
        file = root / "shapes.yaml"
        file.write_text(YAML.format(folder=folder), encoding="utf-8")
        self.root = root
        self.file = file
        self.workdir = WorkDir.of("shapes", root / "work")
        self.workdir.create()
        self.record = self.run("BulkInferrer")
        self.config = load(file).config

    def run(self, to: str, *overrides: str) -> RunRecord:
        """Run the stages up to one, without those that it doesn't need."""
        log = self.workdir.logs / f"{time.time_ns()}.log"
        with self.workdir.lock():
            return run_pipeline(load(self.file, overrides), self.workdir, log, RunOptions(to_stage=to), Observer())

    def output(self, stage: str, kind: type[artifact.Artifact], part: str = "") -> artifact.Artifact:
        """Return an output artifact of a stage; `part` is in its path where a stage has several."""
        found = kind()
        found.uri = next(uri for uri in self.record.stage(stage).outputs if part in uri)
        if kind is standard_artifacts.Examples:
            found.split_names = '["train", "eval", "test"]'
        return found


@pytest.fixture(scope="module")
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transform.shards._SHARD_EXAMPLES", PIECES)
        patch.setattr("pipeline.components.example_gen.chunks", partial(chunks, size=PIECES))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, shapes, small_pieces) -> Run:
    return Run(tmp_path_factory.mktemp("project"), shapes)


def files(folder: str) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    root = Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_data_stages_ran_on_workers(run):
    assert run.record.state == "succeeded", run.record.error
    assert f"--runner={WORKERS_RUNNER}" in beam_args(run.config)
    assert run.record.stage("ExampleGen").cpu_seconds > 0


def test_examples_are_the_same_bytes_in_every_file(run, tmp_path):
    ours = made(standard_artifacts.Examples, tmp_path / "examples")
    (tmp_path / "data.json").write_text(run.config.data.model_dump_json(), encoding="utf-8")
    executor(example_gen.Executor, tmp_path / "tmp", IN_PROCESS).Do(
        {},
        {"examples": [ours]},
        {"settings_file": str(tmp_path / "data.json"), "ledger": str(tmp_path / "ledger.npz"), "fingerprint": "x"},
    )
    alone, shared = files(ours.uri), files(run.output("ExampleGen", standard_artifacts.Examples).uri)
    assert sum(name.endswith(".gz") for name in shared) >= 6
    assert alone == shared
    assert (tmp_path / "ledger.npz").read_bytes() == run.workdir.ledger.read_bytes()


def test_statistics_and_schema_are_the_same(run, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics_gen, "IN_MEMORY_EXAMPLES", 10)  # so that Beam computes them
    examples = run.output("ExampleGen", standard_artifacts.Examples)
    examples.split_names = '["train"]'
    found = []
    for name, engine in (("alone", IN_PROCESS), ("shared", beam_args(run.config))):
        made_here = made(standard_artifacts.ExampleStatistics, tmp_path / name)
        executor(statistics_gen.Executor, tmp_path / f"tmp-{name}", engine).Do(
            {"examples": [examples]}, {"statistics": [made_here]}, {"sample": run.config.data.statistics_sample}
        )
        found.append(tfdv.load_stats_binary(f"{made_here.uri}/Split-train/FeatureStats.pb"))
    assert_alike(*map(in_order, found))
    alone, shared = ({feature.name: feature for feature in tfdv.infer_schema(one).feature} for one in found)
    assert alone == shared


def assert_alike(alone, shared) -> None:
    """Check that all is equal; a standard deviation may differ in its last digits, since TFDV adds in any order."""
    if isinstance(alone, dict):
        assert alone.keys() == shared.keys()
        for name, value in alone.items():
            other = shared[name]
            if name == "stdDev":
                assert other == pytest.approx(value, rel=1e-12)
            else:
                assert_alike(value, other)
    elif isinstance(alone, list):
        assert len(alone) == len(shared)
        for one, other in zip(alone, shared, strict=True):
            assert_alike(one, other)
    else:
        assert alone == shared


def in_order(statistics) -> dict:
    """Return statistics by feature; which worker was first decides only on the order of the features."""
    (dataset,) = json_format.MessageToDict(statistics)["datasets"]
    dataset["features"] = {feature["path"]["step"][0]: feature for feature in dataset["features"]}
    return dataset


def test_the_transform_graph_does_the_same(run, tmp_path):
    outputs = {
        "transform_graph": [made(standard_artifacts.TransformGraph, tmp_path / "graph")],
        "updated_analyzer_cache": [made(standard_artifacts.TransformCache, tmp_path / "cache")],
    }
    settings = {"transform": run.config.transform.model_dump(mode="json")}
    executor(TransformExecutor, tmp_path / "tmp", IN_PROCESS).Do(
        {
            "examples": [run.output("ExampleGen", standard_artifacts.Examples)],
            "schema": [run.output("SchemaGen", standard_artifacts.Schema)],
        },
        outputs,
        {
            "preprocessing_fn": "transform.preprocessing.preprocessing_fn",
            "disable_statistics": 1,
            "force_tf_compat_v1": 0,
            "custom_config": json.dumps(settings),
        },
    )
    uris = (outputs["transform_graph"][0].uri, run.output("Transform", standard_artifacts.TransformGraph, "graph").uri)
    alone, shared = (tft.TFTransformOutput(uri) for uri in uris)
    assert alone.transformed_metadata.schema == shared.transformed_metadata.schema
    pattern = f"{run.output('ExampleGen', standard_artifacts.Examples).uri}/Split-eval/*.gz"
    records = tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), "GZIP").batch(64).get_single_element()
    parsed = tf.io.parse_example(records, alone.raw_feature_spec())
    first, second = (output.transform_raw_features(dict(parsed)) for output in (alone, shared))
    assert first.keys() == second.keys()
    for name, value in first.items():
        values = (value, second[name])
        dense = [tf.sparse.to_dense(v).numpy() if isinstance(v, tf.SparseTensor) else v.numpy() for v in values]
        np.testing.assert_array_equal(*dense)


def test_counts_metrics_and_verdict_are_the_same_to_the_last_bit(run, tmp_path):
    evaluation = made(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")
    blessing = made(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    properties = {
        "eval_config": json_format.MessageToJson(eval_config(run.config.evaluate), sort_keys=True),
        "split": "train",
        "top_k": 2,
    }
    inputs = {
        "examples": [run.output("ExampleGen", standard_artifacts.Examples)],
        "model": [run.output("Trainer", standard_artifacts.Model, "/model/")],
    }
    executor(evaluator.Executor, tmp_path / "tmp", IN_PROCESS).Do(
        inputs, {"evaluation": [evaluation], "blessing": [blessing]}, properties
    )
    theirs = run.output("Evaluator", standard_artifacts.ModelEvaluation, "/evaluation/").uri
    with np.load(f"{evaluation.uri}/counts.npz") as alone, np.load(f"{theirs}/counts.npz") as shared:
        assert sorted(alone) == sorted(shared)
        for name in alone:
            np.testing.assert_array_equal(alone[name], shared[name])
    for name in ("summary.json", "metrics-00000-of-00001.tfrecord", "validations.tfrecord"):
        assert Path(evaluation.uri, name).read_bytes() == Path(theirs, name).read_bytes()


def test_predictions_are_the_same(run, tmp_path):
    result = made(standard_artifacts.InferenceResult, tmp_path / "result")
    inputs = {
        "examples": [run.output("ExampleGen", standard_artifacts.Examples)],
        "model": [run.output("Trainer", standard_artifacts.Model, "/model/")],
        "model_blessing": [run.output("Evaluator", standard_artifacts.ModelBlessing, "/blessing/")],
    }
    blessing = inputs["model_blessing"][0]
    blessing.set_int_custom_property("blessed", 1)
    executor(bulk_inferrer.Executor, tmp_path / "tmp", IN_PROCESS).Do(
        inputs, {"inference_result": [result]}, {"split": "train"}
    )
    shared = files(run.output("BulkInferrer", standard_artifacts.InferenceResult).uri)
    assert len(shared) >= 8
    assert files(result.uri) == shared


def test_another_engine_finds_everything_in_the_cache(run):
    record = run.run("Transform", "beam.runner=direct")
    states = {stage.id: stage.state for stage in record.stages}
    assert {states[stage] for stage in ("ExampleGen", "StatisticsGen", "SchemaGen", "Transform")} == {HIT}

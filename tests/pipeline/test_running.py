"""Whole runs, in the order in which a person makes them: first, again, worse, better, back.

One work directory serves all tests of a class, since each builds on the runs before it; pytest runs them in the order
of the file.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.records import HIT, LEFT_OUT, RAN, RESOLVED, RunRecord
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.running import run_pipeline
from pipeline.workdir import WorkDir
from serving.manifest import verify
from serving.publish import served, versions
from transform.errors import DataError

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

YAML = """
name: shapes
data:
  source: {folder}
transform: {{size: [24, 24]}}
model: {{name: cnn_small, width: 0.5}}
train: {{epochs: 12, batch_size: 16, learning_rate: 3.0e-3}}
evaluate:
  top_k: 2
  slices: [label]
  gates: {{accuracy: {{min: 0.5, max_drop_vs_baseline: 0.1}}}}
"""


class Project:
    """A config, a work directory and the runs made in it."""

    def __init__(self, root: Path, folder: Path, yaml: str = YAML):
        self.file = root / "shapes.yaml"
        self.file.write_text(yaml.format(folder=folder), encoding="utf-8")
        self.workdir = WorkDir.of("shapes", root / "work")
        self.workdir.create()

    def run(self, *overrides: str, **options) -> RunRecord:
        log = self.workdir.logs / f"{time.time_ns()}.log"
        with self.workdir.lock():
            return run_pipeline(load(self.file, overrides), self.workdir, log, RunOptions(**options), Observer())

    @property
    def base(self) -> Path:
        return self.workdir.root / "served"


def states(record: RunRecord) -> dict[str, str]:
    return {stage.id: stage.state for stage in record.stages}


@pytest.fixture(scope="module")
def project(tmp_path_factory, shapes) -> Project:
    return Project(tmp_path_factory.mktemp("project"), shapes)


class TestLife:
    def test_first_run_has_no_baseline_and_publishes_version_1(self, project):
        record = project.run()
        assert record.state == "succeeded", record.error
        assert {stage for stage, state in states(record).items() if state == RAN} == {
            "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Trainer", "Evaluator",
            "InfraValidator", "Pusher", "BulkInferrer",
        }  # fmt: skip
        assert states(record)["Resolver"] == RESOLVED
        assert "no baseline" in record.stage("Resolver").detail
        assert record.version == 1
        version = served(project.base)
        assert version is not None and version.number == 1
        assert not verify(version.path, version.manifest)
        card = (version.path / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "# shapes" in card and "| accuracy | test |" in card
        assert version.metrics["accuracy"] >= 0.5
        manifest = version.manifest
        assert manifest.labels == ("circle", "cross", "square")
        assert manifest.config_hash and manifest.data_fingerprint and manifest.git_commit

    def test_the_same_again_finds_everything_in_the_cache(self, project):
        record = project.run()
        assert set(states(record).values()) <= {HIT}
        assert record.version == 1
        assert [v.number for v in versions(project.base)] == [1]

    def test_a_new_blessing_alone_makes_nothing_run_again(self, project):
        # As above, but through TFX, which sees the new blessing in the metadata store.
        record = project.run(no_cache=("Resolver",))
        assert {stage for stage, state in states(record).items() if state == RAN} == set()
        assert record.state == "succeeded"
        assert [v.number for v in versions(project.base)] == [1]

    def test_a_worse_model_is_refused_and_nothing_is_pushed(self, project):
        record = project.run("train.epochs=1", "train.learning_rate=1e-6")
        assert record.state == "refused"
        verdict = next(v for v in record.verdicts if v["gate"] == "Evaluator")
        assert not verdict["passed"]
        assert "accuracy" in verdict["sentence"] and "baseline" in verdict["sentence"]
        assert "train.epochs 12 -> 1" in record.stage("Trainer").reason
        assert "new model from Trainer" in record.stage("InfraValidator").reason
        assert [v.number for v in versions(project.base)] == [1]
        assert states(record)["Transform"] == HIT

    def test_a_refused_run_repeated_is_refused_again_from_the_cache(self, project):
        record = project.run("train.epochs=1", "train.learning_rate=1e-6")
        assert record.state == "refused"
        assert set(states(record).values()) <= {HIT}

    def test_another_good_model_is_compared_with_the_first_and_becomes_version_2(self, project):
        record = project.run("train.seed=8", "evaluate.gates.accuracy.max_drop_vs_baseline=0.5")
        assert record.state == "succeeded", record.error
        verdict = next(v for v in record.verdicts if v["gate"] == "Evaluator")
        assert {check["kind"] for check in verdict["checks"]} == {"value", "change"}
        assert record.version == 2

    def test_a_removed_version_is_published_again(self, project):
        import shutil

        shutil.rmtree(project.base / "2")
        record = project.run("train.seed=8", "evaluate.gates.accuracy.max_drop_vs_baseline=0.5")
        assert record.version == 3
        assert {stage for stage, state in states(record).items() if state == RAN} == {"Pusher"}

    def test_parts_of_the_pipeline(self, project):
        record = project.run(to_stage="Transform")
        assert states(record)["Trainer"] == LEFT_OUT
        assert record.state == "succeeded"
        record = project.run(from_stage="InfraValidator")
        assert states(record)["InfraValidator"] == RAN
        assert states(record)["Trainer"] == LEFT_OUT
        assert states(record)["Pusher"] == RAN
        with pytest.raises(ConfigError, match="no stage 'Nowhere'"):
            project.run(from_stage="Nowhere")

    def test_starting_in_the_middle_needs_an_earlier_run(self, tmp_path, shapes):
        with pytest.raises(ConfigError, match="run without --from first"):
            Project(tmp_path, shapes).run(from_stage="Trainer")


class TestCacheKeys:
    def test_renaming_and_touching_files_changes_nothing_and_content_does(self, project, shapes):
        project.run()
        path = sorted((shapes / "circle").iterdir())[0]
        renamed = path.with_name("another name" + path.suffix)
        path.rename(renamed)
        os.utime(renamed, (1, 1))
        try:
            record = project.run(no_cache=("Resolver",))
            assert states(record)["ExampleGen"] == HIT
        finally:
            renamed.rename(path)
        extra = shapes / "circle" / "extra.png"
        import numpy as np

        from tests.conftest import draw

        draw("circle", np.random.default_rng(99)).save(extra)
        try:
            record = project.run(to_stage="ExampleGen")
            assert states(record)["ExampleGen"] == RAN
            assert "the data's content changed" in record.stage("ExampleGen").reason
        finally:
            extra.unlink()

    def test_a_users_own_model_is_part_of_the_cache_key(self, project, tmp_path):
        module = tmp_path / "mine.py"
        module.write_text(OWN_MODEL.format(filters=4), encoding="utf-8")
        overrides = ("model.name=tiny", f"model.module={module}", "train.epochs=1")
        first = project.run(*overrides, to_stage="Trainer")
        assert states(first)["Trainer"] == RAN
        module.write_text(OWN_MODEL.format(filters=5), encoding="utf-8")
        second = project.run(*overrides, to_stage="Trainer")
        assert states(second)["Trainer"] == RAN
        assert "mine.py changed" in second.stage("Trainer").reason
        assert states(project.run(*overrides, to_stage="Trainer"))["Trainer"] == HIT


OWN_MODEL = """
import tf_keras
from trainer.models.registry import register

@register("tiny")
def build(settings, input_shape, classes):
    image = tf_keras.Input(input_shape, name="image")
    x = tf_keras.layers.Conv2D({filters}, 3, activation="relu")(image)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name="logits")(x))
"""


class TestFailures:
    def test_data_that_breaks_a_curated_schema_stops_the_run(self, project, tmp_path):
        record = project.run(to_stage="SchemaGen")
        (uri,) = [uri for uri in record.stage("SchemaGen").outputs if "schema" in uri]
        text = (Path(uri) / "schema.pbtxt").read_text(encoding="utf-8").replace('value: "square"', 'value: "triangle"')
        curated = tmp_path / "schema.pbtxt"
        curated.write_text(text, encoding="utf-8")
        record = project.run(f"data.schema_file={curated}")
        assert record.state == "refused"
        (verdict,) = record.verdicts
        assert verdict["gate"] == "ExampleValidator"
        assert "label_name" in verdict["sentence"] and "square" in verdict["sentence"]
        assert states(record)["Trainer"] == "pending"

    def test_a_failed_stage_is_where_the_next_run_continues(self, project, tmp_path):
        broken = tmp_path / "broken.py"
        broken.write_text("raise RuntimeError('out of paper')\n", encoding="utf-8")
        with pytest.raises(Exception, match="out of paper"):
            project.run(f"model.module={broken}", "train.epochs=2")
        record = json.loads(max(project.workdir.records.glob("*.json")).read_text(encoding="utf-8"))
        assert record["state"] == "failed"
        assert {s["id"]: s["state"] for s in record["stages"]}["Trainer"] == "FAILED"
        broken.write_text("", encoding="utf-8")
        again = project.run(f"model.module={broken}", "train.epochs=2", to_stage="Trainer")
        assert states(again)["Transform"] == HIT
        assert states(again)["Trainer"] == RAN

    def test_unreadable_pictures_are_named(self, tmp_path, shapes):
        import shutil

        folder = tmp_path / "damaged"
        shutil.copytree(shapes, folder)
        victim = folder / "circle" / "circle 1.png"
        victim.write_bytes(victim.read_bytes()[:100])
        with pytest.raises(DataError, match=r"circle 1\.png"):
            Project(tmp_path, folder).run()

    def test_two_runs_at_once_in_one_work_directory_are_refused(self, project):
        with project.workdir.lock(), pytest.raises(ConfigError, match="another run"):
            project.run()

"""Continuous training from raw folders to published versions, in the order in which data arrives.

One work directory serves all tests of the class, since each builds on the ones before it; pytest runs them in the order
of the file. The watch runs the pipeline in this process, to spare the imports; `test_watch_command.py` starts the
command itself.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli.app import run
from pipeline.config.loading import load
from pipeline.continuous.state import REFUSED, SUCCEEDED, Attempt
from pipeline.continuous.watching import Watcher
from pipeline.records import HIT, RAN, RunRecord, records
from pipeline.runners.observer import Observer
from pipeline.runners.options import RunOptions
from pipeline.running import run_pipeline
from pipeline.workdir import WorkDir
from serving.classifier import Classifier
from serving.publish import served, versions
from serving.server.request_log_records import Entry, to_record
from serving.wire.tfrecord import frame
from tests.conftest import SHAPES, draw
from trainer.warm_start import FILE as START_FILE

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

YAML = """
name: spans
data:
  source: {pattern}
  spans: {{window: all, marker: _SUCCESS}}
transform: {{size: [20, 20]}}
model: {{name: mlp, width: 0.5}}
train:
  epochs: 3
  batch_size: 16
  learning_rate: 3.0e-3
  warm_start: true
  warm_epochs: 1
  warm_learning_rate: 1.0e-3
evaluate:
  gates: {{accuracy: {{min: 0.05, max_drop_vs_baseline: 0.9}}}}
infra: {{examples: 1}}
bulk_infer: {{enabled: false}}
"""


NEARLY_PERFECT = ("evaluate.gates.accuracy.min=0.9999",)
"""A gate that a model of one epoch does not pass."""


class Project:
    """A pattern of spans, a config and a watch; nothing about it is faked but the process of the run."""

    def __init__(self, root: Path):
        self.data = root / "data"
        self.file = root / "spans.yaml"
        self.file.write_text(YAML.format(pattern=self.data / "span-{SPAN}" / "v{VERSION}"), encoding="utf-8")
        self.workdir = WorkDir.of("spans", root / "work")
        self.workdir.create()
        self.lines: list[str] = []
        self.runs = 0

    def arrive(self, folder: str, seed: int, per_class: int = 20) -> None:
        """Write a span, the marker last."""
        rng = np.random.default_rng(seed)
        for label in SHAPES:
            place = self.data / folder / label
            place.mkdir(parents=True)
            for number in range(per_class):
                draw(label, rng).save(place / f"{number}.png")
        (self.data / folder / "_SUCCESS").touch()

    def run(self, overrides: Sequence[str]) -> int:
        self.runs += 1
        log = self.workdir.logs / f"{time.time_ns()}.log"
        with self.workdir.lock():
            record = run_pipeline(load(self.file, overrides), self.workdir, log, RunOptions(), Observer())
        return 0 if record.state == "succeeded" else 3

    def watch(self, *overrides: str) -> Attempt | None:
        """One look by a watch that was started anew, so everything it knows is on the disk."""
        return Watcher(
            self.file, overrides, self.workdir, self.run, lambda: None, lambda line: self.lines.append(line)
        ).step()

    @property
    def last(self) -> RunRecord:
        return next(records(self.workdir.records))

    def output(self, stage: str, name: str) -> dict:
        (path,) = [p for p in (Path(uri) / name for uri in self.last.stage(stage).outputs) if p.exists()]
        return json.loads(path.read_text(encoding="utf-8"))

    @property
    def model(self) -> str:
        """Folder of the last run's model."""
        return next(uri for uri in self.last.stage("Trainer").outputs if "/model/" in uri)

    @property
    def published(self) -> list[int]:
        return [version.number for version in versions(self.workdir.root / "served")]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("continuous"))


def ran(record: RunRecord) -> set[str]:
    return {stage.id for stage in record.stages if stage.state == RAN}


class TestLife:
    def test_nothing_runs_before_a_span_is_complete(self, project):
        assert project.watch() is None
        assert "no folder fits the pattern" in project.lines[-1] or "cannot be read" in project.lines[-1]
        project.arrive("span-1/v1", seed=1)
        marker = project.data / "span-1/v1/_SUCCESS"
        marker.unlink()
        assert project.watch() is None
        assert "no span is complete" in project.lines[-1]
        assert project.runs == 0
        marker.touch()

    def test_the_first_span_is_trained_from_the_beginning_and_pushed(self, project):
        attempt = project.watch()
        assert attempt is not None and attempt.outcome == SUCCEEDED, project.lines
        assert project.published == [1]
        assert project.last.spans == [(1, 1)] or project.last.spans == [[1, 1]]
        assert project.output("Trainer", START_FILE)["warm"] is False
        assert len(project.output("Trainer", "history.json")) == 3
        report = project.output("ExampleGen", "ingest_report.json")["spans"]
        assert (report["from"], report["to"]) == (1, 1)

    def test_without_anything_new_nothing_runs(self, project):
        assert project.watch() is None
        assert project.runs == 1

    def test_a_run_by_hand_trains_nothing_either_although_its_model_is_blessed_now(self, project):
        # Through TFX, which sees the blessing in the metadata store: the latest blessed model is the training's own.
        with project.workdir.lock():
            log = project.workdir.logs / "by-hand.log"
            record = run_pipeline(
                load(project.file), project.workdir, log, RunOptions(no_cache=("Resolver",)), Observer()
            )
        assert record.state == "succeeded"
        assert ran(record) == set()
        assert record.stage("Trainer").state == HIT
        assert "no model was blessed before" in record.stage("BaseModel").detail

    def test_the_second_span_is_trained_warm_judged_against_the_first_and_pushed(self, project):
        project.arrive("span-2/v1", seed=2)
        attempt = project.watch()
        assert attempt is not None and attempt.outcome == SUCCEEDED, project.last.error
        assert project.published == [1, 2]
        start = project.output("Trainer", START_FILE)
        assert start["warm"] is True
        assert len(project.output("Trainer", "history.json")) == 1
        assert "the weights start from those of" in project.last.stage("Trainer").detail
        verdict = next(v for v in project.last.verdicts if v["gate"] == "Evaluator")
        assert "of the baseline" in verdict["sentence"]
        assert project.last.stage("ExampleGen").detail.startswith("spans 1 to 2: 120 images")
        assert project.last.spans[-1][0] == 2

    def test_the_artifact_of_the_examples_knows_its_spans(self, project):
        from ml_metadata import MetadataStore

        from pipeline.metadata_connection import metadata_connection

        store = MetadataStore(metadata_connection(load(project.file).config.metadata, project.workdir))
        artifacts = store.get_artifacts_by_type("Examples")
        found = [{key: value for key, value in a.custom_properties.items()} for a in artifacts]
        spans = [(p["first_span"].int_value, p["span"].int_value, p["version"].int_value) for p in found]
        assert spans == [(1, 1, 1), (1, 2, 1)]
        assert found[-1]["spans"].string_value == "1/1, 2/1"

    def test_a_backfilled_span_appears_once_and_a_refused_candidate_is_not_pushed(self, project):
        project.arrive("span-1/v2", seed=3)
        attempt = project.watch(*NEARLY_PERFECT)
        assert attempt is not None and attempt.outcome == REFUSED, project.last.error
        report = project.output("ExampleGen", "ingest_report.json")
        assert report["listed"] == 120
        assert [(s["span"], s["version"]) for s in report["spans"]["used"]] == [(1, 2), (2, 1)]
        assert project.published == [1, 2]

    def test_the_refused_candidate_is_not_trained_again(self, project):
        runs = project.runs
        assert project.watch(*NEARLY_PERFECT) is None and project.watch(*NEARLY_PERFECT) is None
        assert project.runs == runs

    def test_a_backfill_of_the_same_content_trains_nothing(self, project):
        shutil.copytree(project.data / "span-1/v2", project.data / "span-1/v3")
        runs = project.runs
        assert project.watch(*NEARLY_PERFECT) is None
        assert project.runs == runs

    def test_after_a_refusal_training_starts_from_the_last_blessed_model(self, project):
        refused, base = project.model, project.output("Trainer", START_FILE)["base"]
        project.arrive("span-3/v1", seed=5, per_class=4)
        with project.workdir.lock():
            log, options = project.workdir.logs / "next.log", RunOptions(to_stage="Trainer")
            record = run_pipeline(load(project.file), project.workdir, log, options, Observer())
        assert record.stage("Trainer").state == RAN
        assert project.output("Trainer", START_FILE)["base"] == base
        assert base not in (refused, project.model)


class TestDrift:
    """Requests of the version that the runs above have published."""

    def log(self, project: Project, name: str, images: int, change: Any = lambda picture: picture) -> Path:
        """Write what a model server logs: encoded images, and the served model's answers."""
        version = served(project.workdir.root / "served")
        assert version is not None
        rng = np.random.default_rng(99)
        encoded = []
        for number in range(images):
            stream = io.BytesIO()
            change(draw(SHAPES[number % 3], rng)).save(stream, "PNG")
            encoded.append(stream.getvalue())
        with Classifier.open(version.path) as classifier:
            answers = classifier.predict(encoded, top=3)
            labels = classifier.labels
        folder = project.workdir.root.parent / name
        folder.mkdir()
        with (folder / "requests-1.tfrecord").open("wb") as file:
            for image, answer in zip(encoded, answers, strict=True):
                top = dict(answer.top)
                entry = Entry(
                    "spans", version.number, "Predict", "serving_default",
                    {"image_bytes": np.array([image], object)},
                    {"probabilities": np.array([[top[label] for label in labels]], np.float32)},
                    int(time.time()), 0,
                )  # fmt: skip
                file.write(frame(to_record(entry, 1.0)))
        return folder

    def drift(self, project: Project, log: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
        """Run the command; return its exit code and the report."""
        thresholds = [f"retrain.drift.{name}" for name in ("min_samples=60", "max_feature_distance=0.2")]
        # The answers of so small a training say nothing; that they are compared is enough.
        thresholds += [f"retrain.drift.max_{name}_distance=1.0" for name in ("class", "confidence")]
        words = ["drift", "--config", str(project.file), "--workdir", str(project.workdir.root), "--log", str(log)]
        capfd.readouterr()
        code = run([*words, "--json", *(word for t in thresholds for word in ("--set", t))])
        return code, json.loads(capfd.readouterr().out)

    def test_requests_like_the_training_data_are_the_same(self, project, capfd):
        code, report = self.drift(project, self.log(project, "same", 90), capfd)
        assert (code, report["verdict"]) == (0, "same"), report["sentence"]
        names = {check["name"] for check in report["checks"]}
        assert {"brightness", "contrast", "height", "share of red", "predicted class", "confidence"} <= names
        check = next(check for check in report["checks"] if check["name"] == "brightness")
        assert check["samples"] == 90 and check["reference_samples"] > 60
        assert json.loads(Path(report["path"]).read_text()) == report

    def test_dark_pictures_are_drift_and_exit_3(self, project, capfd):
        dark = self.log(project, "dark", 90, lambda picture: picture.point(lambda value: value // 4))
        code, report = self.drift(project, dark, capfd)
        assert (code, report["verdict"]) == (3, "drifted")
        failed = {check["name"] for check in report["checks"] if not check["passed"]}
        assert "brightness" in failed and not failed & {"height", "width", "aspect"}
        assert "brightness" in report["sentence"] and "at most 0.2" in report["sentence"]

    def test_few_requests_are_not_enough_to_say(self, project, capfd):
        code, report = self.drift(project, self.log(project, "few", 20), capfd)
        assert (code, report["verdict"], report["checks"]) == (0, "not enough to say", [])
        assert "20 logged images" in report["sentence"] and "at least 60" in report["sentence"]

    def test_no_log_is_a_sentence(self, project, tmp_path, capfd):
        words = ["drift", "--config", str(project.file), "--workdir", str(project.workdir.root)]
        assert run(words) == 2
        assert "no request log is named" in capfd.readouterr().err
        assert run([*words, "--log", str(tmp_path / "nowhere")]) == 2
        assert "--request_log_dir" in capfd.readouterr().err

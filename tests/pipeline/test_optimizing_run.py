"""Whole runs that compress: forms made, measured, certified and published, in the order in which a person meets them.

One work directory serves all tests of the class, since each builds on the runs before it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.app import run as command_line
from pipeline.optimizing import results
from pipeline.records import HIT, RAN, RunRecord
from serving.certify.table import read_csv
from serving.delivery.folder import check_folder
from serving.edge.verify import verify_bundle
from serving.publish import served, versions
from tests.pipeline.test_running import Project, states

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

YAML = """
name: shapes
data:
  source: {folder}
transform: {{size: [16, 16]}}
model: {{name: cnn_small, width: 0.5}}
train: {{epochs: 8, batch_size: 16, learning_rate: 3.0e-3}}
evaluate:
  top_k: 2
  slices: [label]
  gates: {{accuracy: {{min: 0.5}}}}
compress:
  variants: [tflite_float16, tflite_int8, cluster8_tflite_float32, onnx_float32, tftrt_fp16]
  examples: 60
  representative: 40
  rounds: 3
  finetune: {{epochs: 1}}
  personalization: true
  budget:
    max_accuracy_drop: 0.6
    max_worst_class_drop: null
    min_top1_agreement: 0.5
    min_top1_agreement_trained: 0.4
card: {{intended_use: telling shapes apart, license: Apache-2.0, limits: [drawn shapes only]}}
bulk_infer: {{enabled: false}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, shapes) -> Project:
    return Project(tmp_path_factory.mktemp("project"), shapes, YAML)


def certificate(record: RunRecord) -> results.Certificate:
    return results.read(folder_of(record))


def folder_of(record: RunRecord) -> Path:
    found = results.find(record.stage("Optimizer").outputs)
    assert found is not None
    return found


def ran(record: RunRecord) -> set[str]:
    return {stage for stage, state in states(record).items() if state == RAN}


class TestLife:
    def test_every_form_has_a_row_and_what_passes_is_in_the_bundle(self, project):
        record = project.run()
        assert record.state == "succeeded", record.error
        found = certificate(record)
        rows = {row.variant: row for row in found.rows}
        assert list(rows) == [
            "saved_model", "tflite_float16", "tflite_int8", "cluster8_tflite_float32", "onnx_float32", "tftrt_fp16",
        ]  # fmt: skip
        assert [row.status for row in found.rows] == ["ok", "ok", "ok", "ok", "ok", "skipped"]
        assert "no_gpu" in rows["tftrt_fp16"].reason
        assert read_csv(folder_of(record) / results.CSV_FILE) == found.rows
        for name in ("tflite_float16", "tflite_int8", "cluster8_tflite_float32", "onnx_float32"):
            row = rows[name]
            assert row.accuracy is not None and row.ci95_low <= row.delta <= row.ci95_high
            assert row.cpu_ms_b1_p50 > 0 and row.gz_bytes < row.bytes and len(row.sha256) == 64
        assert rows["tflite_float16"].bytes < rows["cluster8_tflite_float32"].bytes
        assert rows["cluster8_tflite_float32"].technique == "cluster8"
        assert (folder_of(record) / "front.png").read_bytes()[:4] == b"\x89PNG"

        bundle = Path(record.bundle)
        assert bundle == project.workdir.root / "edge" / "1"
        assert "telling shapes apart" in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
        findings = verify_bundle(bundle)
        assert {finding.status for finding in findings} == {"passed"}, findings
        card = json.loads((bundle / "model_card.json").read_text())
        assert card["intended_use"] == "telling shapes apart"
        assert {row["variant"] for row in card["results"]} == set(rows)
        picked = {pick.variant for target, pick in found.picks.items() if target.startswith("mobile")}
        assert found.picks["mobile_gpu"].variant == "tflite_float16"
        assert {file["variant"] for file in card["files"]} == picked
        assert set(card["personalization"]["signatures"]) == {"train", "infer", "save", "restore"}

    def test_what_servers_get_beside_the_saved_model_is_published_and_answers_as_it_did(self, project, capsys):
        record = project.run()
        forms = Path(record.forms)
        assert forms == project.workdir.root / "forms" / "1"
        assert [(entry.target, entry.variant) for entry in check_folder(forms).forms] == [
            ("server_cpu", "onnx_float32")
        ]
        card = json.loads((forms / "server_cpu" / "card.json").read_text())
        row = next(row for row in certificate(record).rows if row.variant == "onnx_float32")
        assert card["results"] == dataclasses.asdict(row) and card["measured_sha256"] == row.sha256
        assert card["runtime"]["version"] == importlib.metadata.version("onnxruntime")
        assert card["license"] == "Apache-2.0" and card["labels"] == ["circle", "cross", "square"]
        samples = json.loads((forms / "samples" / "expected.json").read_text())["samples"]
        images = [str(forms / "samples" / sample["image"]) for sample in samples]
        command = [sys.executable, str(forms / "server_cpu" / "classify.py"), *images]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        for line, sample in zip(lines, samples, strict=True):
            answer = sample["answers"]["server_cpu"]
            assert line.split("\t")[1] == card["labels"][answer.index(max(answer))]
        workdir = ["--workdir", str(project.workdir.root)]
        assert command_line(["versions", "--of", "forms", "--json", *workdir]) == 0
        (version,) = json.loads(capsys.readouterr().out)
        assert (version["version"], version["served"]) == (1, True)
        assert version["metrics"] == {"accuracy of server_cpu": row.accuracy}
        assert command_line(["versions", "--of", "edge", "--json", *workdir]) == 0
        (bundle,) = json.loads(capsys.readouterr().out)
        assert "accuracy of model_float16.tflite" in bundle["metrics"]
        assert command_line(["rollback", "--of", "forms", *workdir]) == 2
        assert "nothing to roll back to" in capsys.readouterr().err
        assert command_line(["status", *workdir]) == 0
        assert "the forms for other servers in" in " ".join(capsys.readouterr().out.split())

    def test_one_artifact_per_form_that_was_made(self, project):
        record = project.run()
        folders = [Path(uri) for uri in record.stage("Optimizer").outputs if "/variants/" in uri]
        assert sorted(folder.name for folder in folders) == [
            "cluster8_tflite_float32", "onnx_float32", "tflite_float16", "tflite_int8",
        ]  # fmt: skip
        files = [folder / "model.tflite" for folder in folders if "tflite" in folder.name]
        assert all(file.read_bytes()[4:8] == b"TFL3" for file in files)

    def test_the_same_again_makes_nothing(self, project):
        record = project.run()
        assert set(states(record).values()) <= {HIT}
        assert (Path(record.bundle).name, Path(record.forms).name) == ("1", "1")

    def test_a_picked_form_is_held_to_the_gates_of_the_evaluator(self, project):
        record = project.run()
        found = certificate(record)
        for pick in found.picks.values():
            if pick.variant != "saved_model":
                verdict = json.loads((folder_of(record) / "evaluations" / pick.variant / "verdict.json").read_text())
                assert verdict["passed"]
                assert {check["metric"] for check in verdict["checks"]} == {"accuracy"}

    def test_export_and_benchmark_take_what_was_published(self, project, shapes, tmp_path, capsys):
        version, out = str(served(project.base).path), tmp_path / "model.tflite"
        assert command_line(["export", version, "--format", "tflite_float16", "--out", str(out)]) == 0
        assert "float" in capsys.readouterr().out
        words = ["benchmark", version, str(out), "--data", str(shapes), "--images", "30", "--rounds", "2", "--json"]
        assert command_line([*words, "--out", str(tmp_path)]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["form"] for row in rows] == ["saved_model", "tflite_float32"]
        assert rows[0]["accuracy"] >= 0.5 and abs(rows[1]["delta"]) < 0.05 and rows[1]["cpu_ms_b1_p50"] > 0
        assert [row.accuracy for row in read_csv(tmp_path / "benchmark.csv")] == [row["accuracy"] for row in rows]

    def test_benchmark_measures_the_forms_of_a_run_again(self, project, capsys):
        assert command_line(["benchmark", str(project.workdir.root), "--images", "16", "--rounds", "2"]) == 0
        shown = capsys.readouterr().out
        assert "random images" in shown
        assert all(name in shown for name in ("saved_model", "tflite_int8", "cluster8_tflite_float32"))

    def test_what_is_gone_is_published_again(self, project):
        shutil.rmtree(project.workdir.root / "edge" / "1")
        shutil.rmtree(project.workdir.root / "forms" / "1")
        record = project.run()
        assert ran(record) == {"EdgePusher", "FormPusher"}
        assert (Path(record.bundle).name, Path(record.forms).name) == ("2", "2")

    def test_a_budget_that_nothing_meets_ships_the_float_form_and_says_so(self, project):
        before = {path: path.stat().st_mtime_ns for path in project.workdir.compressed.rglob("*") if path.is_file()}
        record = project.run(
            "compress.budget.max_bytes=100", "compress.variants=[tflite_float16, cluster8_tflite_float32]"
        )
        assert record.state == "succeeded"
        assert ran(record) == {"Optimizer", "EdgePusher", "FormPusher"}
        said = {verdict["gate"]: verdict["sentence"] for verdict in record.verdicts}
        assert "none of 2 forms passed, so the float form ships" in said["Optimizer"]
        assert "no bundle was published: no TFLite file passes (tflite_float16 refused" in said["EdgePusher"]
        assert "no package for servers was published: servers get the SavedModel (server_cpu: no" in said["FormPusher"]
        assert (record.bundle, record.forms) == ("", "")
        found = certificate(record)
        assert {row.status for row in found.rows[1:]} == {"refused"}
        assert "allowed are 100" in found.rows[1].reason
        assert {pick.variant for pick in found.picks.values()} == {"saved_model"}
        assert [v.number for v in versions(project.workdir.root / "edge")] == [2]
        assert [v.number for v in versions(project.workdir.root / "forms")] == [2]
        after = {path: path.stat().st_mtime_ns for path in project.workdir.compressed.rglob("*") if path.is_file()}
        assert after == before, "a technique was trained again though nothing that it depends on changed"

    def test_a_model_that_the_evaluator_refuses_gets_no_forms(self, project):
        record = project.run("evaluate.gates.accuracy.min=1.0", "train.epochs=1", "train.learning_rate=1e-6")
        assert record.state == "refused"
        refused = {verdict["gate"]: verdict["sentence"] for verdict in record.verdicts if not verdict["passed"]}
        assert refused["Optimizer"] == "no forms were made, since the Evaluator refused the model"
        assert "no bundle was published" in refused["EdgePusher"]
        assert "no package for servers was published, since the Evaluator" in refused["FormPusher"]
        assert [v.number for v in versions(project.workdir.root / "edge")] == [2]

"""FormPusher as a component: what it publishes of an Optimizer's results, and what it says if there is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx.types import standard_artifacts

from pipeline.components import form_pusher
from pipeline.components.artifacts import ModelVariant, VariantResults
from pipeline.evaluation.verdict import Verdict, read_verdict
from pipeline.optimizing import results
from serving.certify.picks import pick
from serving.certify.table import Row
from serving.delivery.card import FormCard
from serving.delivery.folder import check_folder
from serving.measure.images import ImageBatches
from serving.measure.size import measure_size
from serving.publish import versions
from tests.pipeline.components.artifacts import executor, made
from tests.pipeline.report.made_up import ingestion, summary
from tests.serving.delivery.conftest import LABELS, pixels
from tests.serving.forms.test_onnxruntime import write


def row(variant: str, runtime: str, sha256: str = "0" * 64, **figures: Any) -> Row:
    values = {"accuracy": 0.875, "ratio_b32": 1.0, "bytes": 10, "gz_bytes": 9, "cpu_ms_b1_p50": 1.0, **figures}
    return Row(variant, "", variant, runtime, "ok", sha256=sha256, **values)


def optimized(root: Path, **figures: Any) -> dict[str, list[Any]]:
    """Return the artifacts of an Optimizer that made an ONNX file; its figures decide whether it is picked."""
    variant = made(ModelVariant, root / "variants" / "onnx_int8")
    variant.variant = "onnx_int8"
    file = write(Path(variant.uri) / "model.onnx")
    rows = [
        row("saved_model", "saved_model", "ab" * 32),
        row("onnx_int8", "onnxruntime", measure_size(file).sha256, **{"ratio_b32": 3.0, **figures}),
    ]
    found = made(VariantResults, root / "results")
    about = {"machine": {"versions": {"onnxruntime": "1.2.3"}}}
    certificate = results.Certificate(rows, pick(rows, "saved_model"), about)
    details = {"onnx_int8": {"seconds": 1.0, "conversion": {"representative_images": 40, "seed": 7}, "training": {}}}
    folder = Path(found.uri)
    results.write(certificate, details, LABELS, folder)
    samples = ImageBatches.of_arrays(np.stack([pixels(seed) for seed in range(4)]), np.arange(4))
    results.write_samples(samples, 3, 7, folder)
    return {"variants": [variant], "results": [found]}


def push(root: Path, inputs: dict[str, list[Any]], blessed: int = 1, run: str = "run") -> Verdict:
    """Run the component and return its verdict."""
    pushed = made(standard_artifacts.PushedModel, root / run / "pushed")
    blessings = {
        "model_blessing": [made(standard_artifacts.ModelBlessing, root / run / "b", blessed=blessed)],
        "infra_blessing": [made(standard_artifacts.InfraBlessing, root / run / "i", blessed=1)],
    }
    described = {
        "examples": [made(standard_artifacts.Examples, root / run / "examples")],
        "evaluation": [made(standard_artifacts.ModelEvaluation, root / run / "evaluation")],
    }
    for key, file, content in (
        ("examples", "ingest_report.json", ingestion()),
        ("evaluation", "summary.json", summary(0.9, None)),
    ):
        Path(described[key][0].uri, file).write_text(json.dumps(content), encoding="utf-8")
    card = {"license": "MIT", "limits": ["no plants"], "intended_use": "tests"}
    executor(form_pusher.Executor, root / "tmp").Do(
        {**inputs, **blessings, **described},
        {"pushed": [pushed]},
        {
            "destination": str(root / "forms"),
            "manifest": json.dumps({"name": "animals", "config_hash": "c", "data_fingerprint": "d"}),
            "card": json.dumps({"card": card, "architecture": "net", "image": [8, 8, 3], "split": "test", "top_k": 3}),
        },
    )
    verdict = read_verdict(pushed.uri)
    assert verdict is not None
    assert pushed.get_int_custom_property("pushed") == bool(verdict.checks)
    return verdict


def test_the_pick_is_published_once_with_its_card(tmp_path):
    inputs = optimized(tmp_path)
    verdict = push(tmp_path, inputs)
    assert verdict.sentence == "the package for servers was published as version 1: onnx_int8 (server_cpu)"
    again = push(tmp_path, inputs, run="again")
    assert again.sentence == "the package for servers is already there as version 1: onnx_int8 (server_cpu)"
    (version,) = versions(tmp_path / "forms")
    assert version.ok and version.manifest is not None
    assert dict(version.metrics) == {"accuracy of server_cpu": 0.875}
    assert (version.manifest.name, version.manifest.data_fingerprint) == ("animals", "d")
    assert version.manifest.labels == LABELS
    assert check_folder(version.path).version == "ab" * 6
    assert "- no plants" in (version.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    card = FormCard.from_json((version.path / "server_cpu" / "card.json").read_text(encoding="utf-8"))
    assert (card.license, card.limits, card.runtime.version) == ("MIT", ("no plants",), "1.2.3")
    assert (card.quantization.calibration_images, card.quantization.calibration_seed) == (40, 7)
    assert card.description == "animals: tells 5 classes of images apart."


def test_where_the_saved_model_is_as_good_nothing_is_published(tmp_path):
    verdict = push(tmp_path, optimized(tmp_path, ratio_b32=1.1))
    assert verdict.passed
    assert verdict.sentence.startswith(
        "no package for servers was published: servers get the SavedModel (server_cpu: onnx_int8 is 1.10 times as fast"
    )
    assert not (tmp_path / "forms").exists()


@pytest.mark.parametrize(
    ("blessed", "damage", "words"),
    [
        (0, b"", "since the Evaluator refused the model"),
        (1, b"another model", "measure it again before it ships"),
    ],
)
def test_what_a_gate_refused_or_nobody_measured_is_not_published(tmp_path, blessed, damage, words):
    inputs = optimized(tmp_path)
    if damage:
        Path(inputs["variants"][0].uri, "model.onnx").write_bytes(damage)
    verdict = push(tmp_path, inputs, blessed)
    assert not verdict.passed and words in verdict.sentence
    assert not (tmp_path / "forms").exists()

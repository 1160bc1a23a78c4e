from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from serving.convert import worker
from serving.convert.job import Conversion, Outcome
from serving.convert.scores import probe_images
from serving.forms import openvino as loader
from tests.serving.convert import networks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.save(tmp_path_factory.mktemp("source") / "model", networks.logits, output="logits")


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return worker.run(Conversion("openvino_float32", model, tmp_path_factory.mktemp("made") / "openvino"))


def expected(images: np.ndarray) -> np.ndarray:
    return np.asarray(networks.probabilities(images))


def test_the_files_answer_as_their_source(made: Outcome) -> None:
    assert made.status == "ok", made.reason
    assert made.path is not None
    assert sorted(file.name for file in made.path.parent.iterdir()) == ["model.bin", "model.xml"]
    images = networks.unit(probe_images(networks.SIZE))
    found = loader.load("openvino_float32", made.path).predict(images)
    np.testing.assert_allclose(found, expected(images), atol=1e-5)
    assert made.details["max_abs_difference"] <= 1e-5
    assert (made.details["precision"], made.details["compress_to_fp16"]) == ("f32", False)
    assert made.details["softmax"].startswith("added")


def test_names_and_any_batch(made: Outcome) -> None:
    model = loader.runtime("openvino_float32").Core().read_model(str(made.path))
    (image,), (probabilities,) = model.inputs, model.outputs
    assert (image.get_names(), probabilities.get_names()) == ({"image"}, {"probabilities"})
    assert str(image.get_partial_shape()) == "[?,8,8,3]"
    assert str(probabilities.get_partial_shape()) == "[?,4]"


def test_weights_of_16_bits_are_an_option(model: Path, made: Outcome, tmp_path: Path) -> None:
    small = worker.run(Conversion("openvino_float32", model, tmp_path, options={"compress_to_fp16": True}))
    assert small.status == "ok", small.reason
    assert made.path is not None
    assert small.details["compress_to_fp16"] is True
    weights = made.path.with_suffix(".bin").stat().st_size
    assert (tmp_path / "model.bin").stat().st_size < 0.7 * weights
    assert 0 < small.details["max_abs_difference"] < 5e-3
    refused = worker.run(Conversion("openvino_float32", model, tmp_path / "no", options={"compress_to_fp16": "yes"}))
    assert refused.status == "failed" and "`compress_to_fp16` is 'yes'; expected true or false" in refused.reason


def test_bfloat16_is_skipped_on_a_cpu_without_it(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "calculates_bfloat16", lambda core: False)
    outcome = worker.run(Conversion("openvino_bfloat16", model, tmp_path / "out"))
    assert outcome.status == "skipped"
    assert "needs a CPU with bfloat16 instructions" in outcome.reason
    assert not (tmp_path / "out").exists()


def test_bfloat16_is_measured_in_bfloat16_where_the_cpu_has_it(model: Path, tmp_path: Path) -> None:
    outcome = worker.run(Conversion("openvino_bfloat16", model, tmp_path))
    if loader.calculates_bfloat16(loader.runtime("openvino_bfloat16").Core()):
        assert outcome.status == "ok", outcome.reason
        assert outcome.details["precision"] == "bf16"
        assert 1e-5 < outcome.details["max_abs_difference"] < 0.1
    else:
        assert outcome.status == "skipped"


def test_a_missing_package_is_the_reason(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    outcome = worker.run(Conversion("openvino_float32", model, tmp_path))
    assert outcome.status == "skipped" and "tfx-slipway[convert]" in outcome.reason


def test_an_operation_without_equivalent_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    def odd(images: object) -> object:
        scores = networks.logits(images)
        return tf.math.igamma(tf.abs(scores) + 1.0, tf.ones_like(scores)) * 9.0

    source = networks.save(tmp_path / "odd", odd)
    outcome = worker.run(Conversion("openvino_float32", source, tmp_path / "out", options={"scores": "logits"}))
    assert outcome.status == "failed"
    assert "OpenVINO" in outcome.reason and "Igamma" in outcome.reason
    assert not list(tmp_path.glob("out/*"))

"""The worker with the real runtimes, in its real subprocess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.measure.images import ImageBatches
from serving.measure.latency import LatencySettings
from serving.measure.measurement import Measurement
from serving.measure.running import measure
from serving.measure.worker import Job, main
from tests.serving.measure.tiny_forms import MULTIPLY_ADDS, SHAPE, Tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measurement]:
    root = tmp_path_factory.mktemp("worker")
    generator = np.random.default_rng(3)
    for name, count in (("choose", 40), ("report", 30)):
        pixels = generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        ImageBatches.of_arrays(pixels, np.arange(count) % 3, batch=16).save(root / f"{name}.npz")
    broken = root / "broken.tflite"
    broken.write_bytes(tiny.float32.read_bytes()[:900])
    forms = {
        "tflite_float32": ("tflite_float32", tiny.float32),
        "tflite_broken": ("tflite_float32", broken),
        "tflite_int8": ("tflite_int8", tiny.int8),
        "onnx_float32": ("onnx_float32", tiny.onnx),
        "openvino_float32": ("openvino_float32", tiny.openvino),
        "saved_model": ("saved_model", tiny.saved_model),
    }
    latency = LatencySettings(batches=(1, 4), rounds=3, rounds_batched=2, seconds_per_variant=5)
    return measure(forms, "saved_model", root / "choose.npz", root / "report.npz", latency=latency)


def test_all_runtimes_are_measured_in_one_process(measured: dict[str, Measurement]) -> None:
    assert {name for name, one in measured.items() if one.ok} == {
        "saved_model",
        "tflite_float32",
        "tflite_int8",
        "onnx_float32",
        "openvino_float32",
    }
    for one in measured.values():
        if one.ok:
            assert set(one.timings) == {1, 4}
            assert one.operations.multiply_adds == MULTIPLY_ADDS
            assert (one.choose.images, one.report.images, one.remark) == (40, 30, "")


@pytest.mark.parametrize("variant", ["tflite_float32", "onnx_float32"])
def test_float_forms_are_the_same_function(measured: dict[str, Measurement], variant: str) -> None:
    assert measured[variant].choose.max_abs_difference < 1e-4
    assert measured[variant].choose.top1_agreement == 1
    assert measured[variant].size.bytes < measured["saved_model"].size.bytes


def test_int8_differs_but_not_much(measured: dict[str, Measurement]) -> None:
    assert 0 < measured["tflite_int8"].report.max_abs_difference < 0.2
    assert measured["tflite_int8"].size.bytes < measured["tflite_float32"].size.bytes


def test_a_truncated_file_has_its_reason(measured: dict[str, Measurement]) -> None:
    assert measured["tflite_broken"].status == "failed"
    assert "broken.tflite" in measured["tflite_broken"].reason


def test_a_wrong_call_says_how_to_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_a_job_comes_back_as_it_was(tmp_path: Path) -> None:
    for latency in (None, LatencySettings(batches=(1, 8), seed=3)):
        job = Job({"a": ("tflite_int8", tmp_path / "a")}, "a", tmp_path, tmp_path, tmp_path, latency, ("b",))
        assert Job.from_json(job.to_json()) == job

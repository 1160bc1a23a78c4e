"""Forms for servers of a tiny classifier by the mean color, each as its runtime loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.delivery.build import PACKAGES, Delivery, ServerForm, build_delivery
from serving.edge.bundle import SampleImage
from serving.forms.openvino import runtime
from serving.measure.size import measure_size
from tests.serving.forms.test_onnxruntime import KERNEL, SIZE, write

LABELS = ("ape", "bee", "cat", "dog", "eel")


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)


def server_form(form: str, source: Path, **changes: object) -> ServerForm:
    runtime = {"onnx": "onnxruntime"}.get(form.partition("_")[0], form.partition("_")[0])
    values: dict[str, object] = {
        "target": "server_gpu" if runtime == "tftrt" else "server_cpu",
        "reason": f"{form} is 2.00 times as fast at batch size 32.",
        "variant": form,
        "form": form,
        "source": source,
        "measured_sha256": measure_size(source).sha256,
        "runtime_version": f"9.9 of {PACKAGES[runtime]}",
        "results": {"variant": form, "accuracy": 0.875, "status": "ok", "rounds": None},
    }
    return ServerForm(**{**values, **changes})  # type: ignore[arg-type]


def contents(*forms: ServerForm, **changes: object) -> Delivery:
    values: dict[str, object] = {
        "name": "animals",
        "version": "0123456789ab",
        "description": "Tells five animals apart by their color.",
        "labels": LABELS,
        "forms": forms,
        "samples": tuple(SampleImage(pixels(seed), LABELS[seed]) for seed in range(3)),
        "intended_use": "Tests.",
        "limits": ("animals of one color only",),
        "data": "Random pixels.",
        "license": "Apache-2.0",
    }
    return Delivery(**{**values, **changes})  # type: ignore[arg-type]


def _openvino(folder: Path) -> Path:
    openvino = runtime("openvino_float32")  # without its telemetry, which forks
    file = folder / "model.xml"
    openvino.save_model(openvino.convert_model(str(write(folder / "source.onnx"))), str(file), compress_to_fp16=False)
    (folder / "source.onnx").unlink()
    return file


def _saved_model(folder: Path) -> Path:
    """What a conversion to TF-TRT leaves, without engines, so that a CPU runs it."""
    import tensorflow as tf

    class Network(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, *SIZE], tf.float32, name="image")], autograph=False)
        def predict(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": tf.nn.softmax(tf.reduce_mean(image, [1, 2]) @ KERNEL)}

    module = Network()
    tf.saved_model.save(module, str(folder), signatures={"predict": module.predict})
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "onnx_float32": lambda folder: write(folder / "model.onnx"),
    "openvino_float32": _openvino,
    "tftrt_fp16": _saved_model,
}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files and directories as the converters leave them, by form; read only."""
    root = tmp_path_factory.mktemp("forms")
    found = {}
    for form, make in MAKERS.items():
        (root / form).mkdir()
        found[form] = make(root / form)
    return found


@pytest.fixture(scope="session")
def package(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a form for either target; read only, copy it to damage it."""
    forms = [server_form(name, sources[name]) for name in ("openvino_float32", "tftrt_fp16")]
    return build_delivery(tmp_path_factory.mktemp("packages") / "animals", contents(*forms))

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError, UnavailableError
from serving.forms import openvino as forms_openvino
from serving.forms.loading import load_form
from serving.forms.openvino import calculates_bfloat16, load, runtime

ROOT = Path(__file__).resolve().parents[3]
SIZE = (4, 4, 3)
KERNEL = np.random.default_rng(3).normal(0, 3, (3, 5)).astype(np.float32)


def write(
    path: Path, *, dtype: type = np.float32, output: str = "probabilities", sizes: tuple[int, ...] = SIZE
) -> Path:
    """A classifier by the mean color, in OpenVINO's format."""
    openvino = runtime("openvino_float32")
    ops = openvino.opset13
    image = ops.parameter([-1, *sizes], dtype, name="image")
    image.output(0).get_tensor().set_names({"image"})
    mean = ops.reduce_mean(ops.convert(image, "f32"), ops.constant(list(range(1, len(sizes)))), False)
    probabilities = ops.softmax(ops.matmul(mean, ops.constant(KERNEL), False, False), 1)
    probabilities.output(0).get_tensor().set_names({output})
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(openvino.Model([probabilities], [image], "mean_color"), str(path), compress_to_fp16=False)
    return path


def expected(images: np.ndarray) -> np.ndarray:
    scores = np.exp(images.astype(np.float32).mean((1, 2)) @ KERNEL)
    return scores / scores.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("openvino") / "model.xml")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 32])
def test_any_batch_is_classified(file: Path, threads: int, count: int) -> None:
    model = load_form("openvino_float32", file.parent, threads)
    images = np.random.default_rng(count).random((count, *SIZE), np.float32)
    found = model.predict(images)
    assert found.dtype == np.float32 and found.shape == (count, 5)
    np.testing.assert_allclose(found, expected(images), atol=1e-5)


def test_an_answer_survives_the_next_one(file: Path) -> None:
    model = load("openvino_float32", file)
    first = model.predict(np.zeros((1, *SIZE), np.float32))
    before = first.copy()
    model.predict(np.ones((1, *SIZE), np.float32))
    np.testing.assert_array_equal(first, before)


def test_views_and_other_memory_orders_are_taken(file: Path) -> None:
    images = np.random.default_rng(0).random((3, 4, 4, 2), np.float32).transpose(3, 1, 2, 0)
    np.testing.assert_allclose(load("openvino_float32", file).predict(images), expected(images), atol=1e-5)


@pytest.mark.parametrize(("form", "hint"), [("openvino_float32", "f32"), ("openvino_bfloat16", "bf16")])
def test_the_precision_and_the_threads_are_always_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, form: str, hint: str
) -> None:
    openvino = runtime(form)
    seen: dict[str, Any] = {}

    class Core:
        """A CPU with bfloat16, whatever this one is."""

        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "BF16"]

        def read_model(self, path: str) -> Any:
            return openvino_core().read_model(path)

        def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
            seen.update(settings, device=device)
            return openvino_core().compile_model(model, device)

    openvino_core = openvino.Core
    monkeypatch.setattr(openvino, "Core", Core)
    load(form, file, 2)
    assert (seen["device"], seen["INFERENCE_PRECISION_HINT"], seen["INFERENCE_NUM_THREADS"]) == ("CPU", hint, 2)


def test_float32_is_exact_and_bfloat16_is_refused_where_the_cpu_has_none(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(5).random((8, *SIZE), np.float32)
    assert np.abs(load("openvino_float32", file).predict(images) - expected(images)).max() < 1e-5
    monkeypatch.setattr(forms_openvino, "calculates_bfloat16", lambda core: False)
    with pytest.raises(UnavailableError, match="openvino_bfloat16 needs a CPU with bfloat16 instructions"):
        load("openvino_bfloat16", file)


@pytest.mark.parametrize(("capabilities", "has"), [(["FP32", "BF16"], True), (["FP32", "INT8"], False)])
def test_the_capabilities_of_the_cpu_decide(capabilities: list[str], has: bool) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return capabilities if (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES") else []

    assert calculates_bfloat16(Core()) is has


def test_a_model_of_raw_pixels_says_so(tmp_path: Path) -> None:
    model = load("openvino_float32", write(tmp_path / "model.xml", dtype=np.uint8))
    assert model.input_dtype == np.uint8
    assert model.predict(np.zeros((2, *SIZE), np.uint8)).shape == (2, 5)


@pytest.mark.parametrize("images", [np.zeros((2, 4, 5, 3), np.float32), np.zeros((2, *SIZE), np.float64)])
def test_a_batch_that_does_not_fit_is_refused(file: Path, images: np.ndarray) -> None:
    with pytest.raises(ServingError, match=r"expected float32 \[N, 4, 4, 3\]"):
        load("openvino_float32", file).predict(images)


def test_a_closed_model_says_so(file: Path) -> None:
    model = load("openvino_float32", file)
    model.close()
    model.close()
    with pytest.raises(ServingError, match="was closed"):
        model.predict(np.zeros((1, *SIZE), np.float32))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_a_reason(file: Path, tmp_path: Path, name: str, share: float) -> None:
    copy = Path(shutil.copytree(file.parent, tmp_path / "copy"))
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ServingError, match="damaged or truncated"):
        load("openvino_float32", copy / "model.xml")


def test_missing_weights_are_named(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "model.xml")
    with pytest.raises(ServingError, match=r"model.bin does not exist; .* model.xml and model.bin. Copy both"):
        load("openvino_float32", tmp_path / "model.xml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "scores"}, "outputs scores; expected 'probabilities'"),
        ({"dtype": np.int32}, "expected one image"),
        ({"sizes": (4, 3)}, "expected one image"),
    ],
)
def test_a_model_that_is_no_classifier_of_ours_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ServingError, match=message):
        load("openvino_float32", write(tmp_path / "model.xml", **change))


def test_a_missing_runtime_is_named_with_its_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UnavailableError, match=r"openvino_float32 needs openvino.*tfx-slipway\[convert\]"):
        load("openvino_float32", file)


def test_openvino_is_imported_without_its_telemetry() -> None:
    script = (
        "from serving.forms.openvino import runtime; runtime('openvino_float32'); "
        "import sys; from openvino.tools.ovc import telemetry; "
        "print(type(telemetry).__module__, sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError, UnavailableError
from serving.forms.loading import load_form
from serving.forms.onnxruntime import load

SIZE = (4, 4, 3)
KERNEL = np.random.default_rng(3).normal(0, 3, (3, 5)).astype(np.float32)


def write(
    path: Path, *, dtype: str = "FLOAT", output: str = "probabilities", inputs: int = 1, sizes: tuple[Any, ...] = SIZE
) -> Path:
    """A classifier by the mean color, as an ONNX file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [output], axis=1),
    ]
    names = ["image", "mask"][:inputs]
    kind = getattr(TensorProto, dtype)
    graph = helper.make_graph(
        nodes,
        "mean_color",
        [helper.make_tensor_value_info(name, kind, ["N", *sizes]) for name in names],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(KERNEL, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def expected(images: np.ndarray) -> np.ndarray:
    scores = np.exp(images.astype(np.float32).mean((1, 2)) @ KERNEL)
    return scores / scores.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 32])
def test_any_batch_is_classified(file: Path, threads: int, count: int) -> None:
    model = load_form("onnx_float32", file, threads)
    images = np.random.default_rng(count).random((count, *SIZE), np.float32)
    found = model.predict(images)
    assert found.dtype == np.float32 and found.shape == (count, 5)
    np.testing.assert_allclose(found, expected(images), atol=1e-6)


def test_a_model_of_raw_pixels_says_so(tmp_path: Path) -> None:
    model = load("onnx_int8", write(tmp_path / "model.onnx", dtype="UINT8"))
    assert model.input_dtype == np.uint8
    assert model.predict(np.zeros((2, *SIZE), np.uint8)).shape == (2, 5)


def test_open_sizes_take_images_of_any_size(tmp_path: Path) -> None:
    model = load("onnx_float32", write(tmp_path / "model.onnx", sizes=("height", "width", 3)))
    assert model.predict(np.zeros((1, 7, 9, 3), np.float32)).shape == (1, 5)


def test_threads_reach_the_session(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(path: str, options: Any, providers: list[str]) -> Any:
        seen.append((options.intra_op_num_threads, options.inter_op_num_threads, providers))
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    load("onnx_float32", file, 2)
    assert seen == [(2, 1, ["CPUExecutionProvider"])]


@pytest.mark.parametrize("images", [np.zeros((2, 4, 5, 3), np.float32), np.zeros((2, *SIZE), np.float64)])
def test_a_batch_that_does_not_fit_is_refused(file: Path, images: np.ndarray) -> None:
    with pytest.raises(ServingError, match=r"expected float32 \[N, 4, 4, 3\]"):
        load("onnx_float32", file).predict(images)


def test_a_closed_model_says_so(file: Path) -> None:
    model = load("onnx_float32", file)
    model.close()
    model.close()
    with pytest.raises(ServingError, match="was closed"):
        model.predict(np.zeros((1, *SIZE), np.float32))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_a_reason(file: Path, tmp_path: Path, share: float) -> None:
    content = file.read_bytes()
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ServingError, match=r"model.onnx.*(damaged or truncated|expected)"):
        load("onnx_float32", damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "scores_of_it"}, "outputs scores_of_it; expected 'probabilities'"),
        ({"inputs": 2}, "expected one image"),
        ({"dtype": "DOUBLE"}, "expected one image"),
        ({"sizes": (4, 4)}, "expected one image|can load"),
    ],
)
def test_a_model_that_is_no_classifier_of_ours_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ServingError, match=message):
        load("onnx_float32", write(tmp_path / "model.onnx", **change))


def test_a_missing_runtime_is_named_with_its_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"onnx_float32 needs onnxruntime.*tfx-slipway\[convert\]"):
        load("onnx_float32", file)

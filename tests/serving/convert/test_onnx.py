from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.convert import onnx as onnx_float32
from serving.convert import running
from serving.convert.job import Conversion, Outcome
from serving.convert.source import open_source
from serving.errors import ConversionError
from serving.forms.onnxruntime import load
from tests.serving.convert import networks

FORMS = ("onnx_float32", "onnx_int8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.save(tmp_path_factory.mktemp("source") / "model", networks.logits, output="logits")


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The model in both forms, each from a process of its own: tf2onnx changes TensorFlow's global state."""
    out = tmp_path_factory.mktemp("made")
    sample = networks.images(40).save(out / "sample.npz")
    return {form: running.convert(Conversion(form, model, out / form, sample, options={"seed": 3})) for form in FORMS}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.concatenate([batch for batch, _ in networks.images(24, seed=9).read()])


@pytest.mark.slow
def test_the_float_form_answers_as_its_source(made: dict[str, Outcome], pixels: np.ndarray) -> None:
    outcome = made["onnx_float32"]
    assert outcome.status == "ok", outcome.reason
    assert outcome.path is not None
    loaded = load("onnx_float32", outcome.path)
    expected = np.asarray(networks.probabilities(networks.unit(pixels)))
    np.testing.assert_allclose(loaded.predict(networks.unit(pixels)), expected, atol=1e-5)
    assert outcome.details["max_abs_difference"] <= 1e-5
    assert outcome.details["softmax"].startswith("added")
    assert outcome.details["opset"] == 17
    assert outcome.details["operations"]["Conv"] == 1


@pytest.mark.slow
def test_the_int8_form_is_quantized_and_agrees(made: dict[str, Outcome], pixels: np.ndarray) -> None:
    import onnx

    outcome = made["onnx_int8"]
    assert outcome.status == "ok", outcome.reason
    assert outcome.path is not None
    assert outcome.details["representative_images"] == 40 and outcome.details["seed"] == 3
    graph = onnx.load(str(outcome.path)).graph
    by_name = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    (convolution,) = [node for node in graph.node if node.op_type == "Conv"]
    activation, kernel = (producers[name] for name in convolution.input[:2])
    assert activation.op_type == kernel.op_type == "DequantizeLinear"
    assert by_name[kernel.input[0]].data_type == onnx.TensorProto.INT8
    channels = networks.weights()["conv"].shape[-1]
    assert list(by_name[kernel.input[1]].dims) == [channels]  # a scale for each of them
    assert by_name[activation.input[2]].data_type == onnx.TensorProto.UINT8
    expected = np.asarray(networks.probabilities(networks.unit(pixels)))
    found = load("onnx_int8", outcome.path).predict(networks.unit(pixels))
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9
    assert 0 < np.abs(found - expected).max() < 0.1
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_names_dtypes_and_any_batch(made: dict[str, Outcome], form: str) -> None:
    import onnx

    graph = onnx.load(str(made[form].path)).graph
    (image,), (probabilities,) = graph.input, graph.output
    assert (image.name, probabilities.name) == ("image", "probabilities")
    for value, sizes in ((image, [8, 8, 3]), (probabilities, [4])):
        shape = value.type.tensor_type.shape.dim
        assert shape[0].dim_param == "N"
        assert [dimension.dim_value for dimension in shape[1:]] == sizes
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("opset", [12, 19, "17", True, None])
def test_an_opset_that_cannot_be_written_is_refused(opset: Any) -> None:
    with pytest.raises(ConversionError, match=r"`opset` is .* expected a number from 13 to 18"):
        onnx_float32.opset_of(Conversion("onnx_float32", Path("a"), Path("b"), options={"opset": opset}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "reason"),
    [(None, "needs representative images"), ((6, 8, 3), "are 6 x 8 x 3; the model takes 8 x 8 x 3")],
)
def test_unfit_representative_images_are_the_reason(
    model: Path, tmp_path: Path, sample: tuple[int, int, int] | None, reason: str
) -> None:
    from serving.convert import worker

    file = None if sample is None else networks.images(4, sample).save(tmp_path / "sample.npz")
    outcome = worker.run(Conversion("onnx_int8", model, tmp_path / "out", file))
    assert outcome.status == "failed" and reason in outcome.reason
    assert not list(tmp_path.glob("out/*"))


def test_parity_sees_a_model_that_answers_something_else(model: Path, tmp_path: Path) -> None:
    import onnx

    source = open_source(model)
    mean = onnx.helper.make_node("ReduceMean", ["image"], ["flat"], axes=[1, 2], keepdims=0)
    kernel = onnx.numpy_helper.from_array(np.eye(3, 4, dtype=np.float32) * 50, "kernel")
    product = onnx.helper.make_node("MatMul", ["flat", "kernel"], ["scores"])
    softmax = onnx.helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)
    real = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [mean, product, softmax],
        "other",
        [onnx.helper.make_tensor_value_info("image", real, ["N", 8, 8, 3])],
        [onnx.helper.make_tensor_value_info("probabilities", real, ["N", 4])],
        [kernel],
    )
    other = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert onnx_float32.parity(other.SerializeToString(), source) > 0.1
    with pytest.raises(ConversionError, match="ONNX Runtime cannot run"):
        onnx_float32.parity(b"no model", source)


def test_a_file_is_placed_whole_or_not_at_all(tmp_path: Path) -> None:
    onnx_float32.place(b"first", tmp_path / "new/model.onnx")
    onnx_float32.place(b"second", tmp_path / "new/model.onnx")
    assert (tmp_path / "new/model.onnx").read_bytes() == b"second"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["model.onnx"]
    (tmp_path / "blocked/model.onnx").mkdir(parents=True)
    with pytest.raises(OSError):
        onnx_float32.place(b"third", tmp_path / "blocked/model.onnx")
    assert [file.name for file in (tmp_path / "blocked").iterdir()] == ["model.onnx"]

"""A TFLite file as a servable: signatures as TensorFlow Serving derives them, any batch, any thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import ModelLoadError, ServingError
from serving.server.loading import LoadOptions
from serving.server.status import Code, StatusError
from serving.server.tflite_servable import TfliteServable
from tests.serving.server.tflite_files import build_tflite, with_signature_defs


@pytest.fixture(scope="module")
def servable(tflite_file: Path) -> Iterator[TfliteServable]:
    """The model with two interpreters."""
    loaded = TfliteServable.load(tflite_file, LoadOptions(tflite_pool=2))
    yield loaded
    loaded.close()


def expected(rows: np.ndarray) -> np.ndarray:
    return rows * np.array([1, 2, 3], np.float32) + 1


def batch(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def test_a_signature_is_made_up_from_the_names_of_the_tensors(servable: TfliteServable) -> None:
    made_up = servable.signatures["serving_default"]
    (name,) = made_up.inputs
    assert ":" not in name
    assert made_up.inputs[name].tensor.startswith(name)
    assert made_up.inputs[name].shape == (None, 3)
    assert made_up.method_name == "tensorflow/serving/predict"
    assert servable.batchable["serving_default"]
    (answer,) = servable.run("serving_default", {name: batch(2)}).values()
    np.testing.assert_allclose(answer, expected(batch(2)), rtol=1e-6)


def test_signatures_of_the_converter_are_served_too(servable: TfliteServable) -> None:
    assert set(servable.signatures) == {"serving_default", "predict"}
    answer = servable.run("predict", {"x": batch(4)})
    assert list(answer) == ["y"]
    np.testing.assert_allclose(answer["y"], expected(batch(4)), rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 32, 3, 1])
def test_any_number_of_rows(servable: TfliteServable, rows: int) -> None:
    np.testing.assert_allclose(
        servable.run("predict", {"x": batch(rows, rows)}, ["y"])["y"], expected(batch(rows, rows)), rtol=1e-6
    )


def test_many_threads_get_their_own_answers(servable: TfliteServable) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for n in range(30):
            rows = batch(1 + (seed + n) % 5, seed * 100 + n)
            if not np.allclose(servable.run("predict", {"x": rows})["y"], expected(rows), rtol=1e-6):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert servable._pool._made <= 8


def test_answers_outlive_later_calls(servable: TfliteServable) -> None:
    first = servable.run("predict", {"x": batch(2, 1)})["y"]
    servable.run("predict", {"x": batch(2, 2)})
    np.testing.assert_allclose(first, expected(batch(2, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "code", "text"),
    [
        ("no", {}, None, Code.FAILED_PRECONDITION, 'Serving signature key "no" not found.'),
        ("predict", {}, None, Code.INVALID_ARGUMENT, "Missing named input: x"),
        ("predict", {"x": batch(1).astype(np.float64)}, None, Code.INVALID_ARGUMENT, "Expects arg[0] to be float"),
        ("predict", {"x": batch(1)[0]}, None, Code.INVALID_ARGUMENT, "Input x has shape [3]"),
        ("predict", {"x": batch(1)[:, :2]}, None, Code.INVALID_ARGUMENT, "Input x has shape [1,2]"),
        ("predict", {"x": batch(0)}, None, Code.INVALID_ARGUMENT, "has no elements"),
        ("predict", {"x": batch(1)}, ["z"], Code.INVALID_ARGUMENT, "output tensor alias not found in signature: z"),
    ],
)
def test_calls_that_fail(servable: TfliteServable, name: str, inputs: Any, outputs: Any, code: Code, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        servable.run(name, inputs, outputs)
    assert caught.value.code is code
    assert text in caught.value.message


def test_metadata_shows_the_tensors_of_the_file(servable: TfliteServable) -> None:
    shown = servable.signature_defs().signature_def
    (info,) = shown["serving_default"].inputs.values()
    assert [dim.size for dim in info.tensor_shape.dim] == [1, 3]
    assert shown["predict"].outputs["y"].dtype == 1


def test_declared_signatures_win(tmp_path: Path, tflite_file: Path) -> None:
    file = tmp_path / "declared.tflite"
    file.write_bytes(with_signature_defs(tflite_file.read_bytes()))
    servable = TfliteServable.load(file, LoadOptions())
    assert {name: (list(s.inputs), list(s.outputs), s.method_name) for name, s in servable.signatures.items()} == {
        "declared": (["left"], ["right"], "my/method")
    }
    np.testing.assert_allclose(servable.run("declared", {"left": batch(2)})["right"], expected(batch(2)), rtol=1e-6)
    assert servable.signature_defs().signature_def["declared"].method_name == "my/method"
    servable.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [({"tensor": "nothing:0"}, "names the tensor 'nothing:0'"), ({"garbage": True}, "Invalid SignatureDefs found")],
)
def test_declared_signatures_that_make_no_sense(tmp_path: Path, tflite_file: Path, damage: Any, words: str) -> None:
    file = tmp_path / "declared.tflite"
    file.write_bytes(with_signature_defs(tflite_file.read_bytes(), **damage))
    with pytest.raises(ModelLoadError, match=words):
        TfliteServable.load(file, LoadOptions())


def test_a_model_for_one_row_serves_any_number(tmp_path: Path) -> None:
    file = tmp_path / "single.tflite"
    build_tflite(file, rows=1)
    servable = TfliteServable.load(file, LoadOptions())
    assert not servable.batchable["predict"]
    assert servable.signatures["predict"].inputs["x"].shape == (None, 3)
    np.testing.assert_allclose(servable.run("predict", {"x": batch(3)})["y"], expected(batch(3)), rtol=1e-6)
    with pytest.raises(StatusError, match="Inputs have"):
        servable.run("predict", {"x": batch(0)})
    servable.close()


def test_a_closed_model_says_so(tflite_file: Path) -> None:
    servable = TfliteServable.load(tflite_file, LoadOptions())
    servable.close()
    servable.close()
    with pytest.raises(StatusError, match="was unloaded") as caught:
        servable.run("predict", {"x": batch(1)})
    assert caught.value.code is Code.UNAVAILABLE


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="cannot be read"):
        TfliteServable.load(tmp_path / "no.tflite", LoadOptions())

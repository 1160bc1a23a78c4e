from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.measure.operations import Operations, Tally, count_operations
from tests.serving.measure.tiny_forms import KERNELS, MULTIPLY_ADDS, PARAMETERS, ZEROS, Tiny

FORMS = ("saved_model", "float32", "float16", "int8", "sparse", "onnx", "openvino")


@pytest.fixture(scope="module")
def counted(tiny: Tiny) -> dict[str, Operations]:
    return {form: count_operations(getattr(tiny, form)) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_agrees_with_the_count_by_hand(counted: dict[str, Operations], form: str) -> None:
    found = counted[form]
    assert found.multiply_adds == MULTIPLY_ADDS
    assert found.parameters == PARAMETERS
    assert found.sparsity == pytest.approx(ZEROS / KERNELS, abs=0.01)
    assert found.operations == sum(found.kinds.values()) > 5
    assert found.flex_operations == 0


def test_only_tflite_knows_about_its_gpu_delegate(counted: dict[str, Operations]) -> None:
    assert {
        form: found.gpu_delegate_ok for form, found in counted.items() if found.gpu_delegate_ok is None
    } == dict.fromkeys(("saved_model", "onnx", "openvino"))
    assert counted["float32"].gpu_delegate_ok is not None
    assert counted["float32"].kinds["CONV_2D"] == 2
    assert counted["onnx"].kinds["Conv"] == 3


def test_zeros_that_are_not_stored_count_as_zeros(tiny: Tiny, counted: dict[str, Operations]) -> None:
    assert "DENSIFY" in counted["sparse"].kinds
    assert counted["sparse"].sparsity == pytest.approx(counted["float32"].sparsity)


@pytest.mark.parametrize("form", ["float32", "onnx", "openvino"])
def test_truncated_files_are_refused(tiny: Tiny, tmp_path: Path, form: str) -> None:
    source: Path = getattr(tiny, form)
    cut = tmp_path / source.name
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(ServingError, match=r"(damaged or truncated|no complete)"):
        count_operations(cut)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model.xml"])
def test_empty_and_foreign_files_are_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"not a model at all, but long enough to be looked at"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ServingError):
            count_operations(tmp_path / name)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="does not exist"):
        count_operations(tmp_path / "none.tflite")
    for name in ("model.h5", "model"):
        (tmp_path / name).touch()
        with pytest.raises(ServingError, match="no model of a known form"):
            count_operations(tmp_path / name)
    (tmp_path / "directory").mkdir()
    with pytest.raises(ServingError, match="is empty"):
        count_operations(tmp_path / "directory")


def test_a_missing_reader_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ServingError, match=r"without onnx; pip install"):
        count_operations(tmp_path / "model.onnx")


def test_a_quantized_zero_is_a_zero() -> None:
    tally = Tally()
    tally.array(np.array([[128, 5], [128, 128]], np.uint8), 128)
    tally.array(np.array([[1, 2], [1, 2]], np.int8), np.array([[1, 3]]))
    assert tally.result().sparsity == 5 / 8
    assert tally.result().parameters == 8


def test_biases_are_no_kernels_and_single_numbers_no_parameters() -> None:
    tally = Tally()
    tally.array(np.zeros((1, 1, 1, 6), np.float32))
    tally.array(np.zeros((1, 1), np.float32))
    tally.array(np.ones((2, 3), np.float32))
    assert (tally.result().sparsity, tally.result().parameters) == (0.0, 12)


def test_an_unknown_length_makes_the_sum_unknown() -> None:
    tally = Tally()
    tally.product(2, 3)
    tally.product(None, 3)
    tally.product(4)
    assert tally.result().multiply_adds is None


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=4))
def test_sums_are_sums(products: list[tuple[int, int]]) -> None:
    tally = Tally()
    for lengths in products:
        tally.product(*lengths)
    assert tally.result().multiply_adds == sum(math.prod(lengths) for lengths in products)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.convert.selection import FLOAT_FIRST, UINT8_FIRST, Choice, choose
from serving.errors import ConversionError, SignatureError
from serving.signature import Signature, TensorSpec

IMAGE = (None, 8, 8, 3)


def spec(name: str, dtype: str, shape: Any) -> TensorSpec:
    return TensorSpec(name, f"{name}:0", dtype, shape, np.dtype(object if dtype == "string" else dtype))


def signature(name: str, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> Signature:
    return Signature(name, "predict", {one.name: one for one in inputs}, {one.name: one for one in outputs})


def ours() -> dict[str, Signature]:
    outputs = [
        spec("probabilities", "float32", (None, 3)),
        spec("class_id", "int64", (None,)),
        spec("label", "string", (None,)),
    ]
    return {
        "predict_float": signature("predict_float", [spec("image", "float32", IMAGE)], outputs),
        "predict_uint8": signature("predict_uint8", [spec("image", "uint8", IMAGE)], outputs),
        "serving_default": signature("serving_default", [spec("image_bytes", "string", (None,))], outputs),
    }


def one(image: TensorSpec, *outputs: TensorSpec) -> dict[str, Signature]:
    return {"f": signature("f", [image], list(outputs or [spec("y", "float32", (None, 3))]))}


def test_our_models_are_converted_in_floats_and_run_on_pixels() -> None:
    expected = Choice("predict_float", "image", "probabilities", "float32", (8, 8, 3), None)
    assert choose(ours(), order=FLOAT_FIRST) == expected
    assert choose(ours(), order=UINT8_FIRST).signature == "predict_uint8"
    assert choose(ours(), "predict_uint8").dtype == "uint8"


def test_the_only_signature_that_fits_is_taken_whatever_its_names() -> None:
    found = one(spec("x", "uint8", (1, 8, 6, 1)))
    found["g"] = signature("g", [spec("s", "string", (None,))], [spec("y", "float32", (None, 3))])
    assert choose(found) == Choice("f", "x", "y", "uint8", (8, 6, 1), 1)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (spec("s", "string", (None,)), "takes s: string"),
        (spec("x", "float16", IMAGE), "takes x: float16"),
        (spec("x", "float32", None), r"expected \[N, H, W, C\]"),
        (spec("x", "float32", (None, 192)), r"expected \[N, H, W, C\]"),
        (spec("x", "float32", (None, None, None, 3)), "height, width or channels are unknown"),
        (spec("x", "float32", (None, 8, 8, None)), "height, width or channels are unknown"),
    ],
)
@pytest.mark.parametrize("asked", [None, "f"])
def test_inputs_that_are_no_images(image: TensorSpec, reason: str, asked: str | None) -> None:
    with pytest.raises(ConversionError, match=rf"{reason}.*Export a signature with one input float32 \[N, H, W, C\]"):
        choose(one(image), asked)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([spec("label", "string", (None,))], "gives label: string"),
        ([spec("y", "float32", (None, 1))], "expected an output float32"),
        ([spec("boxes", "float32", (None, 9, 4))], "expected an output float32"),
        ([spec("a", "float32", (None, 3)), spec("b", "float32", (None, 3))], "several outputs .*'a', 'b'"),
    ],
)
def test_outputs_that_are_no_scores(outputs: list[TensorSpec], reason: str) -> None:
    with pytest.raises(ConversionError, match=reason):
        choose(one(spec("x", "float32", IMAGE), *outputs))


def test_an_output_can_be_named() -> None:
    found = one(spec("x", "float32", IMAGE), spec("a", "float32", (None, 3)), spec("b", "float32", None))
    assert choose(found, output="b").output == "b"
    with pytest.raises(ConversionError, match="no output 'c', only 'a', 'b'"):
        choose(found, "f", "c")


def test_several_inputs() -> None:
    inputs = [spec("x", "float32", IMAGE), spec("mask", "float32", IMAGE)]
    with pytest.raises(ConversionError, match="has 2 inputs"):
        choose({"f": signature("f", inputs, [spec("y", "float32", (None, 3))])})


def test_several_signatures_have_to_be_told_apart() -> None:
    both = {**one(spec("x", "float32", IMAGE))}
    both["g"] = signature("g", [spec("x", "float32", IMAGE)], [spec("y", "float32", (None, 3))])
    with pytest.raises(ConversionError, match=r"several signatures are image classifiers: 'f', 'g'. .*--signature"):
        choose(both)
    with pytest.raises(SignatureError, match="no signature 'h'"):
        choose(both, "h")


def test_no_signature_at_all() -> None:
    with pytest.raises(ConversionError, match="it has none at all"):
        choose({})

"""Names, types and shapes of a request against a signature, with TensorFlow Serving's texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.server.status import Code, StatusError
from serving.server.tensor_checks import check_names, check_outputs, check_tensors
from tests.serving.server.engines import signature, spec

PAIR = signature(inputs=(spec("b", (None, 2)), spec("a", (None,), "string")), outputs=(spec("y", (None,)),))
WITH_DEFAULT = signature(inputs=PAIR.inputs.values(), defaults={"a": np.array([b"d"], object)})  # type: ignore[arg-type]
A, B = np.array([b"x"], object), np.ones((1, 2), np.float32)


def test_what_fits_passes() -> None:
    assert check_names(PAIR, {"a": A, "b": B}) == {"a": A, "b": B}
    check_tensors(PAIR, {"a": A, "b": B})
    check_outputs(PAIR, ["y"])
    free = signature(inputs=(spec("x", None), spec("s", ())))
    check_tensors(free, {"x": np.zeros((3, 4, 5), np.float32), "s": np.zeros((), np.float32)})


def test_a_default_fills_in_for_a_missing_input() -> None:
    filled = check_names(WITH_DEFAULT, {"b": B})
    assert filled["a"].tolist() == [b"d"]
    assert filled["b"] is B


@pytest.mark.parametrize(
    ("of", "names", "text"),
    [
        (
            PAIR,
            ["b"],
            "input size does not match signature: 1!=2 len({b}) != len({a,b}). Sent extra: {}. Missing but required: "
            "{a}.",
        ),
        (
            PAIR,
            ["a", "b", "c"],
            "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. Missing but "
            "required: {}.",
        ),
        (
            PAIR,
            ["b", "c"],
            "Signature input alias: a(feed name: a:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {b,c}, or default input alias set: ",
        ),
        (
            WITH_DEFAULT,
            ["b", "c"],
            "Inputs contains invalid name. Used request inputs: b, request input: b,c",
        ),
        (
            WITH_DEFAULT,
            ["a"],
            "Signature input alias: b(feed name: b:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {a}, or default input alias set: a",
        ),
    ],
)
def test_names_that_do_not_fit(of: Any, names: list[str], text: str) -> None:
    with pytest.raises(StatusError) as caught:
        check_names(of, {name: A for name in names})
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"a": A, "b": B.astype(np.float64)}, "Expects arg[1] to be float but double is provided"),
        ({"a": A, "b": A}, "Expects arg[1] to be float but string is provided"),
        ({"a": B[0], "b": B}, "Expects arg[0] to be string but float is provided"),
        ({"a": np.array([b"x"]), "b": B}, "Expects arg[0] to be string but bytes8 is provided"),
        (
            {"a": A, "b": np.ones((1, 3), np.float32)},
            "Input b has shape [1,3], but signature serving_default takes [?,2]",
        ),
        ({"a": A, "b": np.ones(2, np.float32)}, "Input b has shape [2], but signature serving_default takes [?,2]"),
        ({"a": A}, "Missing named input: b"),
    ],
)
def test_tensors_that_do_not_fit(inputs: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(StatusError) as caught:
        check_tensors(PAIR, inputs)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (["z"], "output tensor alias not found in signature: z Outputs expected to be in the set {y}."),
        (["y", "y"], "duplicate output tensor alias: y"),
    ],
)
def test_output_filters_that_do_not_fit(outputs: list[str], text: str) -> None:
    with pytest.raises(StatusError) as caught:
        check_outputs(PAIR, outputs)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)

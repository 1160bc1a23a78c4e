"""Classify, Regress and MultiInference: what a signature must look like, and how outputs become answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.server.examples_api import (
    CLASSIFY,
    REGRESS,
    Classification,
    Task,
    check_tasks,
    outputs_of,
    to_classification,
    to_regression,
)
from serving.server.status import Code, StatusError
from tests.serving.server.engines import signature, spec

EXAMPLES = (spec("inputs", (None,), "string"),)
SCORES, CLASSES = spec("scores", (None, None)), spec("classes", (None, None), "string")
VALUES = spec("outputs", (None, 1))


def strings(*rows: list[bytes]) -> np.ndarray:
    return np.array(rows, dtype=object)


def floats(*rows: Any) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("outputs", "method", "names"),
    [
        ((SCORES, CLASSES), CLASSIFY, ("classes", "scores")),
        ((SCORES,), CLASSIFY, ("scores",)),
        ((CLASSES, spec("other", (None,))), CLASSIFY, ("classes",)),
        ((VALUES,), REGRESS, ("outputs",)),
    ],
)
def test_signatures_that_fit(outputs: Any, method: str, names: tuple[str, ...]) -> None:
    assert outputs_of(signature("s", EXAMPLES, outputs), method, False) == names
    assert outputs_of(signature("s", EXAMPLES, outputs, method), method, True) == names


@pytest.mark.parametrize(
    ("inputs", "outputs", "method", "code", "text"),
    [
        (EXAMPLES * 1 + (spec("b", None),), (SCORES,), CLASSIFY, Code.INVALID_ARGUMENT, "Expected one input Tensor."),
        ((), (VALUES,), REGRESS, Code.INVALID_ARGUMENT, "Expected one input Tensor."),
        (
            EXAMPLES,
            (SCORES, CLASSES, VALUES),
            CLASSIFY,
            Code.INVALID_ARGUMENT,
            "Expected one or two output Tensors, found 3",
        ),
        (EXAMPLES, (VALUES, SCORES), REGRESS, Code.INVALID_ARGUMENT, "Expected one output Tensor."),
        (
            (spec("examples", (None,), "string"),),
            (SCORES,),
            CLASSIFY,
            Code.FAILED_PRECONDITION,
            "No classification inputs found in SignatureDef: s takes examples: string [?] and gives scores: float32 "
            "[?, ?]",
        ),
        (
            EXAMPLES,
            (VALUES,),
            CLASSIFY,
            Code.FAILED_PRECONDITION,
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature '
            "was: s takes inputs: string [?] and gives outputs: float32 [?, 1]",
        ),
        (
            EXAMPLES,
            (SCORES,),
            REGRESS,
            Code.FAILED_PRECONDITION,
            "No regression outputs found in SignatureDef: s takes inputs: string [?] and gives scores: float32 [?, ?]",
        ),
    ],
)
def test_signatures_that_do_not_fit(inputs: Any, outputs: Any, method: str, code: Code, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        outputs_of(signature("s", inputs, outputs), method, False)
    assert (caught.value.code, caught.value.message) == (code, text)


def test_the_method_name_counts_only_where_asked() -> None:
    predict = signature("s", EXAMPLES, (VALUES,))
    assert outputs_of(predict, REGRESS, False) == ("outputs",)
    with pytest.raises(StatusError) as caught:
        outputs_of(predict, REGRESS, True)
    assert caught.value.message == (
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/predict"
    )


def test_classifications() -> None:
    both = {"classes": strings([b"cat", b"\xff"]), "scores": floats([0.25, 0.75])}
    assert to_classification(both, 1) == Classification([["cat", "\ufffd"]], [[0.25, 0.75]])
    assert to_classification({"scores": floats([1])}, 1) == Classification(None, [[1.0]])
    assert to_classification({"classes": strings([b"a"], [b"b"])}, 2) == Classification([["a"], ["b"]], None)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"classes": np.array([b"a"], object)}, "Expected Tensor shape: [batch_size num_classes] but got [1]"),
        ({"scores": floats([[1]])}, "Expected Tensor shape: [batch_size num_classes] but got [1,1,1]"),
        ({"classes": floats([1])}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"scores": np.zeros((1, 2))}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"scores": strings([b"a"])}, "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
        ({"scores": floats([1], [2])}, "Expected scores output batch size of 1. Got: 2"),
        (
            {"classes": strings([b"a", b"b"]), "scores": floats([1])},
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
    ],
)
def test_outputs_that_are_no_classification(outputs: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(StatusError) as caught:
        to_classification(outputs, 1)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)


def test_regressions() -> None:
    assert to_regression({"outputs": floats(1, 2)}, 2) == [1.0, 2.0]
    assert to_regression({"outputs": floats([1], [2])}, 2) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (floats([1, 2]), "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"),
        (np.float32(1), "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []"),
        (floats(1, 2), "Input batch size did not match output batch size: 1 vs. 2"),
        (np.zeros(1), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        (np.zeros(1, np.int64), "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
    ],
)
def test_outputs_that_are_no_regression(output: np.ndarray, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        to_regression({"outputs": np.asarray(output)}, 1)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)


SIGNATURES = {
    "serving_default": signature("serving_default", EXAMPLES, (SCORES, CLASSES)),
    "regress": signature("regress", EXAMPLES, (VALUES,)),
    "elsewhere": signature("elsewhere", (spec("inputs", (None,), "string"),), (VALUES,)),
}


def test_tasks_that_fit() -> None:
    wanted = check_tasks(SIGNATURES, [Task("regress", REGRESS), Task("", CLASSIFY)], False)
    assert list(wanted.items()) == [("regress", ("outputs",)), ("serving_default", ("classes", "scores"))]


def test_tasks_must_feed_the_same_tensor() -> None:
    other = signature("other", (spec("inputs", (None,), "string"),), (VALUES,))
    tensor = other.inputs["inputs"]
    object.__setattr__(tensor, "tensor", "other:0")
    with pytest.raises(StatusError, match="Input tensor must be the same for all Signatures"):
        check_tasks({**SIGNATURES, "other": other}, [Task("regress", REGRESS), Task("other", REGRESS)], False)


@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        (
            [Task("", CLASSIFY), Task("serving_default", CLASSIFY)],
            Code.INVALID_ARGUMENT,
            "Duplicate evaluation of signature: serving_default",
        ),
        ([Task("no", CLASSIFY)], Code.INVALID_ARGUMENT, "Requested signature not found in model graph: no"),
        (
            [Task("regress", "tensorflow/serving/predict")],
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        ([Task("regress", CLASSIFY)], Code.FAILED_PRECONDITION, "Expected classification signature outputs"),
    ],
)
def test_tasks_that_do_not_fit(tasks: list[Task], code: Code, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        check_tasks(SIGNATURES, tasks, False)
    assert caught.value.code is code
    assert caught.value.message.startswith(text)

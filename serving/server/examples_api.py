"""Classify, Regress and MultiInference: calls that feed tf.Examples to a signature.

Comes in: a signature, and the outputs that it gave. Goes out: which outputs to ask for, and the answer in the form of
the API. Pure functions with TensorFlow Serving's checks and texts, called by `serving.server.data_plane`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.server.status import Code, StatusError
from serving.signature import Signature

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
INPUT = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"


@dataclass(frozen=True)
class Classification:
    """Answer of Classify: for each example its classes, in the order of the model.

    Attributes:
        classes: Labels of each example, bytes that are no UTF-8 replaced; None if the signature gives none.
        scores: Scores of each example; None if the signature gives none.
    """

    classes: list[list[str]] | None
    scores: list[list[float]] | None


@dataclass(frozen=True)
class Task:
    """One task of MultiInference.

    Attributes:
        signature: Name of the signature; empty for `serving_default`.
        method: `tensorflow/serving/classify` or `tensorflow/serving/regress`.
    """

    signature: str
    method: str


def outputs_of(signature: Signature, method: str, check_method: bool) -> tuple[str, ...]:
    """Check that a signature can be called this way.

    Args:
        signature: The signature.
        method: `CLASSIFY` or `REGRESS`.
        check_method: Whether the method name of the signature must agree.

    Returns:
        Names of the outputs that the call needs.

    Raises:
        StatusError: The signature has other inputs or outputs than this kind of call needs.
    """
    kind: Literal["classification", "regression"] = "classification" if method == CLASSIFY else "regression"
    if check_method and signature.method_name != method:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}",
        )
    if len(signature.inputs) != 1:
        raise StatusError(Code.INVALID_ARGUMENT, "Expected one input Tensor.")
    if kind == "classification" and len(signature.outputs) not in (1, 2):
        raise StatusError(Code.INVALID_ARGUMENT, f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if kind == "regression" and len(signature.outputs) != 1:
        raise StatusError(Code.INVALID_ARGUMENT, "Expected one output Tensor.")
    if INPUT not in signature.inputs:
        raise StatusError(Code.FAILED_PRECONDITION, f"No {kind} inputs found in SignatureDef: {_described(signature)}")
    wanted = (_CLASSES, _SCORES) if kind == "classification" else (_OUTPUTS,)
    names = tuple(name for name in wanted if name in signature.outputs)
    if not names and kind == "classification":
        raise StatusError(
            Code.FAILED_PRECONDITION,
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature '
            f"was: {_described(signature)}",
        )
    if not names:
        raise StatusError(
            Code.FAILED_PRECONDITION, f"No regression outputs found in SignatureDef: {_described(signature)}"
        )
    return names


def to_classification(outputs: Mapping[str, np.ndarray], examples: int) -> Classification:
    """Turn the outputs of a signature into the answer of Classify.

    Raises:
        StatusError: INVALID_ARGUMENT, an output has another shape or type than [examples, classes] of strings or
            floats.
    """
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if classes is not None:
        _check_matrix(classes, examples, "classes", np.dtype(object), "DT_STRING")
    if scores is not None:
        _check_matrix(scores, examples, "scores", np.dtype(np.float32), "DT_FLOAT")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}",
        )
    return Classification(
        None if classes is None else [[_text(label) for label in row] for row in classes.tolist()],
        None if scores is None else scores.tolist(),
    )


def to_regression(outputs: Mapping[str, np.ndarray], examples: int) -> list[float]:
    """Turn the outputs of a signature into the answer of Regress: one value for each example.

    Raises:
        StatusError: INVALID_ARGUMENT, the output has another shape or type than [examples] or [examples, 1] of floats.
    """
    values = outputs[_OUTPUTS]
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}",
        )
    if values.shape[0] != examples:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Input batch size did not match output batch size: {examples} vs. {values.shape[0]}",
        )
    if values.dtype != np.float32:
        raise StatusError(Code.INVALID_ARGUMENT, f"Expected output Tensor of DT_FLOAT.  Got: {_data_type(values)}")
    return list(values.reshape(-1).tolist())


def check_tasks(
    signatures: Mapping[str, Signature], tasks: Sequence[Task], check_method: bool
) -> dict[str, tuple[str, ...]]:
    """Check the tasks of MultiInference.

    Returns:
        The outputs that each signature must give, by name of the signature, in the order of the tasks.

    Raises:
        StatusError: A signature is unknown or named twice, cannot be called this way, or the tasks do not share one
            input.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    tensor = None
    for task in tasks:
        name = task.signature or "serving_default"
        if name in wanted:
            raise StatusError(Code.INVALID_ARGUMENT, f"Duplicate evaluation of signature: {name}")
        if name not in signatures:
            raise StatusError(Code.INVALID_ARGUMENT, f"Requested signature not found in model graph: {name}")
        if task.method not in (CLASSIFY, REGRESS):
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method}")
        wanted[name] = outputs_of(signatures[name], task.method, check_method)
        fed = signatures[name].inputs[INPUT].tensor
        if tensor is not None and fed != tensor:
            raise StatusError(Code.INVALID_ARGUMENT, "Input tensor must be the same for all Signatures.")
        tensor = fed
    return wanted


def _check_matrix(array: np.ndarray, examples: int, name: str, dtype: np.dtype, wanted: str) -> None:
    if array.ndim != 2:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    if array.dtype != dtype:
        raise StatusError(Code.INVALID_ARGUMENT, f"Expected {name} Tensor of {wanted}. Got: {_data_type(array)}")
    if array.shape[0] != examples:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"Expected {name} output batch size of {examples}. Got: {array.shape[0]}"
        )


def _text(label: bytes | str) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else label


def _described(signature: Signature) -> str:
    """A signature as messages show it; the C++ server prints its whole proto, node names and all."""
    inputs = ", ".join(map(str, signature.inputs.values()))
    outputs = ", ".join(map(str, signature.outputs.values()))
    return f"{signature.name} takes {inputs or 'nothing'} and gives {outputs or 'nothing'}"


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _data_type(array: np.ndarray) -> str:
    names = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF", "object": "STRING"}
    return f"DT_{names.get(array.dtype.name, array.dtype.name.upper())}"

"""What a right answer of a classifier looks like, as plain checks on arrays.

Comes in: outputs of signatures. Goes out: nothing, or a `CheckError` that says in words what is wrong.
Called by `serving.infra_probe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.errors import ServingError

TOLERANCE = 1e-3  # Absolute, on probabilities: well above float32 rounding, far below any wrong preprocessing.


class CheckError(ServingError):
    """An answer is not what a classifier may answer."""


def check_prediction(outputs: Mapping[str, np.ndarray], rows: int) -> None:
    """Check the outputs of a predict signature.

    Args:
        outputs: `probabilities` float [rows, K], `class_id` integer [rows], `label` bytes [rows].
        rows: Number of examples that were fed.

    Raises:
        CheckError: An output is missing or has a wrong shape, a probability is not finite or outside [0, 1],
            a row does not sum to 1, a class is not the most probable one, or a label is empty.
    """
    _require(outputs, ("probabilities", "class_id", "label"))
    probabilities, class_id, label = outputs["probabilities"], outputs["class_id"], outputs["label"]
    check_distribution("probabilities", probabilities, rows)
    for name, values in (("class_id", class_id), ("label", label)):
        if values.shape != (rows,):
            raise CheckError(f"{name} has shape {list(values.shape)}, expected [{rows}]")
    if class_id.dtype.kind not in "iu":
        raise CheckError(f"class_id has dtype {class_id.dtype}, expected an integer")
    if class_id.min() < 0 or class_id.max() >= probabilities.shape[1]:
        raise CheckError(f"class_id {class_id.tolist()} is outside 0..{probabilities.shape[1] - 1}")
    chosen = probabilities[np.arange(rows), class_id]
    _first_bad_row(
        chosen < probabilities.max(axis=1) - TOLERANCE,
        lambda row: f"class_id {class_id[row]} has probability {chosen[row]:.4f}, not the largest of its row",
    )
    _first_bad_row(np.array([not item for item in label]), lambda _row: "the label is empty")


def check_classification(outputs: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray], rows: int) -> None:
    """Check the outputs of a classify signature, and that they agree with those of a predict signature.

    Args:
        outputs: `classes` bytes [rows, K] and `scores` float [rows, K]; the classes may come in any order.
        predicted: Checked outputs of a predict signature on the same examples.
        rows: Number of examples that were fed.

    Raises:
        CheckError: The outputs are malformed, or give other probabilities or labels than `predicted`.
    """
    _require(outputs, ("classes", "scores"))
    classes, scores = outputs["classes"], outputs["scores"]
    check_distribution("scores", scores, rows)
    if classes.shape != scores.shape:
        raise CheckError(f"classes has shape {list(classes.shape)}, scores {list(scores.shape)}; expected the same")
    check_same_probabilities("sorted scores", np.sort(scores), np.sort(predicted["probabilities"]))
    best = predicted["probabilities"].max(axis=1)
    for row in range(rows):
        label = predicted["label"][row]
        by_class = dict(zip(classes[row], scores[row], strict=True))
        if label not in by_class:
            raise CheckError(f"row {row}: the predicted label {_text(label)!r} is not among the classes")
        if abs(by_class[label] - best[row]) > TOLERANCE:
            raise CheckError(
                f"row {row}: classify gives {_text(label)!r} the score {by_class[label]:.4f}, predict {best[row]:.4f}"
            )


def check_distribution(name: str, values: np.ndarray, rows: int) -> None:
    """Check that each row is a distribution over at least two classes; float [rows, K]."""
    if values.ndim != 2 or values.shape[0] != rows or values.shape[1] < 2:
        raise CheckError(f"{name} has shape {list(values.shape)}, expected [{rows}, K] with K of 2 or more")
    if values.dtype.kind != "f":
        raise CheckError(f"{name} has dtype {values.dtype}, expected floats")
    _first_bad_row(~np.isfinite(values).all(axis=1), lambda row: f"{name} holds a value that is not finite")
    outside = (values < -TOLERANCE) | (values > 1 + TOLERANCE)
    _first_bad_row(outside.any(axis=1), lambda row: f"{name} holds a value outside [0, 1]: {values[row].tolist()}")
    sums = values.sum(axis=1, dtype=np.float64)
    _first_bad_row(np.abs(sums - 1) > TOLERANCE, lambda row: f"{name} sums to {sums[row]:.4f}, expected 1")


def check_same_probabilities(what: str, left: np.ndarray, right: np.ndarray) -> None:
    """Check that two arrays of probabilities are equal up to the tolerance."""
    if left.shape != right.shape:
        raise CheckError(f"{what}: shapes {list(left.shape)} and {list(right.shape)} differ")
    difference = float(np.abs(left.astype(np.float64) - right).max())
    if not difference <= TOLERANCE:
        raise CheckError(f"{what}: probabilities differ by {difference:.4f}, expected at most {TOLERANCE}")


def _require(outputs: Mapping[str, np.ndarray], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in outputs]
    if missing:
        raise CheckError(f"outputs {', '.join(missing)} are missing; the signature gives {', '.join(outputs)}")


def _first_bad_row(bad: np.ndarray, describe: Any) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise CheckError(f"row {row}: {describe(row)}")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

"""What a form calculates: parameters, multiply-adds, zeros, operations, and whether a GPU delegate takes it.

Comes in: the file or directory of a variant. Goes out: `Operations`, counted from the graph itself, nothing is
run. Called by `serving.measure.worker`; one module per format reads the graph.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError

_READERS = {
    ".tflite": "serving.measure.operations_tflite",
    ".onnx": "serving.measure.operations_onnx",
    ".xml": "serving.measure.operations_openvino",
    "": "serving.measure.operations_saved_model",
}


@dataclass(frozen=True)
class Operations:
    """What one image costs.

    Attributes:
        parameters: Numbers stored as kernels, biases and statistics. Converters fold batch normalization into the
            kernels before it, so that a converted form has a few less than its SavedModel.
        multiply_adds: Multiplications with addition in convolutions and matrix products for one image; None if a
            shape is not known before the model runs.
        sparsity: Share of zeros in the kernels (constants of two or more dimensions), in [0, 1].
        operations: Number of operations in the graph.
        flex_operations: How many of them only TensorFlow's Flex delegate can run; 0 for other formats.
        gpu_delegate_ok: Whether TensorFlow Lite's GPU delegate takes the whole graph; None for other formats.
        kinds: How often each operation occurs, by the name its format gives it.
    """

    parameters: int
    multiply_adds: int | None
    sparsity: float
    operations: int
    flex_operations: int = 0
    gpu_delegate_ok: bool | None = None
    kinds: dict[str, int] = field(default_factory=dict)


class Tally:
    """Adds up a graph while a reader walks over it."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.kinds: Counter[str] = Counter()
        self._parameters = 0
        self._kernel_values = 0
        self._kernel_zeros = 0
        self._multiply_adds: int | None = 0

    def constant(self, shape: tuple[int, ...], zeros: int) -> None:
        """Count a stored array; single numbers, such as a scale, are no parameters.

        Args:
            shape: Its dense shape.
            zeros: How many of its values stand for the number 0.
        """
        size = int(np.prod(shape, dtype=np.int64))
        if size <= 1:
            return
        self._parameters += size
        # A dimension of 1 does not make a bias a kernel.
        if sum(length > 1 for length in shape) > 1:
            self._kernel_values += size
            self._kernel_zeros += zeros

    def array(self, values: np.ndarray, zero: int | np.ndarray = 0) -> None:
        """Count a stored dense array whose number 0 is written as `zero`, broadcast to it."""
        self.constant(values.shape, int(np.count_nonzero(values == zero)))

    def product(self, *lengths: Any) -> None:
        """Count multiply-adds as the product of lengths; one that is unknown (None, -1) makes the sum unknown."""
        if any(length is None or int(length) < 0 for length in lengths):
            self._multiply_adds = None
        if self._multiply_adds is not None:
            self._multiply_adds += int(np.prod([int(length) for length in lengths], dtype=np.int64))

    def result(self, flex_operations: int = 0, gpu_delegate_ok: bool | None = None) -> Operations:
        """Give the sums."""
        return Operations(
            parameters=self._parameters,
            multiply_adds=self._multiply_adds,
            sparsity=self._kernel_zeros / self._kernel_values if self._kernel_values else 0.0,
            operations=sum(self.kinds.values()),
            flex_operations=flex_operations,
            gpu_delegate_ok=gpu_delegate_ok,
            kinds=dict(sorted(self.kinds.items())),
        )


def count_operations(path: str | os.PathLike[str]) -> Operations:
    """Count what a model calculates.

    Args:
        path: A `.tflite`, `.onnx` or OpenVINO `.xml` file, or the directory of a SavedModel.

    Returns:
        The figures of its first or chosen function.

    Raises:
        ServingError: The file is missing or damaged, of another kind, or the package that reads it is missing.
    """
    file = Path(path)
    if not file.exists():
        raise ServingError(f"{file} does not exist; expected the file or directory of a model.")
    suffix = "" if file.is_dir() else file.suffix
    if suffix not in _READERS or (suffix == "" and file.is_file()):
        raise ServingError(f"{file} is no model of a known form; expected .tflite, .onnx, .xml or a SavedModel.")
    try:
        operations: Operations = importlib.import_module(_READERS[suffix]).read(file)
    except ImportError as error:
        raise ServingError(
            f"{file} cannot be read without {error.name}; pip install 'tfx-slipway[convert]'."
        ) from error
    return operations

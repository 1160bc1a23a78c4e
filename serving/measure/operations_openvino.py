"""Counts what an OpenVINO model calculates.

Comes in: a `.xml` file with its `.bin`. Goes out: `Operations` of its graph. Called by
`serving.measure.operations`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.forms.openvino import runtime
from serving.measure.operations import Operations, Tally

# Not calculations: what comes in, what goes out, what is stored, and widening of what is stored.
_PASSIVE = frozenset({"Parameter", "Result", "Constant"})


def read(path: Path) -> Operations:
    """Count the graph of a model, for a batch of one image.

    Raises:
        ServingError: The model is damaged or a file of it is missing.
    """
    openvino = runtime("counting the operations of an OpenVINO model")
    try:
        model = openvino.Core().read_model(str(path))
        model.reshape({entry: openvino.PartialShape([1, *list(entry.partial_shape)[1:]]) for entry in model.inputs})
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1].strip()
        raise ServingError(f"{path} is no complete OpenVINO model: {cause}. Convert it again.") from error
    tally = Tally()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Constant":
            _constant(tally, node)
        if kind not in _PASSIVE:
            tally.kinds[kind] += 1
            _multiply_adds(tally, kind, node)
    return tally.result()


def _multiply_adds(tally: Tally, kind: str, node: Any) -> None:
    if kind in ("Convolution", "GroupConvolution"):
        # Kernel [out, in, height, width], or [groups, out, in, height, width] of each group.
        tally.product(*_shape(node.output(0))[2:], *_shape(node.input(1)))
    elif kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        tally.product(*_shape(node.input(0))[2:], *_shape(node.input(1)))
    elif kind == "MatMul":
        inner = _shape(node.input(0))[-2 if node.get_attributes().get("transpose_a") else -1]
        tally.product(*_shape(node.output(0))[1:], inner)


def _shape(port: Any) -> list[int | None]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return [None] * 4
    return [length.get_length() if length.is_static else None for length in shape]


def _constant(tally: Tally, node: Any) -> None:
    """Count stored floats; integers are shapes and axes, and the ranges of a FakeQuantize are no parameters."""
    readers = [(port.get_node().get_type_name(), port.get_index()) for port in node.output(0).get_target_inputs()]
    if readers and all(kind == "FakeQuantize" and index > 0 for kind, index in readers):
        return
    values = node.get_data() if hasattr(node, "get_data") else node.data
    if np.asarray(values).dtype.kind == "f":
        tally.array(np.asarray(values))

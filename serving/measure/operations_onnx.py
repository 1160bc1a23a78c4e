"""Counts what an ONNX file calculates.

Comes in: a `.onnx` file. Goes out: `Operations` of its graph. Called by `serving.measure.operations`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.measure.operations import Operations, Tally

Shape = tuple[int | None, ...]


def read(path: Path) -> Operations:
    """Count the graph of a file, for a batch of one image.

    Raises:
        ServingError: The file is no complete ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
        for entry in model.graph.input:
            # Shapes behind an open batch would stay unknown.
            entry.type.tensor_type.shape.dim[0].dim_value = 1
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (DecodeError, ValueError, IndexError, RuntimeError) as error:
        raise ServingError(
            f"{path} ({path.stat().st_size:,} bytes) is a damaged or truncated ONNX model: {error}. Convert it again."
        ) from error
    if not graph.node:
        raise ServingError(f"{path} ({path.stat().st_size:,} bytes) holds no operations; expected an ONNX model.")
    stored = _stored(graph)
    shapes = _shapes(graph, stored)
    tally = Tally()
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        tally.kinds[node.op_type] += 1
        _multiply_adds(tally, node, shapes)
    _constants(tally, graph, stored)
    return tally.result()


def _stored(graph: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    stored = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    stored[node.output[0]] = numpy_helper.to_array(attribute.t)
    return stored


def _shapes(graph: Any, stored: dict[str, np.ndarray]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {name: values.shape for name, values in stored.items()}
    for entry in (*graph.input, *graph.output, *graph.value_info):
        dimensions = entry.type.tensor_type.shape.dim
        shapes[entry.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dimensions)
    return shapes


def _multiply_adds(tally: Tally, node: Any, shapes: dict[str, Shape]) -> None:
    def shape(name: str, rank: int) -> Shape:
        return shapes.get(name) or (None,) * rank

    if node.op_type in ("Conv", "ConvInteger"):
        # Kernel [out, in / groups, height, width], output [batch, out, height, width].
        tally.product(*shape(node.output[0], 4)[2:], *shape(node.input[1], 4))
    elif node.op_type == "QLinearConv":
        tally.product(*shape(node.output[0], 4)[2:], *shape(node.input[3], 4))
    elif node.op_type == "ConvTranspose":
        # Kernel [in, out / groups, height, width], image [batch, in, height, width].
        tally.product(*shape(node.input[0], 4)[2:], *shape(node.input[1], 4))
    elif node.op_type in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"):
        transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
        inner = shape(node.input[0], 2)[-2 if transposed else -1]
        tally.product(*shape(node.output[0], 2)[1:], inner)


def _constants(tally: Tally, graph: Any, stored: dict[str, np.ndarray]) -> None:
    """Count stored numbers; scales and zero points describe them and are no parameters themselves."""
    zero_points: dict[str, np.ndarray] = {}
    describing: set[str] = set()
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            describing.update(node.input[1:])
            point = stored.get(node.input[2]) if len(node.input) > 2 else None
            values = stored.get(node.input[0])
            if values is not None:
                zero_points[node.input[0]] = _aligned(point, node, values.ndim)
    for name, values in stored.items():
        if name in describing:
            continue
        if name in zero_points:
            tally.array(values, zero_points[name])
        elif values.dtype.kind == "f":
            tally.array(values)


def _aligned(point: np.ndarray | None, node: Any, rank: int) -> np.ndarray:
    """Zero points in a shape that broadcasts to the values: one for all, or one per index of an axis."""
    if point is None:
        return np.zeros((), np.int64)
    if not point.ndim:
        return point.astype(np.int64)
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1) % rank
    return point.astype(np.int64).reshape([-1 if position == axis else 1 for position in range(rank)])

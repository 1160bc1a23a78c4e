"""Counts what a SavedModel calculates.

Comes in: the directory of a SavedModel. Goes out: `Operations` of the function from its image to its scores.
Called by `serving.measure.operations`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.convert.graphs import needed_for
from serving.convert.selection import Choice, choose
from serving.errors import ServingError
from serving.measure.operations import Operations, Tally
from serving.saved_model import SessionModel

# Neither calculations nor anything that costs time.
_PASSIVE = frozenset({"Const", "Placeholder", "Identity", "IdentityN", "NoOp"})
_OPAQUE = "TRTEngineOp"


def read(path: Path) -> Operations:
    """Count the function from the image to the scores, for a batch of one image.

    Raises:
        ServingError: The directory holds no SavedModel of an image classifier, or its variables cannot be frozen.
    """
    with SessionModel.load(path) as model:
        choice = choose(model.signatures)
    graph = _frozen(path, choice)
    tally = Tally()
    for operation in graph.get_operations():
        if operation.type not in _PASSIVE:
            tally.kinds[operation.type] += 1
            _multiply_adds(tally, operation)
        if operation.type == "Const":
            _constant(tally, operation)
    return tally.result()


def _frozen(path: Path, choice: Choice) -> Any:
    """The graph that the scores depend on, variables as constants, shapes known for one image."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        # The name keeps the variables alive, to which the function holds weak references only.
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[choice.signature]
        # Signatures return their outputs flattened in the order of the names.
        place = sorted(function.structured_outputs).index(choice.output)
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
        graph_def = needed_for(frozen.graph.as_graph_def(), frozen.outputs[place].name)
        for node in graph_def.node:
            node.attr.pop("_output_shapes", None)
            if node.op == "Placeholder" and node.name == frozen.inputs[0].op.name:
                dimensions = node.attr["shape"].shape
                dimensions.Clear()
                for size in (choice.batch or 1, *choice.shape):
                    dimensions.dim.add(size=size)
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, RuntimeError, tf.errors.OpError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ServingError(f"{path}: signature {choice.signature!r} cannot be frozen: {first[:300]}.") from error
    return graph


def _multiply_adds(tally: Tally, operation: Any) -> None:
    def shape(tensor: Any) -> list[int | None]:
        return [None] * 4 if tensor.shape.rank is None else list(tensor.shape.as_list())

    kind, inputs, outputs = operation.type, operation.inputs, operation.outputs
    if kind in ("Conv2D", "_FusedConv2D"):
        tally.product(*_area(operation, shape(outputs[0])), *shape(inputs[1]))
    elif kind == "DepthwiseConv2dNative":
        # Filter [height, width, in, multiplier].
        tally.product(*_area(operation, shape(outputs[0])), *shape(inputs[1]))
    elif kind == "Conv2DBackpropInput":
        # Inputs: output shape, filter [height, width, out, in], image [batch, height, width, in].
        tally.product(*_area(operation, shape(inputs[2])), *shape(inputs[1]))
    elif kind in ("MatMul", "_FusedMatMul"):
        inner = shape(inputs[0])[0 if operation.get_attr("transpose_a") else 1]
        tally.product(*shape(outputs[0])[1:], inner)
    elif kind in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        inner = shape(inputs[0])[-2 if operation.get_attr("adj_x") else -1]
        tally.product(*shape(outputs[0])[1:], inner)
    elif kind == _OPAQUE:
        tally.product(None)


def _area(operation: Any, image: list[int | None]) -> list[int | None]:
    return image[2:4] if operation.get_attr("data_format") == b"NCHW" else image[1:3]


def _constant(tally: Tally, operation: Any) -> None:
    """Count stored floats; integers are shapes and axes, and the ranges of fake quantization are no parameters."""
    from tensorflow.python.framework import tensor_util

    consumers = operation.outputs[0].consumers()
    while len(consumers) == 1 and consumers[0].type in _PASSIVE and consumers[0].outputs:
        consumers = consumers[0].outputs[0].consumers()
    if consumers and all(_is_range(consumer, operation) for consumer in consumers):
        return
    values = tensor_util.MakeNdarray(operation.get_attr("value"))
    if values.dtype.kind == "f":
        tally.array(values)


def _is_range(consumer: Any, operation: Any) -> bool:
    if not consumer.type.startswith("FakeQuantWithMinMaxVars"):
        return False
    source = consumer.inputs[0].op
    while source.type in ("Identity", "IdentityN"):
        source = source.inputs[0].op
    return bool(source is not operation)

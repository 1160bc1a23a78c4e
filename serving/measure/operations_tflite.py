"""Counts what a TensorFlow Lite file calculates.

Comes in: a `.tflite` file. Goes out: `Operations` of its first subgraph. Called by `serving.measure.operations`.
"""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.measure.operations import Operations, Tally

_DTYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}
_BIAS_DTYPES = {"INT32": np.int32, "INT64": np.int64}


def read(path: Path) -> Operations:
    """Count the first subgraph of a file.

    Raises:
        ServingError: The file is no complete TensorFlow Lite model.
    """
    content = path.read_bytes()
    model = _parse(path, content)
    try:
        names = _operator_names(model)
        graph = model.subgraphs[0]
        tally = Tally()
        for operator in graph.operators:
            name = names[operator.opcodeIndex]
            tally.kinds[name] += 1
            _multiply_adds(tally, name, operator, graph.tensors)
        _constants(tally, model, graph)
    except (IndexError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, content, error) from error
    flex = sum(count for name, count in tally.kinds.items() if name.startswith("Flex"))
    return tally.result(flex_operations=flex, gpu_delegate_ok=_gpu_delegate_ok(content))


def _parse(path: Path, content: bytes) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    if len(content) < 8 or content[4:8] != b"TFL3":
        raise ServingError(
            f"{path} ({len(content):,} bytes) is no TensorFlow Lite model: the mark TFL3 is missing. Convert it again."
        )
    try:
        return schema.ModelT.InitFromPackedBuf(content)
    except (struct.error, IndexError, TypeError, ValueError, MemoryError) as error:
        raise _damaged(path, content, error) from error


def _damaged(path: Path, content: bytes, error: Exception) -> ServingError:
    return ServingError(
        f"{path} ({len(content):,} bytes) is a damaged or truncated TensorFlow Lite model: {error}. Convert it again."
    )


def _operator_names(model: Any) -> list[str]:
    from tensorflow.lite.python import schema_py_generated as schema

    builtin = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    names = []
    for entry in model.operatorCodes:
        # Old files keep the code in the narrow field, newer ones beyond 127 in the wide one.
        code = max(entry.builtinCode, entry.deprecatedBuiltinCode)
        custom = entry.customCode
        names.append(custom.decode("utf-8", "replace") if custom else builtin.get(code, f"operator {code}"))
    return names


def _multiply_adds(tally: Tally, name: str, operator: Any, tensors: Any) -> None:
    def shape(index: int) -> list[int]:
        return [int(length) for length in _or_empty(tensors[index].shape)]

    if name == "CONV_2D":
        # Filter [out, height, width, in / groups], output [batch, height, width, out].
        tally.product(*shape(operator.outputs[0])[1:3], *shape(operator.inputs[1]))
    elif name == "DEPTHWISE_CONV_2D":
        # Filter [1, height, width, out].
        tally.product(*shape(operator.outputs[0])[1:3], *shape(operator.inputs[1]))
    elif name == "TRANSPOSE_CONV":
        # Inputs: output shape, filter [out, height, width, in], image [batch, height, width, in].
        tally.product(*shape(operator.inputs[2])[1:3], *shape(operator.inputs[1]))
    elif name == "FULLY_CONNECTED":
        # Filter [out, in]; the output may have more dimensions than [batch, out].
        rows = shape(operator.outputs[0])[1:-1]
        tally.product(*rows, *shape(operator.inputs[1]))
    elif name == "BATCH_MATMUL":
        options = operator.builtinOptions
        inner = shape(operator.inputs[0])[-2 if getattr(options, "adjX", False) else -1]
        tally.product(*shape(operator.outputs[0])[1:], inner)


def _constants(tally: Tally, model: Any, graph: Any) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    types = {code: name for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
    used = {int(index) for operator in graph.operators for index in _or_empty(operator.inputs)}
    seen: set[int] = set()
    for index in sorted(used - {-1}):
        tensor = graph.tensors[index]
        data = model.buffers[tensor.buffer].data
        if data is None or not len(data) or tensor.buffer in seen:
            continue
        quantization = tensor.quantization
        scaled = quantization is not None and len(_or_empty(quantization.scale)) > 0
        kind = types.get(tensor.type, "")
        # Integers without a scale are shapes and axes.
        dtype = _DTYPES.get(kind) if scaled or kind.startswith("FLOAT") else None
        dtype = dtype or (_BIAS_DTYPES.get(kind) if scaled else None)
        if dtype is None:
            continue
        seen.add(tensor.buffer)
        _constant(tally, tensor, np.frombuffer(bytes(bytearray(data)), dtype))


def _constant(tally: Tally, tensor: Any, stored: np.ndarray) -> None:
    shape = tuple(int(length) for length in _or_empty(tensor.shape))
    if tensor.sparsity is not None:
        # Only blocks that are not all zero are stored.
        size = int(np.prod(shape, dtype=np.int64))
        tally.constant(shape, size - int(np.count_nonzero(stored)))
        return
    zero: int | np.ndarray = 0
    points = np.asarray(_or_empty(tensor.quantization.zeroPoint if tensor.quantization else None), np.int64)
    if len(points) == 1:
        zero = int(points[0])
    elif len(points):
        axis = tensor.quantization.quantizedDimension
        zero = points.reshape([-1 if position == axis else 1 for position in range(len(shape))])
    tally.array(stored.reshape(shape), zero)


def _or_empty(values: Any) -> Any:
    return () if values is None else values


def _with_folded_weights(content: bytes) -> bytes:
    """Return a file without operations that only turn 16-bit constants into 32-bit ones.

    The GPU delegate takes such weights as they are; its analyzer doesn't know that and would refuse every operation
    that reads one.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    folded = False
    for graph in model.subgraphs:
        kept = []
        for operator in graph.operators:
            source = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            data = model.buffers[source.buffer].data if source is not None else None
            half = source is not None and source.type == schema.TensorType.FLOAT16
            if codes[operator.opcodeIndex] != schema.BuiltinOperator.DEQUANTIZE or not half or data is None:
                kept.append(operator)
                continue
            buffer = schema.BufferT()
            buffer.data = np.asarray(data, np.uint8).view(np.float16).astype(np.float32).view(np.uint8)
            model.buffers.append(buffer)
            graph.tensors[operator.outputs[0]].buffer = len(model.buffers) - 1
            folded = True
        graph.operators = kept
    if not folded:
        return content
    builder = flatbuffers.Builder(2 * len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _gpu_delegate_ok(content: bytes) -> bool:
    """Ask TensorFlow Lite's analyzer, which only prints."""
    import tensorflow as tf

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        tf.lite.experimental.Analyzer.analyze(model_content=_with_folded_weights(content), gpu_compatibility=True)
    text = printed.getvalue()
    return "GPU COMPATIBILITY WARNING" not in text and "looks compatible with GPU delegate" in text

"""Tensors on the wire and numpy arrays.

Comes in: `TensorProto` messages of `serving.wire.messages`, or arrays. Goes out: the other. Called by the gRPC front,
the request log and the clients. Follows `Tensor::FromProto` and `Tensor::AsProtoField` of TensorFlow.

No Python loop runs over the numbers: they are bytes of the message, which numpy reads as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from serving.wire import varints
from serving.wire.dtypes import STRING, Dtype, dtype_of_array, dtype_of_number
from serving.wire.messages import TypedTensorProto

# A tensor whose values repeat is small on the wire and may be of any size in memory.
MAX_REPEATED_BYTES = 2**30
_HALF_FIELD = "half_val"
_DIRECT_FIELDS = frozenset({"float_val", "double_val", "scomplex_val", "dcomplex_val"})


def read_tensor(proto: Any) -> np.ndarray:
    """Read a tensor.

    Args:
        proto: `TensorProto`; its values in `tensor_content` or in the field of its type. Fewer values than elements
            repeat the last one, as in TensorFlow.

    Returns:
        The array, read-only where it shares the memory of the message; bytes in an array of dtype object for strings.

    Raises:
        ValueError: The type is unknown, a size is negative or unknown, or the bytes do not fit the shape.
    """
    dtype = dtype_of_number(proto.dtype)
    shape_proto = proto.tensor_shape
    shape = [dim.size for dim in shape_proto.dim]
    if shape_proto.unknown_rank or (shape and min(shape) < 0):
        raise ValueError(f"received a tensor of shape {shape or 'unknown'}; expected the size of every dimension.")
    if dtype is STRING:
        return _read_strings(proto, shape)
    content = proto.tensor_content
    if not content:
        return _read_field(proto, dtype, shape)
    count = math.prod(shape)
    if len(content) != count * dtype.numpy.itemsize:
        raise ValueError(
            f"received {len(content)} bytes of tensor_content for {dtype.name} {shape}; "
            f"expected {count * dtype.numpy.itemsize}."
        )
    return np.frombuffer(content, dtype.numpy).reshape(shape)


def _read_strings(proto: Any, shape: list[int]) -> np.ndarray:
    values = list(proto.string_val)
    count = math.prod(shape)
    if proto.tensor_content and not values:
        values = _split_strings(proto.tensor_content, count)
    if len(values) < count:
        _check_repeated(count, 8)
        values.extend([values[-1] if values else b""] * (count - len(values)))
    array = np.empty(count, dtype=object)
    array[:] = values[:count]
    return array.reshape(shape)


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Strings in `tensor_content`: first the lengths of all as varints, then their bytes."""
    position = 0
    for _ in range(count):
        while position < len(content) and content[position] >= 0x80:
            position += 1
        position += 1
    if position > len(content):
        raise ValueError(f"received {len(content)} bytes of tensor_content for {count} strings; it is cut off.")
    lengths = varints.decode(content[:position]).tolist()
    if sum(lengths) != len(content) - position:
        raise ValueError(f"received {len(content)} bytes of tensor_content for strings of {sum(lengths)} bytes.")
    found = []
    for length in lengths:
        found.append(content[position : position + length])
        position += length
    return found


def _read_field(proto: Any, dtype: Dtype, shape: list[int]) -> np.ndarray:
    count = math.prod(shape)
    values = _packed_values(proto, dtype)
    if values.size < count:
        unpacked = _unpacked_values(proto, dtype)
        values = unpacked if unpacked.size > values.size else values
    if values.size < count:
        _check_repeated(count, dtype.numpy.itemsize)
        filled = np.empty(count, dtype.numpy)
        filled[: values.size] = values
        filled[values.size :] = values[-1] if values.size else np.zeros((), dtype.numpy)
        values = filled
    return values[:count].reshape(shape)


def _packed_values(proto: Any, dtype: Dtype) -> np.ndarray:
    chunks = getattr(proto, dtype.field)
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if dtype.field in _DIRECT_FIELDS:
        if len(data) % dtype.numpy.itemsize:
            raise ValueError(
                f"received {len(data)} bytes of {dtype.field}; expected a multiple of the size of its type."
            )
        return np.frombuffer(data, dtype.numpy)
    return _narrowed(varints.decode(data), dtype)


def _unpacked_values(proto: Any, dtype: Dtype) -> np.ndarray:
    """Values that some writer did not pack; the message kept them as unknown fields."""
    values = getattr(TypedTensorProto.FromString(proto.SerializeToString()), dtype.field)
    if dtype.field not in _DIRECT_FIELDS:
        return _narrowed(
            np.array(values, np.uint64 if dtype.field == "uint64_val" else np.int64).view(np.uint64), dtype
        )
    if dtype.numpy.kind != "c":
        return np.array(values, dtype.numpy)
    # Real and imaginary parts in turn.
    parts = np.array(values, np.dtype(f"<f{dtype.numpy.itemsize // 2}"))
    return parts[: parts.size // 2 * 2].view(dtype.numpy)


def _narrowed(values: np.ndarray, dtype: Dtype) -> np.ndarray:
    if dtype.field == _HALF_FIELD:
        return values.astype(np.uint16).view(dtype.numpy)
    return values.astype(dtype.numpy)


def _check_repeated(count: int, item_bytes: int) -> None:
    if count * item_bytes > MAX_REPEATED_BYTES:
        raise ValueError(
            f"received fewer values than the {count} elements of the tensor; repeating the last one would take "
            f"{count * item_bytes:,} bytes, more than {MAX_REPEATED_BYTES:,}."
        )


def write_tensor(array: np.ndarray, proto: Any, *, content: bool) -> None:
    """Fill an empty message with an array.

    Args:
        array: Values of a type that `serving.wire.dtypes` knows; bytes or str for strings.
        proto: The `TensorProto` to fill.
        content: Write numbers to `tensor_content` instead of the field of their type. Strings always go to
            `string_val`.

    Raises:
        ValueError: TensorFlow has no such type, or an item of an array of objects is neither bytes nor str.
    """
    dtype = dtype_of_array(array)
    proto.dtype = dtype.number
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add().size = size
    if not array.shape:
        # TensorFlow writes an empty shape for a scalar too.
        proto.tensor_shape.SetInParent()
    if dtype is STRING:
        proto.string_val.extend(map(_as_bytes, array.ravel().tolist()))
    elif array.size == 0:
        return
    elif content:
        proto.tensor_content = array.astype(dtype.numpy, copy=False).tobytes()
    else:
        getattr(proto, dtype.field).append(_packed(array, dtype))


def _packed(array: np.ndarray, dtype: Dtype) -> bytes:
    little = array.astype(dtype.numpy, copy=False)
    if dtype.field in _DIRECT_FIELDS:
        return little.tobytes()
    flat = np.ascontiguousarray(little).reshape(-1)
    return varints.encode(flat.view(np.uint16) if dtype.field == _HALF_FIELD else flat)


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise ValueError(f"received an item of type {type(item).__name__} in an array of strings; expected bytes or str.")

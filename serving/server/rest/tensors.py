"""JSON values into arrays, by the rules of TensorFlow Serving.

Comes in: one parsed JSON value and the type of the input it is for. Goes out: a numpy array. Called by
`serving.server.rest.requests`.

Lists give the shape; a value must stand at the deepest level. Integers must be written as integers; decimals take
integers that a float can hold; strings and `{"b64": ...}` give bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.server.rest import base64_text, json_text
from serving.server.rest.json_text import JsonObject
from serving.server.status import Code, StatusError

MAX_RANK = 32  # of a numpy array
NAMES = {"float32": "float", "float64": "double", "float16": "half"}
# Integers written for a decimal must be exact in it: 24 and 53 bits of mantissa.
MAX_WHOLE = {"float32": 2**24 - 1, "float64": 2**53 - 1}
MAX_FLOAT32 = float(np.finfo(np.float32).max)
# Narrow integers travel as 32-bit ones and are cut off afterwards, as the real server does it.
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "int16": (-(2**31), 2**31 - 1),
    "int8": (-(2**31), 2**31 - 1),
    "uint8": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


def is_base64(value: Any) -> bool:
    """Whether a value is an object with the one key `b64` and a string, which stands for bytes."""
    return isinstance(value, JsonObject) and value.members == 1 and type(value.get("b64")) is str


def decode_base64(value: Any) -> bytes:
    """Bytes of a `{"b64": ...}` object.

    Raises:
        StatusError: INVALID_ARGUMENT, it is another object, or its text is no base64.
    """
    if not is_base64(value):
        raise json_text.format_error(value, "not formatted correctly for base64 data")
    data = base64_text.decode(value["b64"].encode("utf-8", "surrogateescape"))
    if data is None:
        raise StatusError(Code.INVALID_ARGUMENT, "Unable to base64 decode")
    return data


def flat_values(value: Any, dtype: str) -> tuple[list[Any], tuple[int, ...]]:
    """Check a value and lay it flat.

    Args:
        value: Parsed JSON, lists nested to any depth.
        dtype: TensorFlow's name of the type.

    Returns:
        Bytes, numbers or booleans in row-major order, and the shape.

    Raises:
        StatusError: INVALID_ARGUMENT for ragged lists and wrong types, UNIMPLEMENTED for types that JSON lacks.
    """
    shape = _shape(value)
    flat = _flatten(value, shape)
    if flat is not None:
        checked = _checked_at_once(flat, dtype)
        if checked is not None:
            return checked, shape
    if len(shape) > MAX_RANK:
        raise StatusError(Code.INVALID_ARGUMENT, f"Lists are nested {len(shape)} deep; at most {MAX_RANK} are allowed.")
    result: list[Any] = []
    _walk(value, 0, shape, _converter(dtype), result)
    return result, shape


def to_array(flat: list[Any], shape: tuple[int, ...], numpy_dtype: np.dtype[Any]) -> np.ndarray:
    """Array of checked values; integers too large for a narrow type are cut off as in C++."""
    if numpy_dtype.kind == "O":
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array.reshape(shape)
    if numpy_dtype.kind in "iu" and numpy_dtype.itemsize < 4:
        return np.array(flat, dtype=np.int32).astype(numpy_dtype).reshape(shape)
    return np.array(flat, dtype=numpy_dtype).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    sizes = []
    while type(value) is list:
        sizes.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(sizes)


def _flatten(value: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """Values of the deepest level, lists among them if some go deeper; None if the lists are ragged."""
    if len(shape) > MAX_RANK:
        return None
    if not shape:
        return [value]
    level = value
    for size in shape[1:]:
        if not all(type(item) is list and len(item) == size for item in level):
            return None
        level = [inner for item in level for inner in item]
    return level


def _checked_at_once(flat: list[Any], dtype: str) -> list[Any] | None:
    """The values ready for an array, or None if one of them needs a closer look."""
    kinds = set(map(type, flat))
    if dtype in MAX_WHOLE and kinds <= {float, int}:
        return flat if _decimals_fit(flat, dtype, int in kinds) else None
    if dtype in INTEGERS and kinds <= {int}:
        low, high = INTEGERS[dtype]
        return flat if not flat or (min(flat) >= low and max(flat) <= high) else None
    if dtype == "bool" and kinds <= {bool}:
        return flat
    if dtype == "string" and kinds <= {str}:
        return [item.encode("utf-8", "surrogateescape") for item in flat]
    return None


def _decimals_fit(flat: list[Any], dtype: str, has_integers: bool) -> bool:
    largest = MAX_WHOLE[dtype] if has_integers else MAX_FLOAT32 if dtype == "float32" else math.inf
    # NaN makes every comparison false and so takes the closer look, which accepts it.
    return not flat or (-largest <= min(flat) and max(flat) <= largest)


def _walk(value: Any, level: int, shape: tuple[int, ...], convert: Callable[[Any], Any], result: list[Any]) -> None:
    """Check value by value in the order of the text, so that the first fault is the one reported."""
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"JSON Value: {json_text.show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}",
            )
        result.append(convert(value))
        return
    if level >= rank:
        raise StatusError(Code.INVALID_ARGUMENT, f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}",
        )
    for item in value:
        _walk(item, level + 1, shape, convert, result)


def _converter(dtype: str) -> Callable[[Any], Any]:
    if dtype in MAX_WHOLE:
        return lambda value: _decimal(value, dtype)
    if dtype in INTEGERS:
        return lambda value: _integer(value, dtype)
    if dtype == "string":
        return _string
    if dtype == "bool":
        return lambda value: value if type(value) is bool else _wrong_type(value, dtype)
    return lambda value: _unimplemented(value, dtype)


def _decimal(value: Any, dtype: str) -> float:
    if type(value) not in (int, float):
        _wrong_type(value, dtype)
    if type(value) is int:
        exact = abs(value) <= MAX_WHOLE[dtype]
    else:
        exact = dtype == "float64" or not math.isfinite(value) or abs(value) <= MAX_FLOAT32
    if not exact:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Cannot convert JSON value: {json_text.show(value)} to {NAMES[dtype]} without loss of precision.",
        )
    return float(value)


def _integer(value: Any, dtype: str) -> int:
    low, high = INTEGERS[dtype]
    if type(value) is not int or not low <= value <= high:
        _wrong_type(value, dtype)
    return int(value)


def _string(value: Any) -> bytes:
    if isinstance(value, JsonObject):
        return decode_base64(value)
    if type(value) is not str:
        _wrong_type(value, "string")
    return bytes(value.encode("utf-8", "surrogateescape"))


def _wrong_type(value: Any, dtype: str) -> Any:
    raise json_text.format_error(
        value, f"Type: {json_text.kind_of(value)} is not of expected type: {NAMES.get(dtype, dtype)}"
    )


def _unimplemented(value: Any, dtype: str) -> Any:
    if isinstance(value, JsonObject):
        _wrong_type(value, dtype)
    raise StatusError(
        Code.UNIMPLEMENTED, f"Conversion of JSON Value: {json_text.show(value)} to type: {NAMES.get(dtype, dtype)}"
    )

"""Element types of tensors: their number on the wire, TensorFlow's name and numpy's type.

Comes in: one of the three. Goes out: `Dtype`, which knows all of them. Called by the tensor codec and the clients.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Dtype:
    """One element type.

    Attributes:
        number: Value of TensorFlow's `DataType` enum.
        name: TensorFlow's name, such as `float` of `DT_FLOAT` in lower case; `string` stands for bytes.
        numpy: Type of the numpy array; object for `string`.
        field: Field of `TensorProto` that holds the values when they are not in `tensor_content`.
    """

    number: int
    name: str
    numpy: np.dtype[Any]
    field: str

    @property
    def enum_name(self) -> str:
        """Name in the `DataType` enum, such as `DT_FLOAT`."""
        return f"DT_{_ENUM_NAMES.get(self.name, self.name).upper()}"


STRING = Dtype(7, "string", np.dtype(object), "string_val")

_ENUM_NAMES = {"float32": "float", "float64": "double", "float16": "half"}

_PLAIN = (
    Dtype(1, "float32", np.dtype("<f4"), "float_val"),
    Dtype(2, "float64", np.dtype("<f8"), "double_val"),
    Dtype(3, "int32", np.dtype("<i4"), "int_val"),
    Dtype(4, "uint8", np.dtype("u1"), "int_val"),
    Dtype(5, "int16", np.dtype("<i2"), "int_val"),
    Dtype(6, "int8", np.dtype("i1"), "int_val"),
    STRING,
    Dtype(8, "complex64", np.dtype("<c8"), "scomplex_val"),
    Dtype(9, "int64", np.dtype("<i8"), "int64_val"),
    Dtype(10, "bool", np.dtype("?"), "bool_val"),
    Dtype(17, "uint16", np.dtype("<u2"), "int_val"),
    Dtype(18, "complex128", np.dtype("<c16"), "dcomplex_val"),
    Dtype(19, "float16", np.dtype("<f2"), "half_val"),
    Dtype(22, "uint32", np.dtype("<u4"), "uint32_val"),
    Dtype(23, "uint64", np.dtype("<u8"), "uint64_val"),
)
_BFLOAT16_NUMBER = 14


@functools.cache
def _by_number() -> dict[int, Dtype]:
    known = {dtype.number: dtype for dtype in _PLAIN}
    try:
        import ml_dtypes
    except ImportError:
        # numpy has no bfloat16 of its own; without the package such tensors are refused like any unknown type.
        return known
    bfloat16 = Dtype(_BFLOAT16_NUMBER, "bfloat16", np.dtype(ml_dtypes.bfloat16), "half_val")
    return {**known, bfloat16.number: bfloat16}


@functools.cache
def _by_numpy() -> dict[np.dtype[Any], Dtype]:
    return {dtype.numpy: dtype for dtype in _by_number().values()}


@functools.cache
def _by_enum_name() -> dict[str, Dtype]:
    return {dtype.enum_name: dtype for dtype in _by_number().values()}


def dtype_of_number(number: int) -> Dtype:
    """Look up a value of the `DataType` enum.

    Raises:
        ValueError: The type is unknown here, such as DT_RESOURCE, DT_VARIANT or a quantized one.
    """
    found = _by_number().get(number)
    if found is None:
        raise ValueError(f"received a tensor of DataType {number}; expected one of {sorted(_by_number())}.")
    return found


def dtype_of_array(array: np.ndarray) -> Dtype:
    """Look up the type of a numpy array; fixed-width bytes and text count as strings.

    Raises:
        ValueError: TensorFlow has no such type.
    """
    if array.dtype.kind in "OSU":
        return STRING
    found = _by_numpy().get(array.dtype.newbyteorder("<"))
    if found is None:
        valid = ", ".join(dtype.name for dtype in _by_number().values())
        raise ValueError(f"received an array of {array.dtype}; expected one of {valid}. Convert it with .astype(...).")
    return found


def is_enum_name(name: str) -> bool:
    """Whether a name of the `DataType` enum is known here."""
    return name in _by_enum_name()


def dtype_of_enum_name(name: str) -> Dtype:
    """Look up a name of the `DataType` enum, such as `DT_FLOAT`.

    Raises:
        ValueError: The type is unknown here.
    """
    found = _by_enum_name().get(name)
    if found is None:
        raise ValueError(f"received the data type {name!r}; expected one of {', '.join(_by_enum_name())}.")
    return found

"""What a `.tflite` file says about itself, read without TensorFlow.

Comes in: the bytes of a file, from anywhere. Goes out: its signatures with dtypes, shapes and quantization,
its custom operations, and the files packed with it. Called by whoever builds or checks a bundle.

Field numbers: `tensorflow/compiler/mlir/lite/schema/schema.fbs`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from serving.edge.flatbuffer import Table
from serving.errors import BundleError

IDENTIFIER = b"TFL3"
METADATA_NAME = "TFLITE_METADATA"
_CUSTOM = 32  # BuiltinOperator.CUSTOM
_MAX_PACKED = 16 * 1024 * 1024
_MAX_PACKED_FILES = 64


class ModelField(IntEnum):
    """Fields of the outermost table."""

    VERSION = 0
    OPERATOR_CODES = 1
    SUBGRAPHS = 2
    DESCRIPTION = 3
    BUFFERS = 4
    METADATA_BUFFER = 5
    METADATA = 6
    SIGNATURE_DEFS = 7


_DTYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
    "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16",
)  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One input or output.

    Attributes:
        name: Name in the signature.
        dtype: Such as `uint8`.
        shape: Sizes; -1 where any size is possible.
        scale: Step of a quantized tensor: value = scale * (stored - zero_point); None if it is not quantized.
        zero_point: Stored number that stands for 0; None if it is not quantized.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class SignatureInfo:
    """One function of the file, by the names that callers use."""

    key: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True)
class TfliteFile:
    """One file.

    Attributes:
        signatures: By key.
        custom_operations: Operations that the standard runtime lacks; Flex ones begin with `Flex`.
        metadata: The FlatBuffer of the TFLite metadata; None if there is none.
        packed: Content of the files packed behind the model, by name.
    """

    signatures: Mapping[str, SignatureInfo]
    custom_operations: tuple[str, ...]
    metadata: bytes | None
    packed: Mapping[str, bytes]


def read_tflite(data: bytes) -> TfliteFile:
    """Read the structure of a file.

    Args:
        data: The whole content.

    Returns:
        What it says about itself. Every buffer was found to lie within the file.

    Raises:
        BundleError: It is no `.tflite`, truncated or damaged.
    """
    model = Table.root(data, IDENTIFIER)
    buffers = model.tables(ModelField.BUFFERS)
    for buffer in buffers:
        buffer.span(0)
    subgraphs = model.tables(ModelField.SUBGRAPHS)
    if not subgraphs or not buffers:
        raise BundleError("it holds no graph; expected a TFLite model.")
    metadata = None
    for entry in model.tables(ModelField.METADATA):
        if entry.text(0) == METADATA_NAME:
            metadata = _item(buffers, int(entry.number(1, "I")), "buffer").blob(0)
    return TfliteFile(
        signatures=_signatures(model, subgraphs),
        custom_operations=_custom_operations(model),
        metadata=metadata,
        packed=_packed_files(data),
    )


def _custom_operations(model: Table) -> tuple[str, ...]:
    names = set()
    for code in model.tables(ModelField.OPERATOR_CODES):
        # Old files have the number in the first field, which ends at 127; the larger one counts.
        if max(code.number(0, "b"), code.number(3, "i")) == _CUSTOM:
            names.add(code.text(1))
    return tuple(sorted(names))


def _signatures(model: Table, subgraphs: list[Table]) -> dict[str, SignatureInfo]:
    result = {}
    for definition in model.tables(ModelField.SIGNATURE_DEFS):
        graph = _item(subgraphs, int(definition.number(4, "I")), "graph")
        tensors = graph.tables(0)
        sides = [
            {
                entry.text(0): _tensor(entry.text(0), tensors, int(entry.number(1, "I")))
                for entry in definition.tables(i)
            }
            for i in (0, 1)
        ]
        key = definition.text(2)
        result[key] = SignatureInfo(key, *sides)
    return result


def _tensor(name: str, tensors: list[Table], index: int) -> TensorInfo:
    tensor = _item(tensors, index, "tensor")
    number = int(tensor.number(1, "b"))
    dtype = _DTYPES[number] if 0 <= number < len(_DTYPES) else f"type {number}"
    shape = tuple(int(size) for size in tensor.numbers(7, "i") or tensor.numbers(0, "i"))
    quantization = tensor.table(4)
    scales = quantization.numbers(2, "f") if quantization else ()
    zeros = quantization.numbers(3, "q") if quantization else ()
    if len(scales) != 1:
        return TensorInfo(name, dtype, shape)
    return TensorInfo(name, dtype, shape, float(scales[0]), int(zeros[0]) if zeros else 0)


def _item(items: list[Table], index: int, what: str) -> Table:
    if not 0 <= index < len(items):
        raise BundleError(f"it refers to {what} {index}, but has {len(items)}; the file is damaged.")
    return items[index]


def _packed_files(data: bytes) -> dict[str, bytes]:
    """The files of the zip archive behind the model, where the metadata's associated files live."""
    stream = io.BytesIO(data)
    if not zipfile.is_zipfile(stream):
        return {}
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_PACKED_FILES or sum(entry.file_size for entry in entries) > _MAX_PACKED:
                raise BundleError(
                    f"it packs {len(entries)} files or more than {_MAX_PACKED:,} bytes; too much to read."
                )
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"the files packed with it cannot be read: {error}.") from error

"""Answers of the REST API as JSON.

Comes in: arrays, classifications, states, protos and errors. Goes out: the body of the response. Called by
`serving.server.rest.app`.

Finite numbers are written by orjson straight from numpy, with the shortest digits that read back to the same float. It
has no words for NaN and infinity, which TensorFlow Serving writes as bare tokens: these take Python's encoder.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from serving.server.rest.tensors import NAMES
from serving.server.servable import VersionState
from serving.server.status import Code, StatusError

_BYTES_SUFFIX = "_bytes"
_WRITABLE = frozenset(map(np.dtype, ("?", "i1", "i2", "i4", "i8", "u1", "u4", "u8", "f4", "f8")))
_HTTP = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


def http_status(code: Code) -> int:
    """HTTP status of a canonical code; 500 for those that have none of their own."""
    return _HTTP.get(code, 500)


def error(message: str) -> bytes:
    """Body of an error."""
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()}, option=orjson.OPT_INDENT_2)


def predictions(outputs: Mapping[str, np.ndarray]) -> bytes:
    """Body of a Predict answer in the row format.

    Args:
        outputs: Array of each output by name.

    Returns:
        JSON with one element for each row: the bare value of a single output, or an object.

    Raises:
        StatusError: INVALID_ARGUMENT, an output has no rows or another number of them, or a type that JSON lacks.
    """
    rows = _rows_of(outputs)
    if len(outputs) == 1:
        ((only, array),) = outputs.items()
        return _dump(lambda as_lists: {"predictions": _writable(only, array, as_lists)}, (array,))

    def document(as_lists: bool) -> Any:
        values = {name: _writable(name, outputs[name], as_lists) for name in sorted(outputs)}
        return {"predictions": [{name: column[row] for name, column in values.items()} for row in range(rows)]}

    return _dump(document, outputs.values())


def columns(outputs: Mapping[str, np.ndarray]) -> bytes:
    """Body of a Predict answer in the columnar format; raises as `predictions` does."""
    if not outputs:
        raise StatusError(Code.INVALID_ARGUMENT, "Cannot convert empty tensor map to JSON")

    def document(as_lists: bool) -> Any:
        values = {name: _writable(name, outputs[name], as_lists) for name in sorted(outputs)}
        return {"outputs": values if len(values) > 1 else next(iter(values.values()))}

    return _dump(document, outputs.values())


def classifications(classes: Sequence[Sequence[str | bytes]] | None, scores: Sequence[Sequence[float]] | None) -> bytes:
    """Body of a Classify answer.

    Args:
        classes: Labels of each example, [examples, classes]; None if the model gives scores only.
        scores: Score of each label, float32 [examples, classes]; None if the model gives labels only.

    Returns:
        JSON with a list of [label, score] pairs for each example.

    Raises:
        StatusError: INVALID_ARGUMENT, there is no example.
    """
    if not (classes or scores):
        raise StatusError(Code.INVALID_ARGUMENT, "Cannot convert empty ClassificationResults to JSON")
    numbers = np.asarray([[0.0] * len(row) for row in classes or ()] if scores is None else scores, np.float32)
    labels = [[""] * len(row) for row in numbers] if classes is None else _strings(classes, False)
    results = [
        [[label, score] for label, score in zip(*pair, strict=True)]
        for pair in zip(labels, _as_python(numbers), strict=True)
    ]
    return _dump(lambda _: {"results": results}, [numbers])


def regressions(values: Sequence[float]) -> bytes:
    """Body of a Regress answer: one number for each example.

    Raises:
        StatusError: INVALID_ARGUMENT, there is no example.
    """
    numbers = np.asarray(values, np.float32)
    if not numbers.size:
        raise StatusError(Code.INVALID_ARGUMENT, "Cannot convert empty RegressionResults to JSON")
    return _dump(lambda _: {"results": _as_python(numbers)}, [numbers])


def status(states: Sequence[VersionState]) -> bytes:
    """Body of a status answer; versions are strings, as in the JSON form of protos."""
    return orjson.dumps(
        {
            "model_version_status": [
                {
                    "version": str(state.version),
                    "state": state.state,
                    "status": {"error_code": state.code.name, "error_message": state.message},
                }
                for state in states
            ]
        },
        option=orjson.OPT_INDENT_2,
    )


def metadata(name: str, version: int, signature_defs: Any) -> bytes:
    """Body of a metadata answer.

    Args:
        name: Name of the model.
        version: Version that answered.
        signature_defs: The `SignatureDefMap` proto.
    """
    from google.protobuf import json_format

    signatures = json_format.MessageToDict(
        signature_defs, including_default_value_fields=True, preserving_proto_field_name=True
    )
    return orjson.dumps(
        {
            "model_spec": {"name": name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": signatures},
        },
        option=orjson.OPT_INDENT_2,
    )


def _rows_of(outputs: Mapping[str, np.ndarray]) -> int:
    if not outputs:
        raise StatusError(Code.INVALID_ARGUMENT, "Cannot convert empty tensor map to JSON")
    rows = -1
    for name in sorted(outputs):
        shape = outputs[name].shape
        if not shape:
            raise StatusError(Code.INVALID_ARGUMENT, f"Tensor name: {name} has no shape information ")
        if rows not in (-1, shape[0]):
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {rows}",
            )
        rows = shape[0]
    return rows


def _writable(name: str, array: np.ndarray, as_lists: bool) -> Any:
    """Something that the encoder takes: an array of numbers, or lists."""
    if array.dtype not in _WRITABLE:
        if array.dtype.kind in "OSU":
            return _strings(array.tolist(), name.endswith(_BYTES_SUFFIX))
        if array.dtype == np.float16:
            return _writable(name, array.astype(np.float32), as_lists)
        kind = NAMES.get(array.dtype.name, array.dtype.name)
        raise StatusError(Code.INVALID_ARGUMENT, f"Failed to write JSON value for tensor type: {kind}")
    # orjson takes no arrays of rank 0.
    if as_lists or array.ndim == 0:
        return _as_python(array)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _as_python(array: np.ndarray) -> Any:
    """Lists of Python floats with the shortest digits of their type, which `tolist` does not give for float32."""
    return (array.astype("U32").astype(np.float64) if array.dtype == np.float32 else array).tolist()


def _strings(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, (list, tuple)):
        return [_strings(item, as_bytes) for item in value]
    data = value if isinstance(value, bytes) else str(value).encode()
    if as_bytes:
        return {"b64": base64.b64encode(data).decode()}
    # JSON is UTF-8: what is not, cannot be written as text without breaking the whole answer.
    return data.decode("utf-8", "replace")


def _dump(document: Callable[[bool], Any], arrays: Iterable[np.ndarray]) -> bytes:
    """Encode a document, which is made with arrays or, if its argument is true, with lists in it."""
    text = orjson.dumps(document(False), option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for what it cannot say; looking for it is cheaper than looking at every number first.
    if b"null" in text and any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        return json.dumps(document(True), ensure_ascii=False).encode()
    return text

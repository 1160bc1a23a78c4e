"""The body of a Predict call into arrays, the thorough way.

Comes in: the body and the inputs of the signature it names. Goes out: `PredictCall`. Called by
`serving.server.rest.fast` for every body that no shortcut takes; it decides what a body means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.server.rest import json_text, tensors
from serving.server.rest.json_text import JsonObject
from serving.server.servable import DEFAULT_SIGNATURE
from serving.server.status import Code, StatusError
from serving.signature import Signature, TensorSpec

SignatureOf = Callable[[str], Signature]
"""Finds the signature of a name; raises StatusError if there is none."""


@dataclass(slots=True)
class PredictCall:
    """A Predict call, decoded.

    Attributes:
        signature: Name of the signature.
        row: Whether the call has the row format (`instances`), in which the answer goes back.
        inputs: Array of each input by name.
    """

    signature: str
    row: bool
    inputs: dict[str, np.ndarray]


def decode_predict(body: bytes, signature_of: SignatureOf) -> PredictCall:
    """Decode the body of a Predict call.

    Args:
        body: JSON text.
        signature_of: Finds the signature that the body names.

    Returns:
        The call; shapes are those of the lists and not yet compared with the signature.

    Raises:
        StatusError: INVALID_ARGUMENT with the text of TensorFlow Serving, UNIMPLEMENTED for types that JSON lacks, or
            what `signature_of` raises.
    """
    document = json_text.parse(body)
    try:
        return _decode(document, signature_of)
    except RecursionError as error:
        raise StatusError(Code.INVALID_ARGUMENT, "JSON Value: lists are nested too deeply.") from error


def signature_name(document: JsonObject) -> str:
    """Name of the signature in a body; `serving_default` if it names none.

    Raises:
        StatusError: INVALID_ARGUMENT, the name is no string.
    """
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise json_text.format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name or DEFAULT_SIGNATURE


def _decode(document: JsonObject, signature_of: SignatureOf) -> PredictCall:
    name = signature_name(document)
    specs = signature_of(name).inputs
    if not specs:
        shown = "DEFAULT" if not document.get("signature_name") else name
        raise _invalid(f"Failed to get input map for signature: {shown}")
    if "instances" in document:
        if "inputs" in document:
            raise json_text.format_error(
                document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            )
        instances = document["instances"]
        if type(instances) is not list:
            raise json_text.format_error(document, "Excepting 'instances' to be an list/array")
        if not instances:
            raise json_text.format_error(document, "No values in 'instances' array")
        return PredictCall(name, True, _rows(instances, specs))
    if "inputs" in document:
        return PredictCall(name, False, _columns(document["inputs"], specs))
    raise _invalid("Missing 'inputs' or 'instances' key")


def _columns(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    if not isinstance(value, JsonObject) or tensors.is_base64(value):
        if len(specs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {next(iter(specs)): value}
    inputs = {}
    for name, spec in specs.items():
        if name not in value:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        inputs[name] = tensors.to_array(*tensors.flat_values(value[name], spec.dtype), spec.numpy_dtype)
    return inputs


class _Column:
    """One input of a call in the row format, gathered instance by instance."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.flat: list[Any] = []
        self.shape: tuple[int, ...] | None = None
        self.size = 0

    def add(self, value: Any) -> None:
        flat, shape = tensors.flat_values(value, self.spec.dtype)
        if self.shape is None:
            self.shape, self.size = shape, len(flat)
        elif len(flat) != self.size:
            raise _invalid(f"Expecting tensor size: {self.size} but got: {len(flat)}")
        elif shape != self.shape:
            raise _invalid(f"Expecting shape {_show(self.shape)} but got: {_show(shape)}")
        self.flat.extend(flat)

    def array(self, rows: int) -> np.ndarray:
        shape = (rows, *(self.shape or ()))
        if len(shape) > tensors.MAX_RANK:
            raise _invalid(f"Lists are nested {len(shape)} deep; at most {tensors.MAX_RANK} are allowed.")
        return tensors.to_array(self.flat, shape, self.spec.numpy_dtype)


def _rows(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], JsonObject) and len(specs) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns = {name: _Column(spec) for name, spec in specs.items()}
    named = _is_named(instances[0])
    only = next(iter(columns.values()))
    for number, instance in enumerate(instances):
        if _is_named(instance) != named:
            expected, found = ("object", "list") if named else ("value/list", "object")
            raise _invalid(f"Expecting {expected} but got {found} at item {number} of input list")
        if named:
            _add_named(instance, number, columns)
        else:
            try:
                only.add(instance)
            except StatusError as error:
                raise _invalid(f"Failed to process element: {number} of 'instances' list. Error: {error}") from error
    # A bare base64 object goes to the first of several inputs; the others are then missing from the call.
    return {name: column.array(len(instances)) for name, column in columns.items() if column.shape is not None}


def _add_named(instance: JsonObject, number: int, columns: Mapping[str, _Column]) -> None:
    for name, value in instance.items():
        try:
            if name not in columns:
                raise _invalid(f"JSON object: does not have named input: {name}")
            columns[name].add(value)
        except StatusError as error:
            raise _invalid(
                f"Failed to process element: {number} key: {name} of 'instances' list. Error: {error}"
            ) from error
    if instance.keys() != columns.keys() or instance.members != len(instance):
        raise _invalid(
            f"Failed to process element: {number} of 'instances' list. JSON object: {json_text.show(instance)} keys "
            f"must be equal to: {','.join(sorted(columns))}"
        )


def _is_named(value: Any) -> bool:
    return isinstance(value, JsonObject) and not tensors.is_base64(value)


def _show(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)

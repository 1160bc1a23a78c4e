"""Whether the arrays of a request fit a signature: names, types and shapes.

Comes in: a signature and the arrays by name. Goes out: nothing, or a `StatusError` with TensorFlow Serving's text.
Called by the data plane for every request and by the servables before they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from serving.server.status import Code, StatusError
from serving.signature import Signature, TensorSpec

_SHORT_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


def check_names(signature: Signature, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Check which inputs were sent, and fill in the defaults of the signature.

    Returns:
        Exactly the inputs of the signature.

    Raises:
        StatusError: INVALID_ARGUMENT, inputs are missing or unknown.
    """
    expected = signature.inputs
    if inputs.keys() == expected.keys():
        return inputs
    if len(inputs) > len(expected) or (len(inputs) < len(expected) and not signature.defaults):
        extra, missing = inputs.keys() - expected.keys(), expected.keys() - inputs.keys()
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"input size does not match signature: {len(inputs)}!={len(expected)} len({_set(inputs)}) != "
            f"len({_set(expected)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}.",
        )
    for name, spec in expected.items():
        if name not in inputs and name not in signature.defaults:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Signature input alias: {name}(feed name: {spec.tensor}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_set(inputs)}, or default input alias set: "
                f"{','.join(sorted(signature.defaults))}",
            )
    used = inputs.keys() & expected.keys()
    if len(used) != len(inputs):
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}, request input: "
            f"{','.join(sorted(inputs))}",
        )
    return {**signature.defaults, **inputs}


def check_outputs(signature: Signature, outputs: Iterable[str]) -> None:
    """Check an output filter.

    Raises:
        StatusError: INVALID_ARGUMENT, an output does not exist or is named twice.
    """
    seen: set[str] = set()
    for name in outputs:
        if name not in signature.outputs:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_set(signature.outputs)}.",
            )
        if name in seen:
            raise StatusError(Code.INVALID_ARGUMENT, f"duplicate output tensor alias: {name}")
        seen.add(name)


def check_tensors(signature: Signature, inputs: Mapping[str, np.ndarray]) -> None:
    """Check types and shapes of the inputs of a signature.

    Raises:
        StatusError: INVALID_ARGUMENT, an input is missing, or has another type or shape than the signature says.
    """
    for name, spec in signature.inputs.items():
        array = inputs.get(name)
        if array is None:
            raise StatusError(Code.INVALID_ARGUMENT, f"Missing named input: {name}")
        if array.dtype is not spec.numpy_dtype and array.dtype != spec.numpy_dtype:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Expects arg[{_position(signature, spec)}] to be {_type_name(spec.dtype)} but "
                f"{_type_name(_name_of(array.dtype))} is provided",
            )
        if spec.shape is not None and not _fits(spec.shape, array.shape):
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Input {name} has shape {_shape(array.shape)}, but signature {signature.name} takes "
                f"{_shape(spec.shape)}",
            )


def _fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    # Most inputs: any number of rows that have one shape.
    if wanted and shape and wanted[0] is None and wanted[1:] == shape[1:]:
        return True
    return len(wanted) == len(shape) and all(
        want is None or want == have for want, have in zip(wanted, shape, strict=True)
    )


def _position(signature: Signature, spec: TensorSpec) -> int:
    """TensorFlow numbers the fed tensors in the order of their names."""
    return sorted(other.tensor for other in signature.inputs.values()).index(spec.tensor)


def _name_of(dtype: np.dtype) -> str:
    return "string" if dtype.kind == "O" else dtype.name


def _type_name(name: str) -> str:
    return _SHORT_NAMES.get(name, name)


def _shape(sizes: Iterable[int | None]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in sizes)}]"


def _set(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"

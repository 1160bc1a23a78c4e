"""Signatures of a loaded model, and the check of a caller's arrays against them.

Comes in: `SignatureDef` protos of a SavedModel, and the arrays of one call. Goes out: plain, immutable
descriptions, and the arrays in the order in which the graph is fed. Called by `serving.saved_model`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from serving.errors import SignatureError


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output of a signature.

    Attributes:
        name: Name in the signature, which clients use.
        tensor: Name in the graph, such as `serving_default_image:0`.
        dtype: TensorFlow's name of the type; `string` stands for bytes.
        shape: Sizes, None for an unknown one; None as a whole if even the rank is unknown.
        numpy_dtype: Type of the numpy array; object for `string`.
    """

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None
    numpy_dtype: np.dtype[Any]

    def __str__(self) -> str:
        """Name, dtype and shape, as messages show them."""
        if self.shape is None:
            return f"{self.name}: {self.dtype} of any shape"
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} [{sizes}]"


@dataclass(frozen=True)
class Signature:
    """A callable of the model: names, dtypes and shapes of what goes in and comes out.

    Attributes:
        name: Key of the signature in the model.
        method_name: What kind of call it was exported for, such as `tensorflow/serving/predict`.
        inputs: Inputs by name, sorted.
        outputs: Outputs by name, sorted.
        defaults: Values of inputs that a caller may leave out.
    """

    name: str
    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)


def signature_from_proto(name: str, proto: Any) -> Signature:
    """Describe one `SignatureDef`.

    Args:
        name: Key of the signature in the model.
        proto: The `SignatureDef`.

    Returns:
        The description, inputs and outputs sorted by name.

    Raises:
        SignatureError: An input or output is a sparse or composite tensor, which has no single graph tensor.
    """
    from tensorflow.python.framework import tensor_util

    inputs, outputs = _specs(name, "input", proto.inputs), _specs(name, "output", proto.outputs)
    defaults = {key: tensor_util.MakeNdarray(value) for key, value in sorted(proto.defaults.items())}
    return Signature(name, proto.method_name, inputs, outputs, MappingProxyType(defaults))


def _specs(signature: str, kind: str, infos: Mapping[str, Any]) -> Mapping[str, TensorSpec]:
    from tensorflow.python.framework import dtypes

    specs = {}
    for key in sorted(infos):
        info = infos[key]
        if info.WhichOneof("encoding") != "name":
            raise SignatureError(
                f"signature {signature!r}: {kind} {key!r} is a {info.WhichOneof('encoding')} tensor; only "
                "dense tensors can be fed and fetched. Export a signature with dense tensors."
            )
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
        dtype = dtypes.as_dtype(info.dtype)
        specs[key] = TensorSpec(key, info.name, dtype.name, shape, np.dtype(dtype.as_numpy_dtype))
    return MappingProxyType(specs)


def ordered_inputs(signature: Signature, inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """Check the inputs of one call and put them in the order of the signature.

    Args:
        signature: The signature to call.
        inputs: Array of each input by name. A `string` input takes an array of dtype object that holds bytes
            or str, or nested lists of these.

    Returns:
        The arrays, sorted by input name.

    Raises:
        SignatureError: Inputs are missing or unknown, or one has another dtype or shape than the signature.
    """
    if signature.defaults:
        inputs = {**signature.defaults, **inputs}
    missing = [name for name in signature.inputs if name not in inputs]
    extra = [name for name in inputs if name not in signature.inputs]
    if missing or extra:
        found = [f"missing {_quoted(missing)}"] * bool(missing) + [f"unknown {_quoted(extra)}"] * bool(extra)
        expected = "; ".join(str(spec) for spec in signature.inputs.values()) or "no inputs"
        raise SignatureError(f"signature {signature.name!r}: inputs {' and '.join(found)}; it takes {expected}.")
    return [_checked(signature.name, spec, inputs[name]) for name, spec in signature.inputs.items()]


def _checked(signature: str, spec: TensorSpec, value: Any) -> np.ndarray:
    where = f"signature {signature!r}, input {spec.name!r}"
    if spec.dtype == "string":
        array = _strings(where, value)
    else:
        array = np.asarray(value)
        if array.dtype != spec.numpy_dtype:
            raise SignatureError(
                f"{where}: received an array of {array.dtype}, expected {spec}. "
                f"Convert it with .astype({spec.numpy_dtype.name!r}) if that is what you mean."
            )
    if spec.shape is not None:
        fits = len(spec.shape) == array.ndim and all(
            want is None or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise SignatureError(f"{where}: received shape {list(array.shape)}, expected {spec}.")
    return array


def _strings(where: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.dtype != object:
        # numpy's "S" type drops trailing zero bytes, so it would corrupt images and serialized protos in
        # silence.
        raise SignatureError(
            f"{where}: received an array of {value.dtype}, expected bytes. Build it with np.array([...], dtype=object)."
        )
    array = np.asarray(value, dtype=object)
    wrong = next((item for item in array.flat if not isinstance(item, (bytes, str))), None)
    if wrong is not None:
        raise SignatureError(f"{where}: received an item of type {type(wrong).__name__}, expected bytes or str.")
    return array


def unknown_signature(name: str, valid: Iterable[str]) -> SignatureError:
    """Error for a signature that the model does not have; names the valid ones and the nearest."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SignatureError(f"the model has no signature {name!r}; it has {_quoted(names) or 'none'}.{hint}")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)

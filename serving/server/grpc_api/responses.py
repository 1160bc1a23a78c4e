"""Predict responses as bytes, the same part of which is made once.

Comes in: name, version, signature and the arrays of the outputs. Goes out: bytes of a `PredictResponse`. Called by the
`predict` module beside it, in any thread.

Bytes of two messages in a row are those of both merged, so an answer is its outputs, one after another, and then its
`ModelSpec`. All that stands before the numbers of an output depends on its name, type and shape only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from serving.server.servable import DEFAULT_SIGNATURE
from serving.wire.messages import PredictResponse
from serving.wire.tensors import write_tensor

# In the field of their type, these numbers have the bytes that they have in memory; the others are varints.
_DIRECT = frozenset(map(np.dtype, ("<f4", "<f8", "<c8", "<c16")))
_AS_CONTENT = _DIRECT | frozenset(map(np.dtype, ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2")))


def response(
    name: str, version: int, signature: str, outputs: Mapping[str, np.ndarray], *, tensor_content: bool
) -> bytes:
    """Serialize an answer.

    Args:
        name: Name of the model.
        version: Version that answered.
        signature: Name of the signature; empty for `serving_default`.
        outputs: Arrays by name.
        tensor_content: Write numbers to `tensor_content` instead of the field of their type.

    Raises:
        ValueError: TensorFlow has no such type.
    """
    fast = _AS_CONTENT if tensor_content else _DIRECT
    parts = []
    for key, array in outputs.items():
        if array.dtype in fast and array.size:
            parts.append(_head(key, array.dtype, array.shape, tensor_content))
            parts.append(array.tobytes())
        else:
            parts.append(_output(key, array, tensor_content))
    parts.append(_model_spec(name, version, signature or DEFAULT_SIGNATURE))
    return b"".join(parts)


def _output(key: str, array: np.ndarray, tensor_content: bool) -> bytes:
    message: Any = PredictResponse()
    write_tensor(array, message.outputs[key], content=tensor_content)
    return bytes(message.SerializeToString())


@lru_cache(maxsize=1024)
def _head(key: str, dtype: np.dtype[Any], shape: tuple[int, ...], tensor_content: bool) -> bytes:
    """All bytes of an output before its numbers, which are the last field of the last field."""
    zeros = np.zeros(shape, dtype)
    return _output(key, zeros, tensor_content)[: -zeros.nbytes]


@lru_cache(maxsize=1024)
def _model_spec(name: str, version: int, signature: str) -> bytes:
    message: Any = PredictResponse()
    spec = message.model_spec
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature
    return bytes(message.SerializeToString())

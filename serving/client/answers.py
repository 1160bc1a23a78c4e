"""What a model server answers, as the clients hand it to their callers.

Comes in: outputs, metadata and images of one call. Goes out: `Prediction`, `ImageAnswer`s, and the arrays to send.
Called by the clients and their transports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from serving.client.errors import InvalidRequest, ServerFailure
from serving.signature import Signature, TensorSpec
from serving.wire.dtypes import STRING, Dtype


class Prediction(dict[str, np.ndarray]):
    """Array of each output by name; strings are bytes in arrays of dtype object.

    Attributes:
        version: Version of the model that answered; None over REST, whose answers name it only if the caller did.
    """

    def __init__(self, outputs: Mapping[str, np.ndarray], version: int | None) -> None:
        """Hold the outputs of one call."""
        super().__init__(outputs)
        self.version = version


@dataclass(frozen=True)
class Metadata:
    """What a version says about itself.

    Attributes:
        version: Its number.
        signatures: Its signatures by name.
    """

    version: int
    signatures: Mapping[str, Signature]


class ImageAnswer(TypedDict):
    """What the model says about one image."""

    label: str
    class_id: int
    probabilities: np.ndarray
    version: int | None


def image_answers(outputs: Prediction, count: int) -> list[ImageAnswer]:
    """Split the outputs of one call into images.

    Args:
        outputs: `label` string [N], `class_id` int64 [N], `probabilities` float32 [N, K].
        count: How many images were sent.

    Raises:
        ServerFailure: The outputs are others, or of another number of images.
    """
    names = ("label", "class_id", "probabilities")
    missing = [name for name in names if name not in outputs]
    if missing:
        raise ServerFailure(
            f"the signature gives {', '.join(map(repr, outputs))}; an image classifier gives {', '.join(names)}. "
            "Use predict() for other models."
        )
    label, class_id, probabilities = (outputs[name] for name in names)
    if not len(label) == len(class_id) == len(probabilities) == count:
        raise ServerFailure(
            f"received {len(label)} labels, {len(class_id)} class ids and {len(probabilities)} rows of probabilities "
            f"for {count} images."
        )
    rows = zip(label, class_id, probabilities, strict=True)
    return [ImageAnswer(label=_text(a), class_id=int(b), probabilities=c, version=outputs.version) for a, b, c in rows]


def _text(label: Any) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def to_arrays(inputs: Mapping[str, Any], signature: Signature | None) -> dict[str, np.ndarray]:
    """Turn what the caller gave into arrays.

    Args:
        inputs: Arrays, nested lists, single values; bytes and str for string inputs.
        signature: Gives lists and single numbers the dtype of their input; arrays keep their own.

    Raises:
        InvalidRequest: Nested lists are ragged, or hold what the dtype cannot.
    """
    return {name: _to_array(name, value, signature) for name, value in inputs.items()}


def _to_array(name: str, value: Any, signature: Signature | None) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if holds_strings(value):
        return np.array(value, dtype=object)
    spec = signature.inputs.get(name) if signature is not None else None
    try:
        return np.array(value, dtype=spec.numpy_dtype if spec is not None else None)
    except (ValueError, TypeError, OverflowError) as error:
        expected = spec or "numbers, bool, bytes or str in lists of equal length"
        raise InvalidRequest(
            f"input {name!r}: received values that make no array ({error}); expected {expected}."
        ) from error


def holds_strings(value: Any) -> bool:
    """Whether the first innermost item of nested lists is bytes or str."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (bytes, str))


def tensor_spec(name: str, tensor: str, dtype: Dtype, shape: tuple[int | None, ...] | None) -> TensorSpec:
    """Describe one input or output as the metadata of a server does."""
    return TensorSpec(name, tensor, dtype.name, shape, STRING.numpy if dtype is STRING else dtype.numpy)

"""The body of a Predict call into arrays, with shortcuts for the two bodies that most clients send.

Comes in: the body and the signatures of the model. Goes out: `PredictCall`, the same that
`serving.server.rest.requests` would give. Called by `serving.server.rest.app`.

A body of encoded images is base64 between fixed text: no JSON parser is needed. A body of nested numbers goes through
simdjson, which hands over the numbers without making Python objects. simdjson lays nested lists flat in silence, so
what is left of the text when numbers and blanks are deleted must be exactly the brackets and commas of an array.
Whatever looks different in any way takes the thorough way.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import simdjson

from serving.server.rest import base64_text, requests, tensors
from serving.server.rest.requests import PredictCall, SignatureOf
from serving.server.servable import DEFAULT_SIGNATURE
from serving.server.status import StatusError
from serving.signature import TensorSpec

_START = rb'\s*\{\s*(?:"signature_name"\s*:\s*"([\w.\-/ ]*)"\s*,\s*)?'.replace(rb"\s", rb"[ \t\r\n]")
_NAME = rb'"([\w.\-/ ]+)"\s*:\s*'
_IMAGE = (rb"\{\s*(?:" + _NAME + rb'\{\s*)?"b64"\s*:\s*"').replace(rb"\s", rb"[ \t\r\n]")
_IMAGES_HEAD = re.compile(_START + rb'"instances"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*' + _IMAGE)
_IMAGES_NEXT = re.compile(rb'"[ \t\r\n]*\}[ \t\r\n]*(\}[ \t\r\n]*)?,[ \t\r\n]*' + _IMAGE)
_IMAGES_TAIL = re.compile(rb'"\s*\}\s*(\}\s*)?\]\s*\}\s*'.replace(rb"\s", rb"[ \t\r\n]"))
_NUMBERS_HEAD = re.compile(
    _START + rb'"(instances|inputs)"\s*:\s*(?:\{\s*"([\w.\-/ ]+)"\s*:\s*)?\['.replace(rb"\s", rb"[ \t\r\n]")
)
_NUMBERS_AND_BLANKS = b"0123456789.eE+- \t\r\n"
_REMEMBERED = 1 << 20
_LONGEST_FRAME = 1 << 10
_BUFFERS = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("i", np.int64)}


class _Frame(NamedTuple):
    """What stands around the only image of a body: a client sends the same again and again.

    Attributes:
        head, tail: The body before and after the base64 text.
        signature: Name of the signature, if the body names it.
        name: Name of the input, if the body names it.
    """

    head: bytes
    tail: bytes
    signature: bytes | None
    name: bytes | None


class PredictDecoder:
    """Decodes the bodies of Predict calls; for one thread at a time, since it reuses its parser."""

    def __init__(self) -> None:
        """Make the parser."""
        self._parser = simdjson.Parser()
        self._frame: _Frame | None = None
        # Brackets and commas of the last array and its shape: a client sends the same shape again and again.
        self._last: tuple[bytes, int, tuple[int, ...] | None] = (b"", 0, None)

    def decode(self, body: bytes, signature_of: SignatureOf) -> PredictCall:
        """Decode a body.

        Args:
            body: JSON text.
            signature_of: Finds the signature that the body names.

        Returns:
            The call.

        Raises:
            StatusError: As `decode_predict`.
        """
        return (
            self.decode_images(body, signature_of)
            or self.decode_numbers(body, signature_of)
            or requests.decode_predict(body, signature_of)
        )

    def decode_images(self, body: bytes, signature_of: SignatureOf) -> PredictCall | None:
        """Decode encoded images for a signature with one string input; None for anything else."""
        frame = self._frame
        if (
            frame is not None
            and body.startswith(frame.head)
            and body.endswith(frame.tail)
            and len(body) >= len(frame.head) + len(frame.tail)
        ):
            image = base64_text.decode_exact(memoryview(body)[len(frame.head) : len(body) - len(frame.tail)])
            if image is not None:
                return _images_call([image], frame.signature, frame.name, signature_of)
        found = _split_images(body)
        if found is None:
            return None
        images, frame = found
        if len(images) == 1 and len(frame.head) + len(frame.tail) <= _LONGEST_FRAME:
            self._frame = frame
        return _images_call(images, frame.signature, frame.name, signature_of)

    def decode_numbers(self, body: bytes, signature_of: SignatureOf) -> PredictCall | None:
        """Decode nested lists of numbers for a signature with one input; None for anything else."""
        head = _NUMBERS_HEAD.match(body)
        if head is None:
            return None
        key, inner = head[2], head[3]
        name, spec = _only_input(head[1], signature_of)
        if spec is None or (inner is not None and (key == b"instances" or inner.decode() != spec.name)):
            return None
        # The whole body and not only the array, so that it need not be copied first.
        left = body.translate(None, _NUMBERS_AND_BLANKS)[
            len(body[: head.end() - 1].translate(None, _NUMBERS_AND_BLANKS)) :
        ]
        shape = self._shape(left, 1 if inner is None else 2)
        if shape is None:
            return None
        array = self._numbers(body, [part.decode() for part in (key, inner) if part is not None], spec, shape)
        return None if array is None else PredictCall(name, key == b"instances", {spec.name: array})

    def _shape(self, rest: bytes, objects: int) -> tuple[int, ...] | None:
        """Shape of the array of which `rest` is left, with the ends of so many objects behind it."""
        last, last_objects, shape = self._last
        if objects == last_objects and rest == last:
            return shape
        shape = _shape_of(rest, b"}" * objects)
        if len(rest) <= _REMEMBERED:
            self._last = (rest, objects, shape)
        return shape

    def _numbers(self, body: bytes, keys: list[str], spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray | None:
        form, wide = _BUFFERS[spec.numpy_dtype.kind]
        try:
            value: Any = self._parser.parse(body)
            for key in keys:
                value = value[key]
            flat = np.frombuffer(value.as_buffer(of_type=form), wide)
        except (ValueError, KeyError, TypeError, RuntimeError):
            return None
        if flat.size != _product(shape) or flat.size == 0:
            return None
        low, high = flat.min(), flat.max()
        if form == "i":
            least, most = tensors.INTEGERS[spec.dtype]
            return flat.astype(spec.numpy_dtype).reshape(shape) if least <= low and high <= most else None
        # Integers are told from decimals by the thorough way only; up to here they are all exact.
        exact = tensors.MAX_WHOLE[spec.dtype]
        return flat.astype(spec.numpy_dtype).reshape(shape) if -exact <= low and high <= exact else None


def _split_images(body: bytes) -> tuple[list[bytes], _Frame] | None:
    """Take `{"instances": [{"b64": "..."}, ...]}` apart; None for any other text."""
    head = _IMAGES_HEAD.match(body)
    if head is None:
        return None
    inner = head[2]
    images: list[bytes] = []
    view = memoryview(body)
    position = head.end()
    while True:
        end = body.find(b'"', position)
        image = base64_text.decode_exact(view[position:end]) if end >= 0 else None
        if image is None:
            return None
        images.append(image)
        following = _IMAGES_NEXT.match(body, end)
        if following is None:
            break
        if following[2] != inner or (following[1] is None) != (inner is None):
            return None
        position = following.end()
    tail = _IMAGES_TAIL.match(body, end)
    if tail is None or tail.end() != len(body) or (tail[1] is None) != (inner is None):
        return None
    return images, _Frame(body[: head.end()], body[end:], head[1], inner)


def _images_call(
    images: list[bytes], signature: bytes | None, name: bytes | None, signature_of: SignatureOf
) -> PredictCall | None:
    """Give the images to the only input of the signature; None if it has others, or that one has another name."""
    key, spec = _only_input(signature, signature_of, "S")
    if spec is None or (name is not None and name.decode() != spec.name):
        return None
    array = np.empty(len(images), dtype=object)
    for number, image in enumerate(images):
        array[number] = image
    return PredictCall(key, True, {spec.name: array})


def _only_input(signature: bytes | None, signature_of: SignatureOf, kind: str = "N") -> tuple[str, TensorSpec | None]:
    """Name of the signature, and its input if it has one only and that is of the kind: N for numbers, S for strings."""
    name = signature.decode() if signature else DEFAULT_SIGNATURE
    try:
        specs = signature_of(name).inputs
    except StatusError:
        # A fault in the text behind the name would be reported first.
        return name, None
    if len(specs) != 1:
        return name, None
    spec = next(iter(specs.values()))
    fits = spec.dtype == "string" if kind == "S" else spec.dtype in tensors.MAX_WHOLE or _fits_int64(spec.dtype)
    return name, spec if fits else None


def _fits_int64(dtype: str) -> bool:
    return dtype in tensors.INTEGERS and dtype != "uint64"


def _shape_of(rest: bytes, tail: bytes) -> tuple[int, ...] | None:
    """Shape of an array of which brackets, commas and `tail` are left; None if it is ragged or something else."""
    rank = len(rest) - len(rest.lstrip(b"["))
    if not 1 <= rank <= tensors.MAX_RANK or not rest.endswith(tail):
        return None
    row = b""
    sizes: list[int] = []
    for level in range(1, rank + 1):
        end = rest.find(b"]" * level)
        if end < 0:
            return None
        # What stands between the brackets of the first list of this level: rows with commas between them.
        length = end + level - 1 - (rank - level + 1)
        count, left = divmod(length + 1, len(row) + 1)
        if left or count < 1:
            return None
        sizes.append(count)
        row = b"[" + b",".join([row] * count) + b"]"
    return tuple(reversed(sizes)) if rest == row + tail else None


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result

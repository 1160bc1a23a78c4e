"""The body of a Classify or Regress call into serialized tf.Examples.

Comes in: JSON with `examples` and perhaps `context`. Goes out: the name of the signature and the examples. Called by
`serving.server.rest.app`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serving.server.rest import json_text, requests, tensors
from serving.server.rest.json_text import JsonObject
from serving.server.status import Code, StatusError

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64", None: "UNKNOWN"}


@dataclass(frozen=True)
class ExamplesCall:
    """A Classify or Regress call, decoded.

    Attributes:
        signature: Name of the signature.
        examples: Serialized tf.Examples; the features of the context stand in each.
        blobs: Every bytes value of a feature, which may be an encoded image.
    """

    signature: str
    examples: list[bytes]
    blobs: list[bytes]


def decode_examples(body: bytes) -> ExamplesCall:
    """Decode the body of a Classify or Regress call.

    Args:
        body: JSON text.

    Returns:
        The call.

    Raises:
        StatusError: INVALID_ARGUMENT with the text of TensorFlow Serving.
    """
    document = json_text.parse(body)
    try:
        return _decode(document)
    except RecursionError as error:
        raise _invalid("JSON Value: lists are nested too deeply.") from error


def _decode(document: JsonObject) -> ExamplesCall:
    name = requests.signature_name(document)
    context = _example(document["context"]) if "context" in document else None
    if "examples" not in document:
        raise json_text.format_error(document, "When method is classify, key 'examples' is expected and was not found")
    values = document["examples"]
    if type(values) is not list:
        raise json_text.format_error(document, "Expecting 'examples' value to be an list/array")
    if not values:
        raise json_text.format_error(document, "'examples' value is an empty array")
    examples = [_example(value) for value in values]
    # Two serialized messages in a row are the two merged, with the later features in place of the earlier ones.
    head = context.SerializeToString() if context is not None else b""
    blobs = [blob for example in [*examples, *([context] if context is not None else [])] for blob in _blobs(example)]
    return ExamplesCall(name, [head + example.SerializeToString() for example in examples], blobs)


def _blobs(example: Any) -> Iterator[bytes]:
    for feature in example.features.feature.values():
        yield from feature.bytes_list.value


def _example(value: Any) -> Any:
    from tensorflow.core.example import example_pb2

    if not isinstance(value, JsonObject):
        raise _invalid(f"Example must be JSON object but got JSON {json_text.kind_of(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[_utf8(name)]
        for item in content if type(content) is list else [content]:
            _add(item, name, feature)
    return example


def _utf8(name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _invalid("Feature names must be valid UTF-8.") from error
    return name


def _add(value: Any, name: str, feature: Any) -> None:
    kind = _kind_of(value, name)
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise _invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[found]}")
    if kind == "bytes_list":
        data = (
            tensors.decode_base64(value) if isinstance(value, JsonObject) else value.encode("utf-8", "surrogateescape")
        )
        feature.bytes_list.value.append(data)
    elif kind == "float_list":
        feature.float_list.value.append(tensors.flat_values(value, "float32")[0][0])
    elif not -(2**63) <= value < 2**63:
        raise _invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    else:
        feature.int64_list.value.append(int(value))


def _kind_of(value: Any, name: str) -> str:
    if isinstance(value, (bool, int)):
        return "int64_list"
    if isinstance(value, float):
        return "float_list"
    if isinstance(value, str) or tensors.is_base64(value):
        return "bytes_list"
    raise _invalid(f"Feature: {name} has element with unexpected JSON type: {json_text.kind_of(value)}")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)

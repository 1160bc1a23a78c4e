"""What the requests of all methods have in common.

Comes in: bytes and messages of requests. Goes out: messages, `ModelSpec`s, serialized tf.Examples. Called by the
handlers.
"""

from __future__ import annotations

from typing import Any

from serving.server.model_spec import ModelSpec
from serving.server.status import Code, StatusError


def parse(message_class: Any, data: bytes) -> Any:
    """Parse a request.

    Raises:
        StatusError: INTERNAL, as the C++ server answers to bytes that are no such message.
    """
    from google.protobuf.message import DecodeError

    message = message_class()
    try:
        # Some versions of protobuf stop at a stray end of a group and only tell by the number of bytes read.
        whole = message.ParseFromString(data) == len(data)
    except DecodeError:
        whole = False
    if not whole:
        raise StatusError(Code.INTERNAL, f"Failed to parse {len(data)} bytes as {message_class.DESCRIPTOR.name}.")
    return message


def model_spec(request: Any) -> ModelSpec:
    """Model, version and signature that a request asks for.

    Raises:
        StatusError: INVALID_ARGUMENT; the request names no model.
    """
    if not request.HasField("model_spec"):
        raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    return to_model_spec(request.model_spec)


def to_model_spec(spec: Any) -> ModelSpec:
    """Read a `ModelSpec` message."""
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
        spec.signature_name,
    )


def examples(source: Any) -> list[bytes]:
    """Serialized tf.Examples of an `Input` message.

    A context is put in front of each example: bytes of two messages in a row are those of both merged, and what comes
    later wins, so an example overrides the context.
    """
    kind = source.WhichOneof("kind")
    if kind == "example_list_with_context":
        context = source.example_list_with_context.context
        return [context + example for example in source.example_list_with_context.examples]
    return list(source.example_list.examples) if kind == "example_list" else []

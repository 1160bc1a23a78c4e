"""JSON of TensorFlow Serving's REST API, seen from the client.

Comes in: arrays to send, bodies of answers. Goes out: bodies to send, arrays, signatures, version states. Called by the
REST transport.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from serving.client.answers import Metadata, tensor_spec
from serving.client.errors import ClientError, InvalidRequest, OtherOutputs, ServerFailure, error_of
from serving.server.model_spec import ModelSpec
from serving.server.servable import VersionState
from serving.server.status import Code
from serving.signature import Signature, TensorSpec
from serving.wire.dtypes import dtype_of_enum_name, is_enum_name

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    # What a proxy says when the server behind it is not there.
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


def model_path(spec: ModelSpec) -> str:
    """Path of a model, version or label; the model may be called anything."""
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return path if spec.label is None else f"{path}/labels/{quote(spec.label, safe='')}"


def predict_body(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Body of a predict call in columnar form, which fits every signature."""
    import orjson

    values = {name: _jsonable(array) for name, array in inputs.items()}
    body = {"signature_name": signature, "inputs": values} if signature else {"inputs": values}
    finite = all(array.dtype.kind != "f" or np.isfinite(array).all() for array in inputs.values())
    if not finite:
        # orjson writes null for NaN and infinity; TensorFlow Serving reads the bare tokens of the standard library.
        return json.dumps(body, default=_plain).encode()
    return orjson.dumps(body, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _jsonable(array: np.ndarray) -> Any:
    if array.dtype.kind in "OSU":
        return _encoded(array.tolist())
    if array.dtype.kind not in "biuf":
        raise InvalidRequest(f"REST carries no arrays of {array.dtype}; use a grpc:// address for them.")
    return array


def _plain(array: np.ndarray) -> Any:
    """What orjson does not take itself: scalars, other byte orders, arrays with gaps."""
    return array.tolist()


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise InvalidRequest(
            f"received an item of type {type(value).__name__} in an array of strings; expected bytes or str."
        )
    return {"b64": base64.b64encode(value).decode("ascii")}


def parse_json(body: bytes) -> Any:
    """Parse an answer; NaN and infinity are allowed, as TensorFlow Serving writes them.

    Raises:
        ServerFailure: It is no JSON.
    """
    import orjson

    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServerFailure(f"the answer is no JSON ({error}): {_shown(body)}. Is this a model server?") from error


def failure(status: int, body: bytes, retry_after_seconds: float | None) -> ClientError:
    """Turn an answer that is not 200 into an error."""
    code = _CODES.get(status) or (Code.INVALID_ARGUMENT if 400 <= status < 500 else Code.INTERNAL)
    message = ""
    try:
        content = json.loads(body)
        message = next((content[key] for key in ("error", "detail") if isinstance(content.get(key), str)), "")
    except (ValueError, AttributeError, RecursionError):
        pass
    if code is Code.INTERNAL and not message:
        return ServerFailure(f"HTTP status {status}: {_shown(body)}", retry_after_seconds=retry_after_seconds)
    return error_of(code, message or f"HTTP status {status}: {_shown(body)}", retry_after_seconds)


def _shown(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace")) + ("…" if len(body) > 200 else "")


def parse_outputs(body: bytes, signature: Signature | None) -> dict[str, np.ndarray]:
    """Read the answer of a predict call in columnar form.

    Args:
        body: The answer.
        signature: Names and dtypes of the outputs. None guesses dtypes (decimals are float32, integers int64), and
            refuses an answer that does not name its only output.

    Raises:
        ServerFailure: The answer has another form, or other outputs than the signature.
    """
    content = parse_json(body)
    if not isinstance(content, dict) or "outputs" not in content:
        raise ServerFailure(f"the answer has no 'outputs': {_shown(body)}. Is this a model server?")
    values = content["outputs"]
    names = None if signature is None else set(signature.outputs)
    if names is not None and len(names) == 1:
        values = {next(iter(names)): values}
    if not isinstance(values, dict) or (names is not None and values.keys() != names):
        expected = "named outputs" if names is None else f"outputs {sorted(names)}"
        raise OtherOutputs(f"expected {expected}, received {_shown(body)}.")
    try:
        return {name: _array(value, signature.outputs[name] if signature else None) for name, value in values.items()}
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ServerFailure(f"the outputs make no arrays ({error}): {_shown(body)}.") from error


def _array(value: Any, spec: TensorSpec | None) -> np.ndarray:
    if spec is None:
        array = np.array(_decoded(value))
        guessed = {"f": np.float32, "U": object, "S": object}.get(array.dtype.kind)
        return array if guessed is None else np.array(_decoded(value), dtype=guessed)
    array = np.array(_decoded(value) if spec.dtype == "string" else value, dtype=spec.numpy_dtype)
    if array.size == 0 and spec.shape is not None and array.ndim < len(spec.shape):
        # JSON writes a tensor of no rows as [], whatever its rank.
        return np.empty((*array.shape, *(size or 0 for size in spec.shape[array.ndim :])), dtype=spec.numpy_dtype)
    return array


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise ValueError("an object is not of the form {'b64': ...}") from error
    return value


def parse_status(body: bytes) -> list[VersionState]:
    """Read the states of versions.

    Raises:
        ServerFailure: The answer has another form.
    """
    content = parse_json(body)
    try:
        return [
            VersionState(
                int(item["version"]),
                item["state"],
                Code[item["status"]["error_code"]],
                item["status"].get("error_message", ""),
            )
            for item in content["model_version_status"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerFailure(f"expected 'model_version_status', received {_shown(body)}.") from error


def parse_metadata(body: bytes) -> Metadata:
    """Read number and signatures of a version.

    Raises:
        ServerFailure: The answer has another form.
    """
    content = parse_json(body)
    try:
        version = int(content["model_spec"]["version"])
        found = content["metadata"]["signature_def"]["signature_def"]
        named = {name: _signature(name, item) for name, item in sorted(found.items())}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerFailure(f"expected metadata of signatures, received {_shown(body)}: {error}.") from error
    return Metadata(version, {name: signature for name, signature in named.items() if signature is not None})


def _signature(name: str, item: Any) -> Signature | None:
    """Describe a signature; None for internal ones and those with types that numpy lacks."""
    sides = [item.get("inputs", {}), item.get("outputs", {})]
    if name.startswith("__saved_model") or not all(
        is_enum_name(info["dtype"]) for side in sides for info in side.values()
    ):
        return None
    inputs, outputs = ({key: _spec(key, info) for key, info in sorted(side.items())} for side in sides)
    return Signature(name, item.get("method_name", ""), inputs, outputs)


def _spec(name: str, info: Any) -> TensorSpec:
    shape = None
    if not info["tensor_shape"].get("unknown_rank", False):
        sizes = [int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])]
        shape = tuple(None if size < 0 else size for size in sizes)
    return tensor_spec(name, info.get("name", ""), dtype_of_enum_name(info["dtype"]), shape)

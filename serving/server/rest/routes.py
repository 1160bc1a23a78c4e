"""Which call an HTTP method and path mean.

Comes in: method and undecoded path. Goes out: `Route`, or the `StatusError` that TensorFlow Serving answers with.
Called by `serving.server.rest.app` for every request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

from serving.server.model_spec import ModelSpec
from serving.server.status import Code, StatusError

Call = Literal["predict", "classify", "regress", "status", "metadata"]

_ADDRESS = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_ADDRESS}:(?P<call>classify|regress|predict)", re.IGNORECASE | re.ASCII
)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_ADDRESS}(?:/(?P<call>metadata))?", re.IGNORECASE | re.ASCII)
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Route:
    """One call of the API.

    Attributes:
        call: What to do.
        spec: For which model; the signature is named in the body.
    """

    call: Call
    spec: ModelSpec


def is_api_path(path: str) -> bool:
    """Whether the API answers for this path at all, if only with an error."""
    return path[:4].lower() == "/v1/"


def match(method: str, path: str) -> Route:
    """Understand one request line.

    Args:
        method: HTTP method, upper case.
        path: Path as sent, percent-encoded; a query string is ignored.

    Returns:
        The call.

    Raises:
        StatusError: INVALID_ARGUMENT, no call has this form, the version is no 64-bit number, or no model is named.
    """
    return _match(method, path) if len(path) < 1024 else _match.__wrapped__(method, path)


@lru_cache(maxsize=256)
def _match(method: str, path: str) -> Route:
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    found = pattern.fullmatch(path.partition("?")[0]) if pattern else None
    if found is None:
        raise StatusError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path}")
    if found["name"] is None:
        raise StatusError(Code.INVALID_ARGUMENT, "Missing model name in request.")
    version = None
    if found["version"] is not None:
        version = int(found["version"]) if len(found["version"]) <= 1000 else _MAX_VERSION + 1
        if version > _MAX_VERSION:
            raise StatusError(Code.INVALID_ARGUMENT, f"Failed to convert version: {found['version']} to numeric.")
    label = unquote(found["label"], errors="surrogateescape") if found["label"] is not None else None
    call: Call = (found["call"] or "status").lower()  # type: ignore[assignment]
    return Route(call, ModelSpec(unquote(found["name"], errors="surrogateescape"), version, label))

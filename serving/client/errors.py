"""What a call of a model server can end with.

Raised by the clients of this package for REST and gRPC alike, so that a caller need not know the transport.
"""

from __future__ import annotations

from serving.errors import ServingError
from serving.server.status import Code


class ClientError(ServingError):
    """A call failed.

    Attributes:
        code: Canonical status code, as gRPC and TensorFlow Serving use them.
        message: What the server said, or what happened on the way to it.
        retry_after_seconds: How long the server asked to wait before another attempt; None if it did not say.
    """

    code: Code = Code.UNKNOWN

    def __init__(self, message: str, code: Code | None = None, retry_after_seconds: float | None = None) -> None:
        """Keep code and message apart."""
        if code is not None:
            self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{self.code.name}: {message}")


class InvalidRequest(ClientError):
    """The server looked at the request and refused it; the same request will fail again."""

    code = Code.INVALID_ARGUMENT


class NotFound(ClientError):
    """The server does not know the model, the version or the path."""

    code = Code.NOT_FOUND


class NotAllowed(ClientError):
    """The caller did not say who it is, or may not do this."""

    code = Code.PERMISSION_DENIED


class Unavailable(ClientError):
    """Nobody answered, or the server is overloaded or going down; another attempt may succeed."""

    code = Code.UNAVAILABLE


class DeadlineExceeded(ClientError):
    """The time given for the call, all attempts together, is over."""

    code = Code.DEADLINE_EXCEEDED


class ServerFailure(ClientError):
    """The server failed, or what came back is no answer of a model server."""

    code = Code.INTERNAL


class OtherOutputs(ServerFailure):
    """The answer has other outputs than the signature that the client looked up earlier."""


_KINDS: dict[Code, type[ClientError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.FAILED_PRECONDITION: InvalidRequest,
    Code.OUT_OF_RANGE: InvalidRequest,
    Code.UNIMPLEMENTED: InvalidRequest,
    Code.ALREADY_EXISTS: InvalidRequest,
    Code.NOT_FOUND: NotFound,
    Code.PERMISSION_DENIED: NotAllowed,
    Code.UNAUTHENTICATED: NotAllowed,
    Code.UNAVAILABLE: Unavailable,
    Code.RESOURCE_EXHAUSTED: Unavailable,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def error_of(code: Code, message: str, retry_after_seconds: float | None = None) -> ClientError:
    """Build the error that stands for a status code."""
    return _KINDS.get(code, ServerFailure)(message, code, retry_after_seconds)

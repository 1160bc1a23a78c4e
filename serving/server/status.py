"""What a request ends with when it has no answer: a canonical status code and a text.

Comes in: nothing. Goes out: `Code` and `StatusError`, which both transports turn into their own form. Raised by
everything between a transport and the graph; the texts are those of TensorFlow Serving, because clients match them.
"""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Canonical status codes, numbered as in gRPC and `tensorflow.error.Code`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A request that ends without an answer.

    Attributes:
        code: Why, for machines.
        message: Why, in the words of TensorFlow Serving.
    """

    def __init__(self, code: Code, message: str) -> None:
        """Keep code and text."""
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[StatusError], tuple[Code, str]]:
        """Survive pickling, which would otherwise call the class with the joined text alone."""
        return type(self), (self.code, self.message)

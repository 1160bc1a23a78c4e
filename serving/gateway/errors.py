"""What a request to the gateway can end with besides an answer: a status, a word for programs, a sentence for people.

Raised everywhere in the gateway, turned into JSON by `serving.gateway.problems`.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.errors import ServingError


class GatewayError(ServingError):
    """The settings, a key file or the command line of the gateway are wrong."""


class Problem(Exception):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status.
        code: stable word for programs, such as `too_large`.
        message: what was received, what was expected, how to fix it.
        headers: further headers of the answer, such as `Retry-After`.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep the parts."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

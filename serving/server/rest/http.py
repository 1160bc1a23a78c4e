"""HTTP messages as values: requests, responses, refusals, gzip.

Passed between `serving.server.rest.connection`, which knows sockets, and `serving.server.rest.app`, which knows models.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

_GZIP = 31  # zlib's code for the gzip container
_MAX_MEMBERS = 64  # Each costs a copy of what follows it.
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS_LINES[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
JSON_HEADERS = ((b"content-type", b"application/json"),)


class BodyError(ValueError):
    """A body that cannot be taken.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status."""
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Request:
    """A request while it arrives and while it waits for its turn.

    Attributes:
        method: HTTP method, upper case.
        url: Target as sent.
        encoding: Content-Encoding, lower case.
        expects: Expect, lower case.
        length: Content-Length; 0 if there is none.
        header_size: Bytes of the headers.
        keep_alive: Whether the connection goes on after the answer.
        old: Whether the client speaks HTTP/1.0.
        pieces: The body as it arrived.
        size: Bytes of the body.
        refusal: Why it is refused; such a request is the last of its connection.
    """

    method: str = ""
    url: bytes = b""
    encoding: bytes = b""
    expects: bytes = b""
    length: int = 0
    header_size: int = 0
    keep_alive: bool = True
    old: bool = False
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    refusal: BodyError | None = None


class Response(NamedTuple):
    """An HTTP response.

    Attributes:
        status: HTTP status.
        body: Content.
        headers: Names in lower case and values; the length is added by the server.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = JSON_HEADERS


def path_of(url: bytes) -> str:
    """Path and query of a request line, which may name the host too."""
    text = url.decode("latin-1")
    if text[:1] != "/" and "://" in text:
        text = "/" + text.partition("://")[2].partition("/")[2]
    return text


def response_head(status: int, headers: Iterable[tuple[bytes, bytes]], date: bytes) -> bytes:
    """Status line and headers; what depends on the connection and the length of the body is to follow."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Error\r\n" % status]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"date: %b\r\n" % date)
    return b"".join(lines)


def ok_head(date: bytes) -> bytes:
    """Head of the usual answer, up to the length of its body."""
    return response_head(200, JSON_HEADERS, date) + b"content-length: "


def too_large(limit: int) -> BodyError:
    """A body beyond the limit."""
    return BodyError(413, f"Request body is larger than the limit of {limit} bytes.")


def gunzip(body: bytes, limit: int) -> bytes:
    """Decode a gzip body.

    Args:
        body: One or more gzip members.
        limit: Most bytes after decoding; 0 for no limit.

    Returns:
        The content.

    Raises:
        BodyError: 413, the content is larger than the limit; 400, the body is no gzip or cut off.
    """
    parts: list[bytes] = []
    size = 0
    for _ in range(_MAX_MEMBERS):
        decoder = zlib.decompressobj(_GZIP)
        try:
            part = decoder.decompress(body, limit - size + 1 if limit else 0)
        except zlib.error as error:
            raise BodyError(400, f"Failed to uncompress the gzipped body: {error}.") from error
        parts.append(part)
        size += len(part)
        if limit and size > limit:
            raise too_large(limit)
        if not decoder.eof:
            raise BodyError(400, "Failed to uncompress the gzipped body: it is cut off.")
        body = decoder.unused_data.lstrip(b"\0")
        if not body:
            return b"".join(parts)
    raise BodyError(400, f"Failed to uncompress the gzipped body: it has more than {_MAX_MEMBERS} members.")

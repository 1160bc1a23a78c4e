"""The body of a request -> uploaded files and form fields, bounded in bytes, parts and time.

Takes `multipart/form-data` and raw bodies. Everything stays in memory, within the limits, so that a full disk
refuses nobody. Called by the routes that take pictures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from serving.gateway.errors import Problem

_LONGEST_NAME = 120
_LARGEST_FIELD = 16_384
_MOST_FIELDS = 32
_OVERHEAD = 65_536  # what boundaries and headers of the parts may add


@dataclass(frozen=True)
class Upload:
    """One file: its content, and its name only to be shown again, never to be used as a path."""

    content: bytes
    name: str


@dataclass(frozen=True)
class Form:
    """What a body held."""

    files: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read(request: Request, *, max_bytes: int, max_files: int, seconds: float) -> Form:
    """Read a request to its end.

    Args:
        request: with a multipart body, or with one file as its whole body.
        max_bytes: of all files together.
        max_files: in a multipart body.
        seconds: until the last byte must have come.

    Returns:
        Files and fields.

    Raises:
        Problem: 400 a broken form, 408 too slow, 413 too many bytes or parts, 415 a compressed body.
    """
    import anyio

    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "compressed", "the body is compressed; send pictures as they are")
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    limit = max_bytes + (_OVERHEAD + max_files * 1024 if is_form else 0)
    _check_announced(request, limit, max_bytes)
    try:
        with anyio.fail_after(seconds):
            if is_form:
                return await _form(request, limit, max_bytes, max_files)
            body = bytearray()
            async for chunk in _counted(request, limit, max_bytes):
                body += chunk
            return Form([Upload(bytes(body), "")])
    except TimeoutError:
        raise Problem(
            408,
            "too_slow",
            f"the request did not arrive within {seconds:g} seconds; try again",
            {"Connection": "close"},
        ) from None


def shown_name(name: str | None) -> str:
    """Return a file name fit to be shown: its last part, without control or direction characters, cut."""
    last = re.split(r"[\\/]", name or "")[-1]
    visible = "".join(sign for sign in last if unicodedata.category(sign)[0] != "C")
    return visible.strip()[:_LONGEST_NAME]


def _check_announced(request: Request, limit: int, max_bytes: int) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> Problem:
    # The rest of the body is not read, so the connection cannot carry another request.
    return Problem(
        413,
        "too_large",
        f"the request has more than {max_bytes:,} bytes of pictures; send less or smaller ones",
        {"Connection": "close"},
    )


async def _counted(request: Request, limit: int, max_bytes: int) -> AsyncIterator[bytes]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise _too_large(max_bytes)
        yield chunk


async def _form(request: Request, limit: int, max_bytes: int, max_files: int) -> Form:
    from starlette.formparsers import MultiPartException, MultiPartParser

    class InMemory(MultiPartParser):
        spool_max_size = limit + 1

    parser = InMemory(
        request.headers,
        _counted(request, limit, max_bytes),  # type: ignore[arg-type]
        max_files=max_files,
        max_fields=_MOST_FIELDS,
        max_part_size=_LARGEST_FIELD,
    )
    try:
        parsed = await parser.parse()
    except MultiPartException as error:
        raise _broken(error.message, max_files) from None
    except (KeyError, ValueError, LookupError) as error:
        raise _broken(str(error), max_files) from None
    form = Form()
    for name, value in parsed.multi_items():
        if isinstance(value, str):
            form.fields[name] = value
        else:
            form.files.append(await _upload(value))
    return form


async def _upload(part: Any) -> Upload:
    content = await part.read()
    await part.close()
    return Upload(content, shown_name(part.filename))


def _broken(reason: str, max_files: int) -> Problem:
    if "Too many files" in reason:
        return Problem(413, "too_many", f"more than {max_files} files in one request; split them into several")
    return Problem(
        400, "bad_form", f"the form cannot be read ({reason[:200]}); send multipart/form-data with a boundary"
    )

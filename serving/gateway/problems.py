"""Problems and everything else that a request can end with -> JSON that programs and people can read.

`{"error": {"code": ..., "message": ..., "request_id": ...}}`. Installed into the application by `app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from serving.gateway.errors import Problem

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 422: "invalid"}


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable word for programs.", examples=["too_large"])
    message: str = Field(description="Sentence for people.")
    request_id: str = Field(description="Names this request in the audit log.", examples=["5b2c0f7c9d6e4b0fa1c7"])


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: ErrorBody


def install(app: FastAPI) -> None:
    """Let the application answer refusals as JSON; what nobody foresaw is answered by `edge`."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error.status, error.code, error.message, error.headers)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "http_error")
        return answer(request, error.status_code, code, str(error.detail), error.headers or {})

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        parts = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return answer(request, 422, "invalid", "; ".join(parts)[:1000])

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)


def answer(request: Any, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the JSON of one error."""
    from starlette.responses import JSONResponse

    request.scope.setdefault("state", {})["refusal"] = code
    body = ErrorAnswer(error=ErrorBody(code=code, message=message, request_id=request_id(request)))
    return JSONResponse(body.model_dump(), status, headers=dict(headers or {}))


def request_id(request: Any) -> str:
    """Return the id that `edge` gave the request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route for the API's description."""
    meanings = {
        400: "Malformed request",
        401: "Key or token missing, wrong or expired",
        403: "The role does not allow it",
        404: "Not there (any more)",
        408: "The request arrived too slowly",
        409: "In conflict with an earlier request",
        413: "Too many bytes or files",
        415: "No picture, or a format that is not accepted",
        422: "Empty, damaged, too many pixels, or wrong parameters",
        429: "Too many requests; `Retry-After` says when to come back",
        502: "The model server answered nonsense",
        503: "The model server is not ready; `Retry-After` says when to come back",
        504: "The model server took too long",
        507: "No space left for feedback",
    }
    return {status: {"model": ErrorAnswer, "description": meanings[status]} for status in statuses}

"""What happens to every request, whichever route it takes: an id, security headers, counters, the audit line.

A plain ASGI layer around the application, so that errors and aborted requests pass through it as well. Installed by
`app`.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from serving.gateway.access import Caller, client_network
from serving.gateway.audit import AuditLog
from serving.gateway.metrics import Metrics
from serving.gateway.signing import Signer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
NO_ANSWER = 499
"""Status in log and counters if the client went away before there was an answer."""

_log = logging.getLogger("slipway.serving")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_CONTENT_SECURITY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _CONTENT_SECURITY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-permitted-cross-domain-policies", b"none"),
)


@dataclass
class _Exchange:
    """What is learnt about one request while it runs."""

    scope: Scope
    started: float = field(default_factory=time.monotonic)
    status: int = NO_ANSWER
    received: int = 0


class Edge:
    """The outermost layer.

    Args:
        app: the application.
        metrics: counts requests.
        audit: gets a line for each request, or None.
        signer: hashes identities for the audit log.
    """

    def __init__(self, app: Application, metrics: Metrics, audit: AuditLog | None, signer: Signer) -> None:
        """Wrap the application."""
        self._app = app
        self._metrics = metrics
        self._audit = audit
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = _request_id(scope)

        async def counting_receive() -> Message:
            message = await receive()
            exchange.received += len(message.get("body", b""))
            return message

        async def finishing_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = _complete(message.get("headers", []), state["request_id"])
            await send(message)

        try:
            if _is_forgery(scope):
                await _refuse_forgery(scope, counting_receive, finishing_send)
            else:
                await self._app(scope, counting_receive, finishing_send)
        except Exception as error:
            if not await _answer_failure(scope, error, exchange, counting_receive, finishing_send):
                raise
        finally:
            self._finish(exchange)

    def _finish(self, exchange: _Exchange) -> None:
        scope, state = exchange.scope, exchange.scope["state"]
        seconds = time.monotonic() - exchange.started
        # The template of the path, not the path: what clients make up must not become a label.
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        self._metrics.requests.labels(route, method, str(exchange.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if "refusal" in state:
            self._metrics.refused.labels(state["refusal"]).inc()
        if self._audit is not None and route not in ("/healthz", "/readyz", "/metrics"):
            self._audit.write(self._entry(exchange, route, seconds))

    def _entry(self, exchange: _Exchange, route: str, seconds: float) -> dict[str, Any]:
        from starlette.requests import Request

        state = exchange.scope["state"]
        caller: Caller | None = state.get("caller")
        now = time.time()
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
            "request_id": state["request_id"],
            "method": exchange.scope["method"][:16],
            "route": route,
            "status": exchange.status,
            "milliseconds": round(seconds * 1000, 2),
            "bytes": exchange.received,
            "address": self._signer.hashed("audit.address", client_network(Request(exchange.scope))),
        }
        if caller is not None:
            entry["caller"] = caller.kind
            entry["identity"] = self._signer.hashed("audit.identity", f"{caller.kind}:{caller.identity}")
        if "refusal" in state:
            entry["code"] = state["refusal"]
        return entry | state.get("audit", {})


def _request_id(scope: Scope) -> str:
    """Take over the id that the client or a proxy gave, if it is one; otherwise make one."""
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return secrets.token_hex(10)


def _complete(headers: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name.lower() for name, _ in given}
    given += [(name, value) for name, value in SECURITY_HEADERS if name not in names]
    if b"cache-control" not in names:
        given.append((b"cache-control", b"no-store"))
    given.append((b"x-request-id", request_id.encode("ascii")))
    return given


def _is_forgery(scope: Scope) -> bool:
    """Whether another site's page lets its visitor's browser change something here."""
    if scope["method"] in _SAFE_METHODS:
        return False
    origin = [value for name, value in scope["headers"] if name == b"sec-fetch-site"]
    return any(value not in (b"same-origin", b"none") for value in origin)


async def _answer_failure(scope: Scope, error: Exception, exchange: _Exchange, receive: Receive, send: Send) -> bool:
    """Answer what nobody foresaw; returns whether that was possible."""
    from starlette.requests import ClientDisconnect, Request

    from serving.gateway.problems import answer

    if isinstance(error, ClientDisconnect):
        return True
    if exchange.status != NO_ANSWER:
        return False
    _log.error("request %s failed", scope["state"]["request_id"], exc_info=error)
    message = "the gateway failed; its log says why under this request id"
    await answer(Request(scope), 500, "internal", message)(scope, receive, send)
    return True


async def _refuse_forgery(scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.requests import Request

    from serving.gateway.problems import answer

    response = answer(
        Request(scope), 403, "cross_site", "pages of other sites may not send requests here; use the API from a program"
    )
    await response(scope, receive, send)

"""A request -> who asks, with which roles, and whether they may ask again already.

Keys come in `Authorization: Bearer slk_...` or `X-API-Key`, tokens in `Authorization: Bearer`. Browsers without
either are told apart by a signed random cookie. Called by every route that costs something.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.requests import Request

from serving.gateway.errors import GatewayError, Problem
from serving.gateway.keys import KeyStore
from serving.gateway.settings import Limits, Role
from serving.gateway.signing import Signer
from serving.gateway.tokens import TokenVerifier

_log = logging.getLogger("slipway.serving")
COOKIE = "slipway_user"
_COOKIE_SECONDS = 180 * 86_400


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        kind: `key`, `token` or `anonymous`.
        identity: key id, subject or network address; counted by the rate limit, hashed in the audit log.
        user: what traffic is split by; stays the same for the same user.
        roles: what they may do.
    """

    kind: str
    identity: str
    user: str
    roles: frozenset[Role]


class RateLimiter:
    """Counts requests in moving windows.

    Args:
        settings: the section `limits`.

    Raises:
        GatewayError: there is no such storage.
    """

    def __init__(self, settings: Limits) -> None:
        """Connect to nothing yet."""
        from limits import parse
        from limits.aio.strategies import MovingWindowRateLimiter
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string

        options = {"implementation": "redispy"} if settings.storage.startswith("redis") else {}
        try:
            storage = storage_from_string(f"async+{settings.storage}", wrap_exceptions=True, **options)
        except ConfigurationError as error:
            raise GatewayError(f"limits.storage is {settings.storage!r}: {error}") from None
        self._strategy = MovingWindowRateLimiter(storage)  # type: ignore[arg-type]
        self._rates = {
            "request": parse(settings.rate),
            "feedback": parse(settings.feedback_rate),
            "login": parse(settings.failed_logins),
        }

    async def spend(self, what: str, identity: str) -> None:
        """Count one request.

        Raises:
            Problem: 429 with `Retry-After`; there were too many.
        """
        with _counters_may_fail():
            if not await self._strategy.hit(self._rates[what], what, identity):
                await self._refuse(what, identity)

    async def check(self, what: str, identity: str) -> None:
        """Refuse like `spend`, but count nothing."""
        with _counters_may_fail():
            if not await self._strategy.test(self._rates[what], what, identity):
                await self._refuse(what, identity)

    async def _refuse(self, what: str, identity: str) -> None:
        rate = self._rates[what]
        stats = await self._strategy.get_window_stats(rate, what, identity)
        wait = max(1, math.ceil(stats.reset_time - time.time()))
        raise Problem(
            429,
            "too_many_requests",
            f"more than {rate} were asked for; come back in {wait} seconds",
            {"Retry-After": str(wait)},
        )


@contextlib.contextmanager
def _counters_may_fail() -> Iterator[None]:
    """Let requests pass while the store of the counters is away: its failure must not become ours."""
    from limits.errors import StorageError

    try:
        yield
    except StorageError as error:
        _log.warning("requests are not counted: %s", error.storage_error)


class Access:
    """Tells callers apart and holds them to their roles.

    Args:
        keys: the API keys.
        tokens: the verifier of JWT, if the gateway takes any.
        limiter: counts failed attempts.
        signer: signs the cookie.
        anonymous: roles of those who show nothing.
    """

    def __init__(
        self,
        keys: KeyStore,
        tokens: TokenVerifier | None,
        limiter: RateLimiter,
        signer: Signer,
        anonymous: tuple[Role, ...],
    ) -> None:
        """Keep the parts."""
        self._keys = keys
        self._tokens = tokens
        self._limiter = limiter
        self._signer = signer
        self._anonymous = frozenset(anonymous)

    async def caller(self, request: Request, role: Role) -> Caller:
        """Return who asks.

        Args:
            request: with or without credentials.
            role: what the route needs.

        Raises:
            Problem: 401 credentials missing or wrong, 403 the role is missing, 429 too many wrong ones.
        """
        address = client_network(request)
        presented = _credentials(request)
        caller = self._anonymous_caller(request, address)
        if presented is not None:
            await self._limiter.check("login", address)
            found = self._identified(presented)
            if found is None:
                await self._limiter.spend("login", address)
                raise _unauthorized("the key or token is wrong, expired or revoked")
            caller = found
        request.scope.setdefault("state", {})["caller"] = caller
        if role not in caller.roles:
            if caller.kind == "anonymous":
                raise _unauthorized("this needs an API key or a token")
            raise Problem(403, "forbidden", f"this needs the role {role!r}; the key or token has not got it")
        return caller

    def new_cookie(self, caller: Caller, request: Request) -> str | None:
        """Return the `Set-Cookie` value that keeps an anonymous browser on its variant, if it has none yet."""
        if caller.kind != "anonymous" or not caller.user.startswith("new:"):
            return None
        sealed = self._signer.seal("cookie", {"user": caller.user.removeprefix("new:")}, _COOKIE_SECONDS)
        secure = "; Secure" if request.url.scheme == "https" else ""
        return f"{COOKIE}={sealed}; Max-Age={_COOKIE_SECONDS}; Path=/; HttpOnly; SameSite=Lax{secure}"

    def _anonymous_caller(self, request: Request, address: str) -> Caller:
        claims = self._signer.unseal("cookie", request.cookies.get(COOKIE, ""))
        user = f"cookie:{claims['user']}" if claims else f"new:{secrets.token_hex(12)}"
        return Caller("anonymous", address, user, self._anonymous)

    def _identified(self, presented: str) -> Caller | None:
        if presented.startswith("slk_"):
            key = self._keys.find(presented)
            return Caller("key", key.id, f"key:{key.id}", frozenset(key.roles)) if key else None
        bearer = self._tokens.verify(presented) if self._tokens else None
        return Caller("token", bearer.subject, f"token:{bearer.subject}", bearer.roles) if bearer else None


def user_key(caller: Caller) -> str:
    """Return what traffic is split by; a browser that just got its cookie counts as that cookie already."""
    return caller.user.replace("new:", "cookie:", 1) if caller.user.startswith("new:") else caller.user


def client_network(request: Request) -> str:
    """Return the address that requests are counted by; of IPv6 the /64, which is one customer's."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _credentials(request: Request) -> str | None:
    """Return what was presented; both headers at once are a mistake that must not be guessed about."""
    key = request.headers.get("x-api-key")
    authorization = request.headers.get("authorization")
    if key is not None and authorization is not None:
        raise Problem(400, "two_credentials", "both X-API-Key and Authorization are set; send one of them")
    if authorization is None:
        return key
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthorized("the header Authorization is not of the form `Bearer KEY_OR_TOKEN`")
    return token.strip()


def _unauthorized(reason: str) -> Problem:
    return Problem(
        401,
        "unauthorized",
        f"{reason}; send `Authorization: Bearer ...` or `X-API-Key: ...`",
        {"WWW-Authenticate": 'Bearer realm="slipway"'},
    )

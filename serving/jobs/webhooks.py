"""Delivery of results to the addresses that clients named: signed, repeated, and only to hosts that are allowed.

Against requests to places that only this machine can reach (SSRF): the host must be listed in `jobs.webhook_hosts`,
its address is looked up once and the connection goes to that address, redirects are not followed, no proxy of the
environment is used, and link-local addresses (where clouds keep their secrets) are refused unless listed by number.
Called by the routes, which check addresses, and by workers, which deliver.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from serving.gateway.errors import Problem
from serving.gateway.settings import Jobs

if TYPE_CHECKING:
    import httpx

_LONGEST = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Attempt:
    """What became of one delivery; `error` is None if it was taken."""

    error: str | None = None
    is_final: bool = False


class Webhooks:
    """Checks addresses and delivers.

    Args:
        settings: the section `jobs`.
        secret: key of the signature, shared with the receivers.
    """

    def __init__(self, settings: Jobs, secret: bytes) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._secret = secret
        self._client: httpx.AsyncClient | None = None

    def check(self, url: str) -> str:
        """Return an address that may be called.

        Raises:
            Problem: 422; it is malformed, or its host is not allowed.
        """
        try:
            if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>'):
                raise ValueError("malformed")
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _refused(f"{url[:80]!r} is no address of a webhook") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None or parts.fragment:
            raise _refused(f"{url[:80]!r} is not of the form https://host/path")
        host = parts.hostname.rstrip(".")
        named = host if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
        if named not in {one.lower() for one in self._settings.webhook_hosts}:
            raise _refused(
                f"webhooks to {named[:80]!r} are not allowed; the operator lists hosts in jobs.webhook_hosts"
            )
        return url

    def sign(self, body: bytes, timestamp: int) -> str:
        """Return the signature of a delivery: `v1=` and the HMAC-SHA256 of `TIMESTAMP.BODY`, hexadecimal."""
        digest = hmac.new(self._secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        return f"v1={digest}"

    async def deliver(self, url: str, document: dict[str, Any]) -> Attempt:
        """Send a result.

        Args:
            url: as the client named it; checked again, because settings change.
            document: what is sent as JSON.

        Returns:
            What became of it. Nothing is raised for what the receiver does.
        """
        import httpx

        try:
            self.check(url)
            parts = urlsplit(url)
            address = await self._resolve(parts)
        except Problem as problem:
            return Attempt(problem.message, is_final=True)
        except OSError as error:
            return Attempt(f"the host cannot be found: {error}")
        body = json.dumps(document, separators=(",", ":")).encode()
        try:
            status = await asyncio.wait_for(self._post(parts, address, body, document), self._settings.webhook_seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return Attempt(f"no answer within {self._settings.webhook_seconds:g} seconds")
        except (httpx.HTTPError, OSError) as error:
            return Attempt(f"{type(error).__name__}: {error}"[:300])
        if 200 <= status < 300:
            return Attempt()
        return Attempt(f"answered {status}", is_final=status == 410)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _post(self, parts: SplitResult, address: str, body: bytes, document: dict[str, Any]) -> int:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=None)
        timestamp = int(time.time())
        host = parts.hostname or ""
        target = httpx.URL(parts.geturl()).copy_with(host=address)
        request = self._client.build_request(
            "POST",
            target,
            content=body,
            headers={
                "Host": parts.netloc,
                "Content-Type": "application/json",
                "User-Agent": "slipway-webhook/1",
                "X-Slipway-Job": str(document.get("id", "")),
                "X-Slipway-Timestamp": str(timestamp),
                "X-Slipway-Signature": self.sign(body, timestamp),
            },
            # The certificate must be that of the name, although the connection goes to the number.
            extensions={"sni_hostname": host},
        )
        # The answer's body is none of our business, and might be endless.
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return response.status_code

    async def _resolve(self, parts: SplitResult) -> str:
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        address = str(found[0][4][0])
        number = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(number, "ipv4_mapped", None) or number
        is_listed = str(number) == host
        if not is_listed and (mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified):
            raise _refused(f"the host {host!r} has the address {address}, to which nothing is sent")
        return address


def verify(secret: bytes, body: bytes, timestamp: str, signature: str, tolerance_seconds: float = 300) -> bool:
    """Tell whether a delivery is genuine and fresh; for receivers.

    Args:
        secret: the key of the signature.
        body: as received.
        timestamp: header `X-Slipway-Timestamp`.
        signature: header `X-Slipway-Signature`.
        tolerance_seconds: how old a delivery may be, so that none can be replayed later.
    """
    if (
        not timestamp.isascii()
        or not timestamp.isdecimal()
        or abs(time.time() - int(timestamp[:12])) > tolerance_seconds
    ):
        return False
    expected = Webhooks(Jobs(), secret).sign(body, int(timestamp))
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def _refused(message: str) -> Problem:
    return Problem(422, "bad_webhook", message)

"""Signed text: what the gateway hands out and wants back unchanged (receipts, cookies), and hashed identities.

One secret goes in; keys for each purpose are derived from it, so that a signature for one purpose is worthless for
another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any


class Signer:
    """Signs, verifies and hashes with keys derived from one secret."""

    def __init__(self, secret: bytes) -> None:
        """Take the secret of `secret_files`."""
        self._secret = secret

    def _key(self, purpose: str) -> bytes:
        return hmac.new(self._secret, f"slipway.{purpose}".encode(), hashlib.sha256).digest()

    def hashed(self, purpose: str, text: str) -> str:
        """Return 16 hexadecimal digits that stand for a text; without the secret they say nothing about it."""
        return hmac.new(self._key(purpose), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]

    def signature(self, purpose: str, content: bytes) -> str:
        """Return the HMAC-SHA256 of a content, base64url without padding."""
        return _text(hmac.new(self._key(purpose), content, hashlib.sha256).digest())

    def seal(self, purpose: str, claims: dict[str, Any], lifetime_seconds: float) -> str:
        """Return claims as signed text that expires."""
        content = json.dumps({**claims, "exp": int(time.time() + lifetime_seconds)}, separators=(",", ":")).encode()
        return f"{_text(content)}.{self.signature(purpose, content)}"

    def unseal(self, purpose: str, sealed: str) -> dict[str, Any] | None:
        """Return the claims, or None if the text was changed, is for another purpose, or has expired."""
        body, _, signature = sealed.partition(".")
        try:
            content = base64.urlsafe_b64decode(body.encode("ascii") + b"=" * (-len(body) % 4))
            # As bytes, because comparing text fails on signs beyond ASCII.
            if not hmac.compare_digest(self.signature(purpose, content).encode(), signature.encode()):
                return None
            claims = json.loads(content)
        except ValueError:
            return None
        if not isinstance(claims, dict) or not claims.get("exp", 0) >= time.time():
            return None
        return claims


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")

"""JSON Web Tokens of an identity provider -> who it is and which roles they have.

The algorithm is never taken from the token: the key that the token names decides it (RFC 8725, section 3.1), so a
public RSA key cannot be misused as an HMAC secret and `none` does not exist. Called by `access`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from serving.gateway.errors import GatewayError
from serving.gateway.settings import Jwt, Role

if TYPE_CHECKING:
    from jwt import PyJWK

_LONGEST = 8192
_FEWEST_SECRET_BYTES = 32
_FEWEST_RSA_BITS = 2048


@dataclass(frozen=True)
class Bearer:
    """Who a token speaks for."""

    subject: str
    roles: frozenset[Role]


@dataclass(frozen=True)
class _KnownKey:
    id: str | None
    algorithm: str
    key: PyJWK


class TokenVerifier:
    """Verifies tokens against a key set that may be rotated while the gateway runs.

    Args:
        settings: the section `access.jwt`.

    Raises:
        GatewayError: the key set is missing, is none, or holds no key that could be used.
    """

    def __init__(self, settings: Jwt) -> None:
        """Read the key set, so that a wrong file stops the start."""
        self._settings = settings
        self._seen: tuple[int, int, int] | None = None
        self._keys: list[_KnownKey] = []
        self._refresh()

    def verify(self, token: str) -> Bearer | None:
        """Return whom a token speaks for, or None if anything about it is wrong."""
        import jwt

        if len(token) > _LONGEST:
            return None
        self._refresh()
        try:
            header = jwt.get_unverified_header(token)
            key = self._key_for(header)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_seconds,
                options={"require": ["exp", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            return None
        return Bearer(subject, self._roles(claims.get(self._settings.roles_claim)))

    def _key_for(self, header: dict[str, Any]) -> _KnownKey | None:
        """Return the key that a token names; without a name only a single candidate will do."""
        if "kid" in header:
            fitting = [key for key in self._keys if key.id == header["kid"] and key.algorithm == header.get("alg")]
        else:
            fitting = [key for key in self._keys if key.algorithm == header.get("alg")]
        return fitting[0] if len(fitting) == 1 else None

    @staticmethod
    def _roles(claim: object) -> frozenset[Role]:
        names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
        return frozenset(role for role in get_args(Role) if role in names)

    def _refresh(self) -> None:
        path = self._settings.jwks_file
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return
            self._keys = list(self._usable(json.loads(path.read_bytes())))
            self._seen = seen
        except GatewayError:
            raise
        except (OSError, ValueError, TypeError, AttributeError) as error:
            if self._seen is None:
                raise GatewayError(f"{path} is no JSON Web Key Set: {error}; expected {{'keys': [...]}}") from None
            # A file that is being replaced must not lock everybody out; the old keys count until it is whole again.

    def _usable(self, document: dict[str, Any]) -> list[_KnownKey]:
        import jwt

        path = self._settings.jwks_file
        found = []
        for entry in document["keys"] if isinstance(document, dict) and "keys" in document else []:
            algorithm = _algorithm(entry)
            if algorithm not in self._settings.algorithms or entry.get("use", "sig") != "sig":
                continue
            try:
                key = jwt.PyJWK({**entry, "alg": algorithm})
            except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
                raise GatewayError(f"{path}: the key {entry.get('kid')!r} cannot be read: {error}") from None
            _check_strength(path, entry, key)
            found.append(_KnownKey(entry.get("kid"), algorithm, key))
        if not found:
            raise GatewayError(
                f"{path} holds no key for {', '.join(self._settings.algorithms)} (access.jwt.algorithms); expected a "
                "JSON Web Key Set with at least one"
            )
        return found


def _algorithm(entry: dict[str, Any]) -> str:
    """Return the one algorithm that a key is for; what the key set says counts only if its type agrees."""
    kind = entry.get("kty")
    natural = {"oct": "HS256", "RSA": "RS256", "OKP": "EdDSA"}.get(str(kind), "")
    if kind == "OKP" and entry.get("crv") not in ("Ed25519", "Ed448"):
        return ""
    return natural if entry.get("alg", natural) == natural else ""


def _check_strength(path: object, entry: dict[str, Any], key: PyJWK) -> None:
    material: Any = key.key
    if isinstance(material, bytes) and len(material) < _FEWEST_SECRET_BYTES:
        raise GatewayError(
            f"{path}: the secret {entry.get('kid')!r} has {len(material)} bytes; expected at least "
            f"{_FEWEST_SECRET_BYTES} random ones"
        )
    bits = getattr(material, "key_size", _FEWEST_RSA_BITS)
    if entry.get("kty") == "RSA" and bits < _FEWEST_RSA_BITS:
        raise GatewayError(
            f"{path}: the RSA key {entry.get('kid')!r} has {bits} bits; expected {_FEWEST_RSA_BITS} or more"
        )

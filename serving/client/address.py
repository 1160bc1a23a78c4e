"""Where a model server listens and how it is spoken to.

Comes in: what the user wrote. Goes out: `Address`. Called by the clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

_EXPECTED = (
    "expected http://host:8501, https://host:8501, grpc://host:8500, grpcs://host:8500, or unix:/path for gRPC over a "
    "Unix domain socket"
)


@dataclass(frozen=True)
class Address:
    """Parsed address.

    Attributes:
        transport: Protocol to speak.
        secure: Whether the connection is encrypted by TLS.
        target: Base URL without a slash at its end for REST; target of the channel for gRPC.
    """

    transport: Literal["rest", "grpc"]
    secure: bool
    target: str


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of an encrypted connection.

    Attributes:
        ca: Certificates that vouch for the server; None for the authorities that the system trusts.
        certificate: The client's own certificate, where the server asks for one.
        key: Private key of that certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Refuse half a key pair."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("received only one of TLS certificate and key; give both or neither.")


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        ValueError: It has another form.
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address("grpc", False, text)
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"received the address {text!r}: {error}; {_EXPECTED}.") from error
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"received the address {text!r}; {_EXPECTED}.")
    secure = parts.scheme in ("https", "grpcs")
    if parts.scheme in ("http", "https"):
        return Address("rest", secure, text.rstrip("/"))
    if parts.path not in ("", "/") or parts.username is not None:
        raise ValueError(f"received the address {text!r}; a gRPC address has neither path nor user; {_EXPECTED}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address("grpc", secure, f"{host}:{port or 8500}")

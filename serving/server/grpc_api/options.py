"""How the gRPC API listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class TlsKeys(Protocol):
    """PEM texts of an encrypted API, as `SSLConfig` gives them."""

    @property
    def key(self) -> bytes:
        """Private key of the server."""
        ...

    @property
    def certificate(self) -> bytes:
        """Certificate chain of the server."""
        ...

    @property
    def ca(self) -> bytes | None:
        """Certificates that sign those of clients."""
        ...

    @property
    def client_verify(self) -> bool:
        """Whether clients must show a certificate."""
        ...


@dataclass(frozen=True)
class GrpcOptions:
    """Settings of the gRPC API.

    Attributes:
        addresses: Where to listen: `host:port` (port 0 picks a free one) or `unix:/path`.
        tls: Keys; None for plain text.
        health: Whether the standard health service is offered.
        tensor_content: Whether answers carry their numbers in `tensor_content` instead of the field of their type.
        channel_arguments: Options of the gRPC library.
        max_threads: Most calls that are worked on at once, the others wait unread; 0 for no limit. No call occupies a
            thread here, so the limit only keeps batches small.
    """

    addresses: tuple[str, ...]
    tls: TlsKeys | None = None
    health: bool = False
    tensor_content: bool = False
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    max_threads: int = 0

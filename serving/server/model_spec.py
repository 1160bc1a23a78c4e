"""Which model, version and signature a request asks for.

Comes in: the address of a REST call or the `ModelSpec` of a gRPC call. Goes out: `ModelSpec`, which `Models.acquire`
resolves. Made by both transports.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """Address of a servable.

    Attributes:
        name: Name of the model.
        version: Version asked for; None for the latest. 0 is a version, not "latest".
        label: Version label asked for, instead of a version.
        signature: Name of the signature; empty for `serving_default`.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

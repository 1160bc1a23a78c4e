"""Settings of the REST API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestOptions:
    """How the REST API answers.

    Attributes:
        timeout_ms: Time that a request may take, in milliseconds; 0 or less for no limit.
        cors: Answer OPTIONS and allow scripts of other origins to read answers.
        max_body_bytes: Largest request body, before and after gzip decoding; 0 for no limit.
        max_pixels: Most pixels of an encoded image in a request, all frames together; 0 for no limit.
        monitoring_path: Path of the Prometheus metrics; None serves none.
    """

    timeout_ms: int = 30_000
    cors: bool = False
    max_body_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    monitoring_path: str | None = None

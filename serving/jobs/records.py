"""What a job is, on its way in, at work, and when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "done", "dead"]
DeliveryState = Literal["none", "pending", "delivered", "failed"]


@dataclass(frozen=True)
class NewJob:
    """A job to be accepted.

    Attributes:
        id: unguessable.
        owner: hashed identity of who may fetch it.
        fingerprint: of everything that was asked; tells a repeated request from another one with the same key.
        request: what to do with the pictures, fit for JSON.
        content: all pictures, one behind the other; `request["sizes"]` tells them apart.
        idempotency: scoped key of the client, or None.
        webhook: where the result is delivered, or None.
    """

    id: str
    owner: str
    fingerprint: str
    request: dict[str, Any]
    content: bytes
    idempotency: str | None = None
    webhook: str | None = None


@dataclass(frozen=True)
class Leased:
    """A job that a worker holds for a while."""

    id: str
    token: str
    attempts: int
    request: dict[str, Any]
    content: bytes


@dataclass(frozen=True)
class Delivery:
    """A webhook that is due; `view` is what it tells."""

    token: str
    url: str
    attempts: int
    view: JobView


@dataclass(frozen=True)
class JobView:
    """A job as its owner sees it. Times are seconds since 1970."""

    id: str
    owner: str
    state: State
    attempts: int
    created: float
    finished: float | None = None
    expires: float | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    delivery: DeliveryState = "none"
    delivery_attempts: int = 0
    delivery_error: str | None = None


@dataclass(frozen=True)
class Load:
    """What waits or is in work."""

    jobs: int
    content_bytes: int


@dataclass(frozen=True)
class Rules:
    """Limits and times that a store holds to.

    Attributes:
        max_pending: jobs waiting or in work.
        max_pending_bytes: of their pictures.
        max_attempts: leases of one job.
        lease_seconds: of silence, after which a job or a delivery goes to another worker.
        result_seconds: that finished jobs are kept.
    """

    max_pending: int = 1000
    max_pending_bytes: int = 1 << 30
    max_attempts: int = 5
    lease_seconds: float = 60.0
    result_seconds: float = 86_400.0


@dataclass(frozen=True)
class Pictures:
    """The pictures of a job, joined for storage."""

    contents: Sequence[bytes] = field(default_factory=tuple)

    def joined(self) -> bytes:
        """Return them one behind the other."""
        return b"".join(self.contents)

    @classmethod
    def split(cls, content: bytes, sizes: Sequence[int]) -> Pictures:
        """Take them apart again."""
        contents, start = [], 0
        for size in sizes:
            contents.append(content[start : start + size])
            start += size
        return cls(contents)


def lost_worker(attempts: int) -> dict[str, Any]:
    """Return the error of a job whose workers fell silent one after the other."""
    return {
        "code": "gave_up",
        "message": f"{attempts} attempts ended without an answer; the last worker fell silent or had no time left",
    }

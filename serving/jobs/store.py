"""What keeps jobs: the contract of `sqlite_store` and `redis_store`.

Every change is on disk (or in Redis) before the call returns. A lease carries a token; who lost its lease changes
nothing any more.
"""

from __future__ import annotations

from typing import Any, Protocol

from serving.errors import ServingError
from serving.jobs.records import Delivery, JobView, Leased, Load, NewJob


class StoreError(ServingError):
    """Jobs cannot be kept at the moment: the disk is full, Redis is away."""


class QueueFullError(StoreError):
    """As many jobs wait as may."""


class KeyReusedError(StoreError):
    """The idempotency key was used before, for something else."""


class JobStore(Protocol):
    """Keeps jobs. All methods raise `StoreError` if that is impossible."""

    async def submit(self, job: NewJob) -> tuple[str, bool]:
        """Accept a job.

        Returns:
            Its id, and whether it is new; False if the same request came before with the same key.

        Raises:
            QueueFullError: too many jobs or bytes wait.
            KeyReusedError: the key belongs to another request.
        """

    async def get(self, job_id: str) -> JobView | None:
        """Return a job, or None if there is none or it has expired."""

    async def lease(self, job_id: str | None = None) -> Leased | None:
        """Take the job that has been due longest, or a certain one; None if none is due.

        Jobs that were tried too often are buried on the way.
        """

    async def extend(self, leased: Leased) -> bool:
        """Hold a job for longer; False if the lease is lost."""

    async def finish(self, leased: Leased, result: dict[str, Any] | None, error: dict[str, Any] | None) -> bool:
        """Settle a job, with a result or as dead with an error; False if the lease is lost."""

    async def retry(self, leased: Leased, delay_seconds: float, error: dict[str, Any]) -> bool:
        """Give a job back for another try, or bury it after the last; False if the lease is lost."""

    async def lease_delivery(self) -> Delivery | None:
        """Take a webhook that is due; None if none is."""

    async def settle_delivery(self, delivery: Delivery, error: str | None, retry_seconds: float | None) -> bool:
        """Note a delivery: without error as made, with `retry_seconds` as due again, otherwise as failed."""

    async def load(self) -> Load:
        """Return what waits or is in work."""

    async def sweep(self) -> int:
        """Remove what has expired; returns how many jobs."""

    async def close(self) -> None:
        """Let go of file or connections."""

"""The parts of asynchronous inference, made from the settings in one place.

Called by the gateway's composition, by `routes` and by the worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.gateway import secret_files
from serving.gateway.settings import GatewaySettings, Jobs
from serving.jobs.records import Rules
from serving.jobs.sqlite_store import SqliteStore
from serving.jobs.webhooks import Webhooks

if TYPE_CHECKING:
    from serving.jobs.store import JobStore
    from serving.jobs.taskiq_queue import TaskiqQueue


@dataclass
class JobService:
    """What routes and workers share.

    Attributes:
        settings: the section `jobs`.
        store: where jobs are.
        webhooks: checks and delivers.
        queue: taskiq on Redis, which tells workers of new jobs; None for the embedded queue, which they ask.
    """

    settings: Jobs
    store: JobStore
    webhooks: Webhooks
    queue: TaskiqQueue | None = None

    async def announce(self, job_id: str) -> None:
        """Tell workers of a new job, as far as they do not find it by themselves."""
        if self.queue is not None:
            await self.queue.announce(job_id)

    async def close(self) -> None:
        """Let go of connections and files."""
        if self.queue is not None:
            await self.queue.close()
        await self.webhooks.close()
        await self.store.close()


def build(settings: GatewaySettings) -> JobService:
    """Make the parts; nothing is opened yet but the secret of the webhooks.

    Raises:
        GatewayError: the secret cannot be read or made.
    """
    jobs = settings.jobs
    secret = secret_files.load_or_make(jobs.webhook_secret_file or settings.data_dir / "webhook-secret")
    webhooks = Webhooks(jobs, secret)
    if jobs.queue == "sqlite":
        return JobService(jobs, SqliteStore(settings.data_dir / "jobs.sqlite", rules(jobs)), webhooks)
    from serving.jobs.redis_store import RedisStore
    from serving.jobs.taskiq_queue import TaskiqQueue

    store = RedisStore(jobs.redis_url, rules(jobs))
    return JobService(jobs, store, webhooks, TaskiqQueue(jobs.redis_url, jobs.lease_seconds))


def rules(settings: Jobs) -> Rules:
    """Return the limits and times that a store holds to."""
    return Rules(
        max_pending=settings.max_pending,
        max_pending_bytes=settings.max_pending_bytes,
        max_attempts=settings.max_attempts,
        lease_seconds=settings.lease_seconds,
        result_seconds=settings.result_hours * 3600,
    )

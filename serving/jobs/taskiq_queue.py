"""taskiq on Redis streams: tells workers on any machine of jobs, at least once.

Only ids travel; the jobs are in `redis_store`, whose leases make a second delivery harmless. A message that a killed
worker had taken is claimed by another after the lease; for a message that was never sent, because the gateway died
between keeping a job and announcing it, `Worker` asks the store itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from serving.jobs.redis_store import PREFIX
from serving.jobs.store import StoreError

_TASK = "slipway.jobs.attend"
_AT_ONCE = 4


class TaskiqQueue:
    """Announces ids and hands them to workers.

    Args:
        url: of Redis.
        lease_seconds: after which the message of a silent worker goes to another.
        prefix: start of the stream's name.
    """

    def __init__(self, url: str, lease_seconds: float, prefix: str = PREFIX) -> None:
        """Connect to nothing yet."""
        from taskiq_redis import RedisStreamBroker

        self._broker = RedisStreamBroker(
            url,
            queue_name=f"{prefix}stream",
            consumer_group_name="workers",
            # From the beginning: what was announced before the first worker came must not be passed over.
            consumer_id="0",
            idle_timeout=max(1000, round(lease_seconds * 1000)),
            xread_block=500,
            maxlen=100_000,
        )
        self._attend: Callable[[str], Awaitable[None]] | None = None

        # taskiq renames what it registers, which a bound method does not allow.
        async def attend(job_id: str) -> None:
            await self._run(job_id)

        self._task: Any = self._broker.register_task(attend, task_name=_TASK)
        self._in_hand: set[asyncio.Future[None]] = set()
        self._is_started = False
        self._starting = asyncio.Lock()

    async def announce(self, job_id: str) -> None:
        """Tell the workers of a job.

        Raises:
            StoreError: Redis is away.
        """
        from redis.exceptions import RedisError
        from taskiq.exceptions import TaskiqError

        try:
            async with self._starting:
                if not self._is_started:
                    await self._broker.startup()
                    self._is_started = True
            await self._task.kiq(job_id)
        except (RedisError, TaskiqError, OSError) as error:
            raise StoreError(f"Redis cannot announce jobs: {error}") from error

    async def work(self, attend: Callable[[str], Awaitable[None]], stopping: asyncio.Event) -> None:
        """Let taskiq call a function for each announced id until told to stop; Redis is waited for."""
        from taskiq.acks import AcknowledgeType
        from taskiq.api import run_receiver_task

        self._attend = attend
        self._broker.is_worker_process = True
        while not stopping.is_set():
            receiver = asyncio.create_task(
                run_receiver_task(
                    self._broker,
                    max_async_tasks=_AT_ONCE,
                    run_startup=True,
                    ack_time=AcknowledgeType.WHEN_EXECUTED,
                )
            )
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({receiver, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not receiver.done():
                receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)
            if not stopping.is_set():
                await asyncio.sleep(1.0)
        if self._in_hand:
            await asyncio.wait(self._in_hand)

    async def close(self) -> None:
        """Close the connections."""
        await self._broker.shutdown()

    async def _run(self, job_id: str) -> None:
        assert self._attend is not None
        work = asyncio.ensure_future(self._attend(job_id))
        self._in_hand.add(work)
        work.add_done_callback(self._in_hand.discard)
        # The receiver is cancelled at the end; a job in hand is finished all the same.
        await asyncio.shield(work)

"""taskiq on a real Redis: every announced id arrives, whenever the worker comes."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from serving.jobs.store import StoreError
from serving.jobs.taskiq_queue import TaskiqQueue
from tests.serving.jobs.conftest import RedisServer


def test_what_was_announced_before_and_while_a_worker_is_there_arrives(redis_server: RedisServer) -> None:
    prefix = f"test:{{{secrets.token_hex(4)}}}:"
    seen: list[str] = []

    async def run() -> None:
        sender, receiver = (TaskiqQueue(redis_server.url, 60, prefix) for _ in range(2))
        await sender.announce("early")
        stopping, slow = asyncio.Event(), asyncio.Event()

        async def attend(job_id: str) -> None:
            if job_id == "slow":
                stopping.set()
                await slow.wait()
            seen.append(job_id)

        work = asyncio.create_task(receiver.work(attend, stopping))
        await sender.announce("late")
        while len(seen) < 2:
            await asyncio.sleep(0.02)
        await sender.announce("slow")
        await stopping.wait()
        slow.set()
        await work
        assert seen == ["early", "late", "slow"], "a job in hand is finished before the worker ends"
        await sender.close()
        await receiver.close()

    asyncio.run(asyncio.wait_for(run(), 90))


def test_a_job_that_fails_does_not_end_the_worker(redis_server: RedisServer) -> None:
    prefix = f"test:{{{secrets.token_hex(4)}}}:"
    seen: list[str] = []

    async def run() -> None:
        queue, stopping = TaskiqQueue(redis_server.url, 60, prefix), asyncio.Event()

        async def attend(job_id: str) -> None:
            seen.append(job_id)
            if job_id == "bad":
                raise StoreError("away")
            stopping.set()

        await queue.announce("bad")
        await queue.announce("good")
        await queue.work(attend, stopping)
        await queue.close()

    asyncio.run(asyncio.wait_for(run(), 90))
    assert seen == ["bad", "good"]


def test_redis_that_is_away_is_told() -> None:
    with pytest.raises(StoreError, match="cannot announce"):
        asyncio.run(TaskiqQueue("redis://127.0.0.1:1/0", 60).announce("x"))

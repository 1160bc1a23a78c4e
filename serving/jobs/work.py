"""The work on jobs: a leased job in, a settled one out; webhooks that are due, delivered.

`Worker.run` asks the embedded queue; with Redis, taskiq calls `Worker.attend` for each job, and `run` asks only for
what no message announces. Any number of workers may run in any number of processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from serving.client.errors import ClientError
from serving.gateway import asking
from serving.gateway.answers import BatchItem, ItemError, ModelRef, prediction
from serving.gateway.errors import Problem
from serving.gateway.parts import Parts
from serving.gateway.pictures import Picture
from serving.jobs.records import JobView, Leased, Pictures
from serving.jobs.service import JobService
from serving.jobs.store import StoreError

_log = logging.getLogger("slipway.serving")
_IDLE_SECONDS = 0.25
_ROUND_SECONDS = 1.0
_AWAY_SECONDS = 2.0
_SWEEP_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 300.0


class Worker:
    """Works on jobs.

    Args:
        parts: of the gateway: the model server, the traffic, the signatures.
        service: where jobs are.
    """

    def __init__(self, parts: Parts, service: JobService) -> None:
        """Start nothing yet."""
        self._parts = parts
        self._service = service
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let `run` end after the job in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`; a store that is away is waited for."""
        beside = [asyncio.create_task(self._deliver_all()), asyncio.create_task(self._sweep_all())]
        try:
            if self._service.queue is not None:
                # Asking rarely is enough for what no message announces: second tries, and jobs of killed processes.
                beside.append(asyncio.create_task(self._repeat(self._next_job, _ROUND_SECONDS)))
                await self._service.queue.work(self.attend, self._stopping)
            else:
                await self._repeat(self._next_job)
        finally:
            self._stopping.set()
            await asyncio.gather(*beside)

    async def attend(self, job_id: str) -> None:
        """Work on a certain job, unless it is settled, not due yet, or in other hands."""
        leased = await self._service.store.lease(job_id)
        if leased is not None:
            await self._attend(leased)

    async def _next_job(self) -> bool:
        leased = await self._service.store.lease()
        if leased is not None:
            await self._attend(leased)
        return leased is not None

    async def _attend(self, leased: Leased) -> None:
        async with self._held(leased):
            try:
                result = await answer(self._parts, leased)
            except Problem as problem:
                error = {"code": problem.code, "message": problem.message}
                if problem.status < 500:
                    await self._service.store.finish(leased, None, error)
                else:
                    await self._service.store.retry(leased, self._wait(leased.attempts), error)
                return
            except StoreError:
                raise
            except Exception as failure:
                _log.error("job %s failed", leased.id, exc_info=failure)
                error = {"code": "internal", "message": f"the worker failed: {type(failure).__name__}"}
                await self._service.store.retry(leased, self._wait(leased.attempts), error)
                return
            await self._service.store.finish(leased, result, None)

    @contextlib.asynccontextmanager
    async def _held(self, leased: Leased) -> AsyncIterator[None]:
        """Extend the lease as long as the work takes."""

        async def hold() -> None:
            while True:
                await asyncio.sleep(self._service.settings.lease_seconds / 3)
                with contextlib.suppress(StoreError):
                    await self._service.store.extend(leased)

        task = asyncio.create_task(hold())
        try:
            yield
        finally:
            task.cancel()

    async def _deliver_all(self) -> None:
        await self._repeat(self._deliver_next)

    async def _deliver_next(self) -> bool:
        delivery = await self._service.store.lease_delivery()
        if delivery is None:
            return False
        attempt = await self._service.webhooks.deliver(delivery.url, public(delivery.view, with_delivery=False))
        is_last = attempt.is_final or delivery.attempts >= self._service.settings.webhook_attempts
        retry = None if attempt.error is None or is_last else self._wait(delivery.attempts)
        await self._service.store.settle_delivery(delivery, attempt.error, retry)
        if attempt.error:
            _log.warning("webhook of job %s, attempt %d: %s", delivery.view.id, delivery.attempts, attempt.error)
        return True

    async def _sweep_all(self) -> None:
        async def sweep() -> bool:
            await self._service.store.sweep()
            return False

        await self._repeat(sweep, _SWEEP_SECONDS)

    async def _repeat(self, step: Callable[[], Awaitable[bool]], idle_seconds: float = _IDLE_SECONDS) -> None:
        while not self._stopping.is_set():
            try:
                pause = 0.0 if await step() else idle_seconds
            except StoreError as error:
                _log.warning("%s", error)
                pause = _AWAY_SECONDS
            if pause:
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _wait(self, attempts: int) -> float:
        wait: float = self._service.settings.retry_seconds * 2 ** (attempts - 1)
        return min(_LONGEST_WAIT_SECONDS, wait)


async def answer(parts: Parts, leased: Leased) -> dict[str, Any]:
    """Ask the model about the pictures of a job.

    Args:
        parts: of the gateway.
        leased: the job.

    Returns:
        What `POST /predict/batch` would have answered, fit for JSON.

    Raises:
        Problem: the model server is to blame, so that another try may succeed.
    """
    request = leased.request
    contents = Pictures.split(leased.content, request["sizes"]).contents
    pictures = [Picture(one, hashlib.sha256(one).hexdigest(), "", 0, 0) for one in contents]
    asked = await asking.ask(parts, pictures, request["user"], leased.id)
    opinions = asked.reply.opinions
    problems = [asking.problem_of(one) for one in opinions if isinstance(one, ClientError)]
    blamed = [problem for problem in problems if problem.status >= 500]
    if blamed:
        raise blamed[0]
    items = []
    for index, (name, picture, opinion) in enumerate(zip(request["names"], pictures, opinions, strict=True)):
        item = BatchItem(index=index, name=name)
        if isinstance(opinion, ClientError):
            problem = asking.problem_of(opinion)
            item.error = ItemError(status=problem.status, code=problem.code, message=problem.message)
        else:
            item.prediction = prediction(opinion, asked.reply.facts, request["top_k"], request["threshold"])
            item.receipt = asking.receipt(parts, asked, picture, opinion, request["user"], f"{leased.id}.{index}")
        items.append(item)
    version = asked.reply.version
    assert version is not None
    return {
        "model": ModelRef(name=parts.settings.upstream.model, version=version, variant=asked.way.variant).model_dump(),
        "threshold": request["threshold"],
        "succeeded": sum(item.prediction is not None for item in items),
        "failed": sum(item.prediction is None for item in items),
        "items": [item.model_dump() for item in items],
    }


def public(view: JobView, *, with_delivery: bool = True) -> dict[str, Any]:
    """Return a job as its owner sees it, fit for JSON."""
    shown: dict[str, Any] = {
        "id": view.id,
        "state": view.state,
        "attempts": view.attempts,
        "created": view.created,
        "finished": view.finished,
        "expires": view.expires,
        "result": view.result,
        "error": view.error,
    }
    if with_delivery:
        shown["webhook"] = {
            "state": view.delivery,
            "attempts": view.delivery_attempts,
            "error": view.delivery_error or None,
        }
    return shown

"""Jobs in Redis: for gateways and workers on several machines.

Every change is one Lua script, so that nothing is ever half done. Redis has to keep an append-only file, or jobs die
with it; `check` says so. Called by `service`; taskiq carries the ids, the truth is here.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

from serving.jobs.records import Delivery, JobView, Leased, Load, NewJob, Rules, lost_worker
from serving.jobs.redis_scripts import SCRIPTS
from serving.jobs.store import KeyReusedError, QueueFullError, StoreError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger("slipway.serving")
PREFIX = "slipway:{jobs}:"
"""Start of all keys; the braces keep them on one node of a cluster, as the scripts need."""


class RedisStore:
    """A `store.JobStore` in Redis.

    Args:
        url: such as `redis://host:6379/0` or `unix:///run/redis.sock`.
        rules: limits and times.
        prefix: start of all keys.
    """

    def __init__(self, url: str, rules: Rules, prefix: str = PREFIX) -> None:
        """Connect to nothing yet."""
        from redis.asyncio import Redis

        self._redis: Redis = Redis.from_url(url, socket_connect_timeout=5, health_check_interval=30)
        self._rules = rules
        self._prefix = prefix
        self._scripts = {name: self._redis.register_script(text) for name, text in SCRIPTS.items()}

    async def submit(self, job: NewJob) -> tuple[str, bool]:
        """See `JobStore`."""
        fields = {
            "owner": job.owner,
            "fingerprint": job.fingerprint,
            "request": json.dumps(job.request),
            "content": job.content,
            "size": len(job.content),
            "created": repr(time.time()),
            "webhook": job.webhook or "",
            "delivery": "pending" if job.webhook else "none",
        }
        flat = [part for pair in fields.items() for part in pair]
        idempotency = "" if job.idempotency is None else job.idempotency
        limits = (self._rules.max_pending, self._rules.max_pending_bytes)
        outcome, detail = await self._call("submit", job.id, idempotency, job.fingerprint, *limits, *flat)
        if outcome == b"full":
            raise QueueFullError(f"{detail.decode()} wait already")
        if outcome == b"reused":
            raise KeyReusedError("the idempotency key belongs to another request")
        return detail.decode(), outcome == b"new"

    async def get(self, job_id: str) -> JobView | None:
        """See `JobStore`."""
        found = await self._guard(self._redis.hgetall(f"{self._prefix}job:{job_id}"))
        return _view(job_id, found) if found else None

    async def lease(self, job_id: str | None = None) -> Leased | None:
        """See `JobStore`."""
        while True:
            token = secrets.token_hex(8)
            found = await self._call(
                "lease", job_id or "", token, repr(self._rules.lease_seconds), self._rules.max_attempts
            )
            if not found:
                return None
            chosen, attempts, request, content = found
            leased = Leased(chosen.decode(), token, int(attempts), json.loads(request), content)
            if leased.attempts <= self._rules.max_attempts:
                return leased
            await self.finish(leased, None, lost_worker(self._rules.max_attempts))

    async def extend(self, leased: Leased) -> bool:
        """See `JobStore`."""
        return bool(await self._call("extend", leased.id, leased.token, repr(self._rules.lease_seconds)))

    async def finish(self, leased: Leased, result: dict[str, Any] | None, error: dict[str, Any] | None) -> bool:
        """See `JobStore`."""
        outcome = ("done", "result", json.dumps(result)) if error is None else ("dead", "error", json.dumps(error))
        seconds = max(1, round(self._rules.result_seconds))
        return bool(await self._call("finish", leased.id, leased.token, *outcome, seconds))

    async def retry(self, leased: Leased, delay_seconds: float, error: dict[str, Any]) -> bool:
        """See `JobStore`."""
        if leased.attempts >= self._rules.max_attempts:
            return await self.finish(leased, None, error)
        return bool(await self._call("retry", leased.id, leased.token, repr(delay_seconds), json.dumps(error)))

    async def lease_delivery(self) -> Delivery | None:
        """See `JobStore`."""
        token = secrets.token_hex(8)
        found = await self._call("lease_delivery", token, repr(self._rules.lease_seconds))
        if not found:
            return None
        view = await self.get(found[0].decode())
        return None if view is None else Delivery(token, found[1].decode(), view.delivery_attempts, view)

    async def settle_delivery(self, delivery: Delivery, error: str | None, retry_seconds: float | None) -> bool:
        """See `JobStore`."""
        state = "delivered" if error is None else "failed" if retry_seconds is None else "pending"
        wait = "" if retry_seconds is None else repr(retry_seconds)
        return bool(await self._call("settle_delivery", delivery.view.id, delivery.token, state, error or "", wait))

    async def load(self) -> Load:
        """See `JobStore`."""
        jobs, size = await self._call("load")
        return Load(int(jobs), int(size))

    async def sweep(self) -> int:
        """See `JobStore`; Redis lets finished jobs expire by itself."""
        return 0

    async def check(self) -> None:
        """Warn if Redis would lose jobs in a crash.

        Raises:
            StoreError: Redis is away.
        """
        from redis.exceptions import ResponseError

        try:
            found = await self._guard(self._redis.config_get("appendonly"))
        except ResponseError:
            return  # hosted Redis does not tell
        if found.get("appendonly") == "no":
            _log.warning("Redis keeps no append-only file: a crash of Redis loses jobs; set `appendonly yes`")

    async def close(self) -> None:
        """See `JobStore`."""
        await self._redis.aclose()

    async def _call(self, script: str, *arguments: Any) -> Any:
        return await self._guard(self._scripts[script](keys=[self._prefix], args=list(arguments)))

    @staticmethod
    async def _guard(work: Any) -> Any:
        from redis.exceptions import RedisError, ResponseError

        try:
            return await work
        except ResponseError:
            raise
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis cannot keep jobs: {error}") from error


def _view(job_id: str, found: dict[bytes, bytes]) -> JobView:
    values = {key.decode(): value for key, value in found.items()}

    def number(key: str) -> float | None:
        return float(values[key]) if values.get(key) else None

    def document(key: str) -> dict[str, Any] | None:
        return json.loads(values[key]) if values.get(key) else None

    return JobView(
        id=job_id,
        owner=values["owner"].decode(),
        state=values["state"].decode(),  # type: ignore[arg-type]
        attempts=int(values.get("attempts", b"0")),
        created=float(values["created"]),
        finished=number("finished"),
        expires=number("expires"),
        result=document("result"),
        error=document("error"),
        delivery=values["delivery"].decode(),  # type: ignore[arg-type]
        delivery_attempts=int(values.get("delivery_attempts", b"0")),
        delivery_error=values["delivery_error"].decode() if values.get("delivery_error") else None,
    )

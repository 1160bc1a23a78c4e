"""All parts of one running gateway, made from its settings in one place.

Called by `app` and by the workers of `serving.jobs`; the routes get the whole of it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from serving.gateway import secret_files
from serving.gateway.access import Access, RateLimiter
from serving.gateway.audit import AuditLog
from serving.gateway.errors import GatewayError
from serving.gateway.feedback import FeedbackStore
from serving.gateway.gate import Gate
from serving.gateway.keys import KeyStore
from serving.gateway.metrics import Metrics
from serving.gateway.model_server import ModelServer
from serving.gateway.pictures import Picture, inspect
from serving.gateway.routing import Router
from serving.gateway.settings import GatewaySettings
from serving.gateway.signing import Signer
from serving.gateway.tokens import TokenVerifier

if TYPE_CHECKING:
    from serving.client import AsyncClient

T = TypeVar("T")


@dataclass
class Parts:
    """What the routes work with.

    Attributes:
        settings: all of them.
        server: the model.
        router: splits traffic.
        access: tells callers apart.
        limiter: counts their requests.
        gate: bounds the work under way.
        feedback: keeps verdicts, or None.
        audit: the log, or None.
        metrics: the counters.
        signer: signs receipts and cookies.
        decoders: threads that check pictures.
    """

    settings: GatewaySettings
    server: ModelServer
    router: Router
    access: Access
    limiter: RateLimiter
    gate: Gate
    feedback: FeedbackStore | None
    audit: AuditLog | None
    metrics: Metrics
    signer: Signer
    decoders: ThreadPoolExecutor

    async def inspect(self, data: bytes) -> Picture:
        """Check a picture in a thread.

        Raises:
            Problem: as `pictures.inspect`.
        """
        return await self.in_thread(functools.partial(inspect, data, self.settings.images))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.decoders, work)

    async def close(self) -> None:
        """Finish what is under way and let go of everything."""
        await self.router.close()
        await self.server.close()
        if self.audit is not None:
            await asyncio.to_thread(self.audit.close)
        self.decoders.shutdown(wait=False, cancel_futures=True)


def build(settings: GatewaySettings, client: AsyncClient | None = None) -> Parts:
    """Make the parts; files and folders in the data directory are made as needed.

    Args:
        settings: all of them.
        client: asks the model server; made from the settings if None.

    Raises:
        GatewayError: a file that the settings name cannot be used, or the data directory cannot be written.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GatewayError(f"data_dir {settings.data_dir} cannot be made: {error.strerror}; name another") from None
    pepper = secret_files.load_or_make(settings.pepper_file)
    signer = Signer(pepper)
    metrics = Metrics()
    limiter = RateLimiter(settings.limits)
    tokens = TokenVerifier(settings.access.jwt) if settings.access.jwt else None
    keys = KeyStore(settings.keys_file, pepper)
    return Parts(
        settings=settings,
        server=ModelServer(settings.upstream, client or _client(settings)),
        router=Router(settings.traffic),
        access=Access(keys, tokens, limiter, signer, settings.access.anonymous),
        limiter=limiter,
        gate=Gate(settings.limits.concurrency, metrics),
        feedback=FeedbackStore(settings.data_dir / "feedback", settings.feedback)
        if settings.feedback.enabled
        else None,
        audit=_audit(settings, metrics),
        metrics=metrics,
        signer=signer,
        decoders=ThreadPoolExecutor(settings.limits.decoders, thread_name_prefix="decode"),
    )


def _client(settings: GatewaySettings) -> AsyncClient:
    from serving.client import AsyncClient

    return AsyncClient(
        settings.upstream.url, settings.upstream.model, timeout_seconds=settings.upstream.timeout_seconds
    )


def _audit(settings: GatewaySettings, metrics: Metrics) -> AuditLog | None:
    if not settings.audit.enabled:
        return None
    return AuditLog(settings.data_dir / "audit.jsonl", settings.audit, metrics.audit_dropped.inc)

"""The composition of the gateway: settings in, one ASGI application out.

Called by `serving.gateway.__main__` and by tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from serving.gateway import feedback_routes, operations, page_routes, parts, predicting, problems
from serving.gateway.edge import Edge
from serving.gateway.settings import GatewaySettings
from serving.jobs import routes as job_routes
from serving.jobs import service as job_service
from serving.jobs.work import Worker

if TYPE_CHECKING:
    from serving.client import AsyncClient

_DESCRIPTION = """
Send a picture, get its class, the probabilities, and which version of the model answered.

Keys and tokens go into `Authorization: Bearer ...` or `X-API-Key`. Every answer carries an `X-Request-ID`; a valid one
of yours is taken over. Errors are `{"error": {"code", "message", "request_id"}}`.
"""


def build_app(settings: GatewaySettings, client: AsyncClient | None = None) -> FastAPI:
    """Build the gateway.

    Args:
        settings: all of them.
        client: asks the model server; made from the settings if None.

    Returns:
        The application; `app.state.parts` and `app.state.jobs` hold its parts, which end with its lifespan.

    Raises:
        GatewayError: a file that the settings name cannot be used, or the data directory cannot be written.
    """
    made = parts.build(settings, client)
    jobs = job_service.build(settings) if settings.jobs.enabled else None

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        team = [Worker(made, jobs) for _ in range(settings.jobs.workers)] if jobs else []
        at_work = [asyncio.create_task(worker.run()) for worker in team]
        try:
            yield
        finally:
            for worker in team:
                worker.stop()
            await asyncio.gather(*at_work)
            if jobs is not None:
                await jobs.close()
            await made.close()

    app = FastAPI(
        title=f"{settings.page.title} gateway",
        description=_DESCRIPTION,
        version="1",
        # FastAPI's own documentation page loads scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.parts = made
    app.state.jobs = jobs
    problems.install(app)
    app.include_router(predicting.routes(made))
    if made.feedback is not None:
        app.include_router(feedback_routes.routes(made, made.feedback))
    if jobs is not None:
        app.include_router(job_routes.routes(made, jobs))
    app.include_router(operations.routes(made))
    if settings.page.enabled:
        app.include_router(page_routes.routes(settings))
    if settings.listen.allowed_hosts != ("*",):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.listen.allowed_hosts), www_redirect=False)
    app.add_middleware(Edge, metrics=made.metrics, audit=made.audit, signer=made.signer)
    return app

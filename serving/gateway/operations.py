"""`/healthz`, `/readyz`, `/metrics`, `/model`, `/admin/status`: what orchestrators, Prometheus and operators ask.

Registered by `app`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from serving.client.errors import ClientError
from serving.gateway import asking
from serving.gateway.access import user_key
from serving.gateway.model_server import EXPLAIN
from serving.gateway.parts import Parts
from serving.gateway.problems import documented


class ModelAnswer(BaseModel):
    """The model as the caller gets it."""

    name: str
    version: int
    variant: str
    labels: list[str]
    explains: bool
    formats: list[str]
    max_bytes: int
    takes_feedback: bool


def routes(parts: Parts) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Alive?", response_class=Response, responses={200: {"description": "Alive"}})
    async def healthz() -> Response:
        """Answer as long as the process does anything at all."""
        return Response("ok\n", media_type="text/plain")

    @router.get(
        "/readyz",
        summary="Ready?",
        response_class=Response,
        responses=documented(503),
    )
    async def readyz() -> Response:
        """Answer 200 if the model server has a version that can answer."""
        try:
            version = await parts.server.version(parts.router.way("").label)
        except ClientError as error:
            raise asking.problem_of(error) from error
        return Response(f"version {version}\n", media_type="text/plain")

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        """Return counters in Prometheus' text format."""
        return Response(parts.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get(
        "/model",
        summary="Class names and limits",
        response_model=ModelAnswer,
        responses=documented(401, 403, 429, 502, 503, 504),
    )
    async def model(request: Request) -> ModelAnswer:
        """Return what a page needs to know beforehand."""
        caller = await parts.access.caller(request, "predict")
        await parts.limiter.spend("request", f"{caller.kind}:{caller.identity}")
        way = parts.router.way(user_key(caller))
        try:
            version = await parts.server.version(way.label)
            facts = await parts.server.facts(version)
        except ClientError as error:
            raise asking.problem_of(error) from error
        return ModelAnswer(
            name=parts.settings.upstream.model,
            version=version,
            variant=way.variant,
            labels=list(facts.labels),
            explains=EXPLAIN in facts.signatures,
            formats=list(parts.settings.images.formats),
            max_bytes=parts.settings.images.max_bytes,
            takes_feedback=parts.feedback is not None,
        )

    @router.get("/admin/status", summary="State of the gateway", responses=documented(401, 403, 429))
    async def status(request: Request) -> dict[str, Any]:
        """Return versions, traffic, feedback and the settings in force; for administrators."""
        await parts.access.caller(request, "admin")
        try:
            version: int | str = await parts.server.version(parts.router.way("").label)
        except ClientError as error:
            version = error.message
        return {
            "version": version,
            "traffic": parts.router.describe(),
            "feedback": parts.feedback.counts() if parts.feedback else None,
            "settings": parts.settings.model_dump(mode="json"),
        }

    return router

"""`POST /jobs` and `GET /jobs/{id}`.

Comes in: pictures, as for `POST /predict/batch`, with an optional webhook and `Idempotency-Key`. Goes out: 202 with an
id, later the result. Registered by the gateway's `app`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serving.gateway import uploads
from serving.gateway.access import Caller, user_key
from serving.gateway.answers import BatchItem, ModelRef
from serving.gateway.errors import Problem
from serving.gateway.parts import Parts
from serving.gateway.predicting import Threshold, TopK
from serving.gateway.problems import documented
from serving.jobs.records import JobView, NewJob, Pictures
from serving.jobs.service import JobService
from serving.jobs.store import KeyReusedError, QueueFullError, StoreError
from serving.jobs.work import public

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ID = re.compile(r"[0-9a-f]{32}")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "webhook": {"type": "string", "format": "uri", "description": "Gets the result by POST."},
                    },
                }
            }
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 255},
            "description": "A request that is repeated with the same key makes no second job.",
        }
    ],
}


class JobResult(BaseModel):
    """The answers, as of a batch."""

    model: ModelRef
    threshold: float
    succeeded: int
    failed: int
    items: list[BatchItem]


class JobError(BaseModel):
    """Why the last try failed."""

    code: str
    message: str


class WebhookState(BaseModel):
    """What became of the delivery."""

    state: str = Field(description="`none`, `pending`, `delivered` or `failed`.")
    attempts: int
    error: str | None


class JobAnswer(BaseModel):
    """A job. Times are seconds since 1970."""

    id: str = Field(examples=["0f8e2f6c5f1d4f7e9a7b3c2d1e0f9a8b"])
    state: str = Field(description="`waiting`, `running`, `done`, or `dead` after too many tries.", examples=["done"])
    attempts: int
    created: float
    finished: float | None
    expires: float | None = Field(description="When the result is forgotten.")
    result: JobResult | None
    error: JobError | None
    webhook: WebhookState


class Accepted(BaseModel):
    """A job that is kept and will be done."""

    id: str
    state: str = "waiting"
    url: str = Field(description="Where to ask for it.", examples=["/jobs/0f8e2f6c5f1d4f7e9a7b3c2d1e0f9a8b"])


def routes(parts: Parts, service: JobService) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["jobs"])

    @router.post(
        "/jobs",
        status_code=202,
        summary="Have pictures classified later",
        response_model=Accepted,
        responses=documented(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
        openapi_extra=_BODY,
    )
    async def submit(request: Request, response: Response, top_k: TopK = None, threshold: Threshold = None) -> Accepted:
        """Accept pictures; after 202 they are kept until they are answered, whatever is killed in between."""
        caller = await parts.access.caller(request, "predict")
        await parts.limiter.spend("request", f"{caller.kind}:{caller.identity}")
        limits = parts.settings.images
        with parts.gate.enter(-(-limits.max_batch_bytes // limits.max_bytes)):
            form = await uploads.read(
                request,
                max_bytes=limits.max_batch_bytes,
                max_files=limits.max_batch,
                seconds=parts.settings.listen.body_seconds,
            )
            job = await _job(parts, service, request, caller, form, top_k, threshold)
            job_id, is_new = await _submit(service, job)
        if not is_new:
            response.headers["Idempotent-Replay"] = "true"
        response.headers["Location"] = f"jobs/{job_id}"
        request.state.audit = {"job": job_id, "items": len(form.files)}
        return Accepted(id=job_id, url=f"{request.scope.get('root_path', '')}/jobs/{job_id}")

    @router.get(
        "/jobs/{job_id}",
        summary="Ask for a job",
        response_model=JobAnswer,
        responses=documented(401, 403, 404, 429, 503),
    )
    async def get(request: Request, response: Response, job_id: str) -> dict[str, Any]:
        """Return the state of a job, and its result once it is done."""
        caller = await parts.access.caller(request, "predict")
        await parts.limiter.spend("request", f"{caller.kind}:{caller.identity}")
        view = await _view(service, job_id)
        if view is None or (view.owner != _owner(parts, caller) and "admin" not in caller.roles):
            raise Problem(404, "no_job", "there is no such job, or its result has expired")
        if view.state in ("waiting", "running"):
            response.headers["Retry-After"] = "1"
        return public(view)

    return router


async def _job(
    parts: Parts,
    service: JobService,
    request: Request,
    caller: Caller,
    form: uploads.Form,
    top_k: int | None,
    threshold: float | None,
) -> NewJob:
    if not form.files:
        raise Problem(422, "no_file", "the form has no files; send pictures as fields `image`")
    pictures = await asyncio.gather(*(parts.inspect(file.content) for file in form.files))
    webhook = service.webhooks.check(form.fields["webhook"]) if form.fields.get("webhook") else None
    asked = {
        "names": [file.name for file in form.files],
        "sizes": [len(picture.content) for picture in pictures],
        "top_k": top_k or parts.settings.answers.top_k,
        "threshold": parts.settings.answers.threshold if threshold is None else threshold,
    }
    fingerprint = hashlib.sha256(
        json.dumps([asked, [picture.digest for picture in pictures], webhook], sort_keys=True).encode()
    )
    return NewJob(
        id=secrets.token_hex(16),
        owner=_owner(parts, caller),
        fingerprint=fingerprint.hexdigest(),
        request={**asked, "user": user_key(caller)},
        content=Pictures([picture.content for picture in pictures]).joined(),
        idempotency=_idempotency(parts, request, caller),
        webhook=webhook,
    )


async def _submit(service: JobService, job: NewJob) -> tuple[str, bool]:
    try:
        job_id, is_new = await service.store.submit(job)
        # Also for a repeated request: the first one may have been cut off before the job was announced.
        await service.announce(job_id)
    except QueueFullError as error:
        raise Problem(429, "queue_full", f"{error}; come back later", {"Retry-After": "10"}) from error
    except KeyReusedError as error:
        raise Problem(409, "key_reused", f"{error}; use a new Idempotency-Key") from error
    except StoreError as error:
        raise _away() from error
    return job_id, is_new


async def _view(service: JobService, job_id: str) -> JobView | None:
    if not _ID.fullmatch(job_id):
        return None
    try:
        return await service.store.get(job_id)
    except StoreError as error:
        raise _away() from error


def _away() -> Problem:
    return Problem(503, "jobs_unavailable", "jobs cannot be kept at the moment; try again", {"Retry-After": "5"})


def _owner(parts: Parts, caller: Caller) -> str:
    """Return who may fetch a job; of people without a key everybody who knows its id."""
    if caller.kind == "anonymous":
        return "anonymous"
    return parts.signer.hashed("jobs.owner", f"{caller.kind}:{caller.identity}")


def _idempotency(parts: Parts, request: Request, caller: Caller) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Problem(422, "bad_key", "Idempotency-Key must be 1 to 255 printable ASCII characters without spaces")
    # Keys of different clients must not meet.
    return (
        parts.signer.hashed("jobs.key", f"{caller.kind}:{caller.identity}")
        + ":"
        + hashlib.sha256(key.encode()).hexdigest()
    )

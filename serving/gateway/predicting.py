"""`POST /predict` and `POST /predict/batch`.

Comes in: pictures, as a form or as the body itself. Goes out: `answers`. Registered by `app`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from serving.client.errors import ClientError
from serving.gateway import asking, uploads
from serving.gateway.access import Caller, user_key
from serving.gateway.answers import (
    BatchAnswer,
    BatchItem,
    ItemError,
    ModelRef,
    PredictAnswer,
    explanation,
    prediction,
)
from serving.gateway.errors import Problem
from serving.gateway.parts import Parts
from serving.gateway.pictures import Picture
from serving.gateway.problems import documented, request_id

_IMAGE = {"type": "string", "format": "binary"}
_ENCODINGS = {"image": {"contentType": "image/png, image/jpeg, image/gif, image/bmp, image/webp"}}


def _body(multipart: dict[str, Any], *, raw: bool) -> dict[str, Any]:
    form = {"schema": {"type": "object", "properties": multipart, "required": list(multipart)}, "encoding": _ENCODINGS}
    content: dict[str, Any] = {"multipart/form-data": form}
    if raw:
        content |= {f"image/{kind}": {"schema": _IMAGE} for kind in ("png", "jpeg", "gif", "bmp", "webp")}
    return {"requestBody": {"required": True, "content": content}}


TopK = Annotated[int | None, Query(ge=1, le=1000, description="Classes to list.", examples=[3])]
Threshold = Annotated[
    float | None, Query(ge=0, le=1, description='Confidence below which the answer is "not sure".', examples=[0.8])
]
Explain = Annotated[bool, Query(description="Ask for Grad-CAM, if the version was exported with it.")]


def routes(parts: Parts) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["prediction"])

    @router.post(
        "/predict",
        summary="Classify one picture",
        response_model=PredictAnswer,
        responses=documented(400, 401, 403, 408, 413, 415, 422, 429, 502, 503, 504),
        openapi_extra=_body({"image": _IMAGE}, raw=True),
    )
    async def predict(
        request: Request,
        response: Response,
        top_k: TopK = None,
        threshold: Threshold = None,
        explain: Explain = False,
    ) -> PredictAnswer:
        """Send a picture as the form field `image` or as the body itself."""
        started = time.monotonic()
        caller = await _admit(parts, request)
        with parts.gate.enter():
            picture = await _single(parts, request)
            asked = await asking.ask(parts, [picture], user_key(caller), request_id(request), explain=explain)
        _keep_on_variant(parts, caller, request, response)
        return _answer(parts, request, caller, picture, asked, top_k, threshold, explain, started)

    @router.post(
        "/predict/batch",
        summary="Classify several pictures",
        response_model=BatchAnswer,
        responses=documented(400, 401, 403, 408, 413, 415, 422, 429, 502, 503, 504),
        openapi_extra=_body({"image": {"type": "array", "items": _IMAGE}}, raw=False),
    )
    async def predict_batch(
        request: Request, response: Response, top_k: TopK = None, threshold: Threshold = None
    ) -> BatchAnswer:
        """Send pictures as form fields `image`; one that is damaged gets an error of its own, the others answers."""
        started = time.monotonic()
        caller = await _admit(parts, request)
        limits = parts.settings.images
        with parts.gate.enter(-(-limits.max_batch_bytes // limits.max_bytes)):
            form = await uploads.read(
                request,
                max_bytes=limits.max_batch_bytes,
                max_files=limits.max_batch,
                seconds=parts.settings.listen.body_seconds,
            )
            answer = await _batch(parts, request, caller, form.files, top_k, threshold)
        _keep_on_variant(parts, caller, request, response)
        return answer.model_copy(update={"milliseconds": _since(started)})

    return router


async def _admit(parts: Parts, request: Request) -> Caller:
    caller = await parts.access.caller(request, "predict")
    await parts.limiter.spend("request", f"{caller.kind}:{caller.identity}")
    return caller


def _keep_on_variant(parts: Parts, caller: Caller, request: Request, response: Response) -> None:
    cookie = parts.access.new_cookie(caller, request) if parts.router.is_splitting else None
    if cookie:
        response.headers["set-cookie"] = cookie


async def _single(parts: Parts, request: Request) -> Picture:
    form = await uploads.read(
        request,
        max_bytes=parts.settings.images.max_bytes,
        max_files=1,
        seconds=parts.settings.listen.body_seconds,
    )
    if not form.files:
        raise Problem(422, "no_file", "the form has no file; send the picture as the field `image`")
    return await parts.inspect(form.files[0].content)


def _answer(
    parts: Parts,
    request: Request,
    caller: Caller,
    picture: Picture,
    asked: asking.Asked,
    top_k: int | None,
    threshold: float | None,
    explain: bool,
    started: float,
) -> PredictAnswer:
    opinion, version = asked.reply.opinions[0], asked.reply.version
    if isinstance(opinion, ClientError) or version is None:
        assert isinstance(opinion, ClientError)
        raise asking.problem_of(opinion)
    limit = parts.settings.answers.threshold if threshold is None else threshold
    found = prediction(opinion, asked.reply.facts, top_k or parts.settings.answers.top_k, limit)
    _count(parts, asked, version, found.sure)
    request.state.audit = {"items": 1, "variant": asked.way.variant, "version": version, "sure": found.sure}
    return PredictAnswer(
        **dict(found),
        request_id=request_id(request),
        model=ModelRef(name=parts.settings.upstream.model, version=version, variant=asked.way.variant),
        threshold=limit,
        milliseconds=_since(started),
        receipt=asking.receipt(parts, asked, picture, opinion, user_key(caller), request_id(request)),
        explanation=explanation(opinion.heatmap, version) if explain else None,
    )


async def _batch(
    parts: Parts,
    request: Request,
    caller: Caller,
    files: list[uploads.Upload],
    top_k: int | None,
    threshold: float | None,
) -> BatchAnswer:
    if not files:
        raise Problem(422, "no_file", "the form has no files; send pictures as fields `image`")
    inspected = await asyncio.gather(*(parts.inspect(file.content) for file in files), return_exceptions=True)
    pictures = [one for one in inspected if isinstance(one, Picture)]
    asked = await asking.ask(parts, pictures, user_key(caller), request_id(request)) if pictures else None
    opinions = iter(asked.reply.opinions if asked else ())
    limit = parts.settings.answers.threshold if threshold is None else threshold
    items = []
    for index, (file, seen) in enumerate(zip(files, inspected, strict=True)):
        item = BatchItem(index=index, name=file.name)
        opinion = next(opinions) if isinstance(seen, Picture) else None
        if opinion is None or isinstance(opinion, ClientError):
            item.error = _item_error(seen if opinion is None else opinion)
        else:
            assert asked is not None and asked.reply.version is not None and isinstance(seen, Picture)
            item.prediction = prediction(opinion, asked.reply.facts, top_k or parts.settings.answers.top_k, limit)
            item.receipt = asking.receipt(
                parts, asked, seen, opinion, user_key(caller), f"{request_id(request)}.{index}"
            )
            _count(parts, asked, asked.reply.version, item.prediction.sure)
        items.append(item)
    return _batch_answer(parts, request, asked, items, limit)


def _batch_answer(
    parts: Parts, request: Request, asked: asking.Asked | None, items: list[BatchItem], threshold: float
) -> BatchAnswer:
    succeeded = sum(item.prediction is not None for item in items)
    version = asked.reply.version if asked else None
    _raise_if_the_server_is_to_blame(asked, succeeded)
    variant = asked.way.variant if asked else ""
    request.state.audit = {"items": len(items), "failed": len(items) - succeeded, "version": version}
    return BatchAnswer(
        request_id=request_id(request),
        model=None
        if version is None
        else ModelRef(name=parts.settings.upstream.model, version=version, variant=variant),
        threshold=threshold,
        milliseconds=0,
        succeeded=succeeded,
        failed=len(items) - succeeded,
        items=items,
    )


def _raise_if_the_server_is_to_blame(asked: asking.Asked | None, succeeded: int) -> None:
    """Tell a batch that failed as a whole for the server's sake from one of bad pictures: it can be sent again."""
    if asked is None or succeeded:
        return
    problems = [asking.problem_of(one) for one in asked.reply.opinions if isinstance(one, ClientError)]
    if problems and all(problem.status >= 500 for problem in problems):
        raise problems[0]


def _item_error(error: Picture | BaseException) -> ItemError:
    problem = asking.problem_of(error) if isinstance(error, ClientError) else error
    if not isinstance(problem, Problem):
        assert isinstance(problem, BaseException)
        raise problem
    return ItemError(status=problem.status, code=problem.code, message=problem.message)


def _count(parts: Parts, asked: asking.Asked, version: int, sure: bool) -> None:
    parts.metrics.predictions.labels(asked.way.variant, str(version), str(sure).lower()).inc()


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 2)

"""`POST /feedback` and what administrators may see of it.

Comes in: the receipt of an answer, right or wrong, the right label, the picture. Goes out: a line in the history and
a file in its class. Registered by `app`.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from serving.gateway import asking, uploads
from serving.gateway.errors import Problem
from serving.gateway.feedback import FeedbackStore, Verdict
from serving.gateway.parts import Parts
from serving.gateway.pictures import Picture
from serving.gateway.problems import documented

_LONGEST_LABEL = 200
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["receipt", "verdict"],
                    "properties": {
                        "receipt": {"type": "string", "description": "That of the answer."},
                        "verdict": {"type": "string", "enum": ["right", "wrong"]},
                        "label": {"type": "string", "description": "The right class, if the answer is wrong."},
                        "image": {"type": "string", "format": "binary", "description": "The same picture again."},
                    },
                }
            }
        },
    }
}


class FeedbackAnswer(BaseModel):
    """What became of the feedback."""

    stored: Literal["picture", "verdict"] = Field(description="Whether the picture was kept, or only the verdict.")
    label: str | None = Field(description="The class under which it was kept.")


def routes(parts: Parts, store: FeedbackStore) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["feedback"])

    @router.post(
        "/feedback",
        status_code=201,
        summary="Say whether an answer was right",
        response_model=FeedbackAnswer,
        responses=documented(400, 401, 403, 408, 409, 413, 415, 422, 429, 507),
        openapi_extra=_FORM,
    )
    async def give_feedback(request: Request) -> FeedbackAnswer:
        """Send the receipt of the answer, the verdict, and the picture again if it may be kept for training."""
        caller = await parts.access.caller(request, "predict")
        await parts.limiter.spend("feedback", f"{caller.kind}:{caller.identity}")
        with parts.gate.enter():
            form = await uploads.read(
                request,
                max_bytes=parts.settings.images.max_bytes,
                max_files=1,
                seconds=parts.settings.listen.body_seconds,
            )
            claims = _claims(parts, form.fields.get("receipt", ""))
            picture = await _same_picture(parts, form.files, claims)
            verdict = await _verdict(parts, form.fields, claims)
            kept = await parts.in_thread(lambda: store.add(verdict, picture))
        parts.router.record_feedback(kept.variant, kept.version, right=kept.right)
        parts.metrics.feedback.labels(kept.variant, "right" if kept.right else "wrong").inc()
        request.state.audit = {"answer": kept.request_id, "version": kept.version, "right": kept.right}
        return FeedbackAnswer(stored="picture" if kept.file else "verdict", label=kept.label)

    @router.get(
        "/admin/feedback",
        summary="The newest verdicts",
        response_model=list[Verdict],
        responses=documented(401, 403, 429),
    )
    async def list_feedback(
        request: Request, count: Annotated[int, Query(ge=1, le=1000, description="How many.")] = 100
    ) -> Any:
        """Return verdicts, newest first."""
        await parts.access.caller(request, "admin")
        return await parts.in_thread(lambda: store.newest(count))

    return router


def _claims(parts: Parts, receipt: str) -> dict[str, Any]:
    claims = parts.signer.unseal(asking.RECEIPT, receipt)
    if claims is None:
        hours = parts.settings.feedback.receipt_hours
        raise Problem(
            422,
            "bad_receipt",
            f"the field `receipt` is missing, changed, or older than {hours:g} hours; send that of an answer",
        )
    return claims


async def _same_picture(parts: Parts, files: list[uploads.Upload], claims: dict[str, Any]) -> Picture | None:
    if not files:
        return None
    picture = await parts.inspect(files[0].content)
    if picture.digest != claims["digest"]:
        raise Problem(
            422, "other_picture", "this is not the picture that the answer is about; send the same file again"
        )
    return picture


async def _verdict(parts: Parts, fields: dict[str, str], claims: dict[str, Any]) -> Verdict:
    said = fields.get("verdict")
    if said not in ("right", "wrong"):
        raise Problem(422, "bad_verdict", f"the field `verdict` is {str(said)[:40]!r}; expected `right` or `wrong`")
    label = fields.get("label") or None
    if said == "right":
        if label not in (None, claims["label"]):
            raise Problem(422, "contradiction", f"the verdict is `right`, but the label is not {claims['label']!r}")
        label = claims["label"]
    elif label is not None:
        await _check_label(parts, label, claims)
    return Verdict(
        time=time.time(),
        request_id=claims["id"],
        user=claims["user"],
        variant=claims["variant"],
        version=claims["version"],
        predicted=claims["label"],
        confidence=claims["confidence"],
        right=said == "right",
        label=label,
        digest=claims["digest"],
    )


async def _check_label(parts: Parts, label: str, claims: dict[str, Any]) -> None:
    """Only classes that the model knows: free text would become folders of a data set."""
    if label == claims["label"]:
        raise Problem(422, "contradiction", f"the verdict is `wrong`, but {label!r} is what the model said")
    known = (await parts.server.facts(claims["version"])).labels
    if len(label) > _LONGEST_LABEL or label not in known:
        listed = ", ".join(known[:20]) or "none, because the model does not tell its class names"
        raise Problem(422, "unknown_label", f"the label {label[:40]!r} is no class of the model; expected of: {listed}")

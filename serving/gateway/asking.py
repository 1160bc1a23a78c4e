"""Checked pictures and a caller -> opinions of the right version, counted, with shadows sent.

What `POST /predict`, `POST /predict/batch` and the workers of `serving.jobs` share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serving.client.errors import ClientError, DeadlineExceeded, InvalidRequest, NotAllowed, NotFound, Unavailable
from serving.gateway.errors import Problem
from serving.gateway.model_server import Opinion, Reply
from serving.gateway.parts import Parts
from serving.gateway.pictures import Picture
from serving.gateway.routing import Outcome, Way

RECEIPT = "receipt"


@dataclass(frozen=True)
class Asked:
    """What came of asking: the way it took and the reply."""

    way: Way
    reply: Reply


async def ask(parts: Parts, pictures: Sequence[Picture], user: str, request_id: str, *, explain: bool = False) -> Asked:
    """Let the version that is responsible for a user look at pictures.

    Args:
        parts: of the gateway.
        pictures: at least one.
        user: what traffic is split by.
        request_id: to look failures up.
        explain: ask for heatmaps.

    Returns:
        The reply; errors stand in it.
    """
    way = parts.router.way(user)
    contents = [picture.content for picture in pictures]
    reply = await parts.server.ask(contents, way.label, explain=explain)
    outcome = _outcome(reply, request_id)
    parts.router.record(way, outcome)
    version = "" if reply.version is None else str(reply.version)
    parts.metrics.model_seconds.labels(way.variant, version, str(outcome.status)).observe(reply.milliseconds / 1000)
    if way.shadow is not None:
        taken = parts.router.run_beside(_shadow(parts, contents, way.shadow, outcome, request_id))
        parts.metrics.shadows.labels("sent" if taken else "dropped").inc()
    return Asked(way, reply)


async def _shadow(parts: Parts, contents: list[bytes], label: str, answered: Outcome, request_id: str) -> None:
    reply = await parts.server.ask(contents, label)
    outcome = _outcome(reply, request_id)
    both = outcome.ok and answered.ok
    parts.router.record_shadow(outcome, agreed=outcome.class_id == answered.class_id if both else None)


def _outcome(reply: Reply, request_id: str) -> Outcome:
    """Sum a reply up by its first picture; a batch counts as one request."""
    first = reply.opinions[0]
    if isinstance(first, ClientError):
        return Outcome(reply.version, problem_of(first).status, reply.milliseconds, request_id=request_id)
    confidence = min(1.0, max(0.0, float(first.probabilities[first.class_id])))
    return Outcome(reply.version, 200, reply.milliseconds, first.class_id, confidence, request_id)


def problem_of(error: ClientError) -> Problem:
    """Say in HTTP and in words what the model server's failure means for the client."""
    after = {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds or 1)))}
    if isinstance(error, Unavailable):
        return Problem(503, "model_unavailable", f"the model server is not ready; try again ({_short(error)})", after)
    if isinstance(error, DeadlineExceeded):
        return Problem(504, "model_too_slow", "the model server did not answer in time; try again", after)
    if isinstance(error, NotFound):
        return Problem(503, "model_missing", f"the model server does not serve this model ({_short(error)})", after)
    if isinstance(error, NotAllowed):
        return Problem(502, "model_refused", "the model server does not accept this gateway; tell its operator")
    if isinstance(error, InvalidRequest):
        return Problem(422, "model_cannot_read", f"the model cannot read this picture ({_short(error)})")
    return Problem(502, "model_failed", f"the model server failed ({_short(error)})")


def receipt(parts: Parts, asked: Asked, picture: Picture, opinion: Opinion, user: str, answer_id: str) -> str | None:
    """Return signed text by which feedback proves what it is about; None where no feedback is taken."""
    if parts.feedback is None:
        return None
    claims = {
        "id": answer_id,
        "digest": picture.digest,
        "variant": asked.way.variant,
        "version": asked.reply.version,
        "label": opinion.label,
        "confidence": round(float(opinion.probabilities[opinion.class_id]), 6),
        "user": parts.signer.hashed("feedback.user", user),
    }
    return parts.signer.seal(RECEIPT, claims, parts.settings.feedback.receipt_hours * 3600)


def _short(error: ClientError) -> str:
    return " ".join(error.message.split())[:200]

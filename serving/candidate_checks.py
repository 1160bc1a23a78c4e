"""A served candidate answers as the same model does in process.

Comes in: a running `CandidateServer` and the model, loaded here. Goes out: checks of the infra probe. Called by
`serving.infra_probe` for models that passed in process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from serving import prediction_checks as checks

if TYPE_CHECKING:
    from serving.candidate_server import CandidateServer

Attempt = Callable[[str, Callable[[], tuple[str, Any]]], Any]
"""Runs a named check, which gives a detail in words and a value; None if it failed."""


def check_server(
    attempt: Attempt, server: CandidateServer, model: Any, name: str, examples: list[bytes], images: list[bytes]
) -> None:
    """Ask for status, predictions over REST and gRPC, and classifications over gRPC.

    Args:
        attempt: Records a check.
        server: Serves the model, or is about to.
        model: The model as a `SessionModel`.
        name: Input of `serving_default`.
        examples: Serialized tf.Examples.
        images: Encoded images of the same examples.
    """
    expected = model.run("serving_default", {name: np.array(images, dtype=object)})["probabilities"]

    def status() -> tuple[str, bool]:
        server.wait()
        return "the server has the model available", True

    def predict(how: str, ask: Callable[..., dict[str, np.ndarray]]) -> tuple[str, None]:
        outputs = ask("serving_default", name, images)
        what = f"the answers over {how} and those in process"
        checks.check_same_probabilities(what, outputs["probabilities"], expected)
        return f"{len(images)} answers on encoded images", None

    def classify() -> tuple[str, None]:
        answers = server.grpc_classify("classify", examples)
        outputs = model.run("classify", {"inputs": np.array(examples, dtype=object)})
        for answer, classes, scores in zip(answers, outputs["classes"], outputs["scores"], strict=True):
            here = np.array([answer.get(label.decode(), np.nan) for label in classes])
            checks.check_same_probabilities("classify over gRPC and in process", here[None], scores[None])
        return f"{len(answers)} answers", None

    if attempt("server", status):
        attempt("rest_predict", lambda: predict("REST", server.rest_predict))
        attempt("grpc_predict", lambda: predict("gRPC", server.grpc_predict))
        attempt("grpc_classify", classify)

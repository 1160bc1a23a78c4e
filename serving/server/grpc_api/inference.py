"""Classify, Regress and MultiInference: calls that bring tf.Examples.

Comes in: serialized requests. Goes out: serialized responses. Called on the event loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from serving.server.examples_api import Classification, Task
from serving.server.grpc_api.calls import Call
from serving.server.grpc_api.coroutines import NamedError
from serving.server.grpc_api.requests import examples, model_spec, parse, to_model_spec
from serving.server.model_spec import ModelSpec
from serving.server.servable import DEFAULT_SIGNATURE
from serving.server.status import Code, StatusError
from serving.wire.messages import (
    ClassificationRequest,
    ClassificationResponse,
    MultiInferenceRequest,
    MultiInferenceResponse,
    RegressionRequest,
    RegressionResponse,
)

if TYPE_CHECKING:
    from serving.server.data_plane import DataPlane
    from serving.server.servable import Models


class Inference:
    """Answers the calls that bring tf.Examples."""

    def __init__(self, plane: DataPlane, models: Models) -> None:
        """Answer through a data plane."""
        self._plane = plane
        self._models = models

    async def classify(self, call: Call, message: bytes) -> tuple[bytes, str]:
        """Answer a `ClassificationRequest`."""
        request = parse(ClassificationRequest, message)
        with _named(request.model_spec.name):
            spec = model_spec(request)
            with self._models.acquire(spec) as handle:
                found = await self._plane.classify(handle, spec.signature, examples(request.input), call.deadline)
                response = ClassificationResponse()
                _fill_spec(response.model_spec, spec, handle.version)
        _fill_classification(response.result, found)
        return response.SerializeToString(), spec.name

    async def regress(self, call: Call, message: bytes) -> tuple[bytes, str]:
        """Answer a `RegressionRequest`."""
        request = parse(RegressionRequest, message)
        with _named(request.model_spec.name):
            spec = model_spec(request)
            with self._models.acquire(spec) as handle:
                found = await self._plane.regress(handle, spec.signature, examples(request.input), call.deadline)
                response = RegressionResponse()
                _fill_spec(response.model_spec, spec, handle.version)
        _fill_regression(response.result, found)
        return response.SerializeToString(), spec.name

    async def multi_inference(self, call: Call, message: bytes) -> tuple[bytes, str]:
        """Answer a `MultiInferenceRequest`; the first task says which model and version is asked."""
        request = parse(MultiInferenceRequest, message)
        specs = [to_model_spec(task.model_spec) for task in request.tasks]
        first = specs[0] if specs else ModelSpec("")
        with _named(first.name), self._models.acquire(first) as handle:
            _check_names(specs)
            tasks = [Task(spec.signature, task.method_name) for spec, task in zip(specs, request.tasks, strict=True)]
            found = await self._plane.multi_inference(handle, tasks, examples(request.input), call.deadline)
            version = handle.version
        response = MultiInferenceResponse()
        for spec, answer in zip(specs, found, strict=True):
            result = response.results.add()
            _fill_spec(result.model_spec, spec, version)
            if isinstance(answer, Classification):
                _fill_classification(result.classification_result, answer)
            else:
                _fill_regression(result.regression_result, answer)
        return response.SerializeToString(), first.name


def _check_names(specs: Sequence[ModelSpec]) -> None:
    for spec in specs:
        if not spec.name:
            raise StatusError(Code.INVALID_ARGUMENT, "Found ModelSpec with an empty model name.")
        if spec.name != specs[0].name:
            raise StatusError(
                Code.INVALID_ARGUMENT, "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )


@contextlib.contextmanager
def _named(model: str) -> Iterator[None]:
    try:
        yield
    except StatusError as error:
        raise NamedError(error, model) from error


def _fill_spec(answer: Any, spec: ModelSpec, version: int) -> None:
    answer.name = spec.name
    answer.version.value = version
    answer.signature_name = spec.signature or DEFAULT_SIGNATURE


def _fill_classification(result: Any, found: Classification) -> None:
    result.SetInParent()
    classes, scores = found.classes, found.scores
    for number in range(len(classes if classes is not None else scores or ())):
        labels = classes[number] if classes is not None else None
        values = scores[number] if scores is not None else None
        one = result.classifications.add()
        for place in range(len(labels if labels is not None else values or ())):
            entry = one.classes.add()
            if labels is not None:
                entry.label = labels[place]
            if values is not None:
                entry.score = values[place]


def _fill_regression(result: Any, values: Sequence[float]) -> None:
    result.SetInParent()
    for value in values:
        result.regressions.add().value = value

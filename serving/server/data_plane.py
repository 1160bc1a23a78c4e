"""What a request does once its transport has read it: checked, run, counted, shown to observers.

Comes in: a handle, the name of a signature, and arrays or serialized tf.Examples. Goes out: arrays, classifications or
regressions, or a `StatusError` with TensorFlow Serving's code and text. Called by the REST and the gRPC front end, on
the event loop; the `..._blocking` and `..._future` twins serve threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from serving.server.batching import Batcher
from serving.server.examples_api import (
    CLASSIFY,
    INPUT,
    REGRESS,
    Classification,
    Task,
    check_tasks,
    outputs_of,
    to_classification,
    to_regression,
)
from serving.server.servable import DEFAULT_SIGNATURE, Handle
from serving.server.status import Code, StatusError
from serving.server.tensor_checks import check_names, check_outputs, check_tensors
from serving.signature import Signature

if TYPE_CHECKING:
    from serving.server.metrics import ServerMetrics

_log = logging.getLogger("slipway.serving")
Arrays = Mapping[str, np.ndarray]


class Observer(Protocol):
    """Sees answered requests; must be cheap and must not block."""

    def answered(self, handle: Handle, kind: str, signature: str, inputs: Arrays, outputs: Arrays) -> None:
        """Take note of a request.

        Args:
            handle: The model that answered.
            kind: `Predict`, `Classify`, `Regress` or `MultiInference`.
            signature: Name of the signature.
            inputs: What was fed; for all but Predict serialized tf.Examples under `inputs`.
            outputs: What the signature gave, only what was asked for.
        """
        ...


@dataclass(frozen=True)
class PlaneOptions:
    """How requests are checked.

    Attributes:
        check_method_names: Refuse a signature that was exported for another kind of call, as
            `--enable_signature_method_name_check` does.
    """

    check_method_names: bool = False


@dataclass(slots=True)
class _Call:
    """A checked request: what to run."""

    kind: str
    signature: str
    inputs: Arrays
    outputs: tuple[str, ...] | None


class DataPlane:
    """Answers requests; both transports call it.

    Attributes:
        batcher: Runs the signatures.
        observers: Called after each answer, in order.
    """

    def __init__(
        self, batcher: Batcher, metrics: ServerMetrics | None = None, options: PlaneOptions | None = None
    ) -> None:
        """Answer requests through a batcher."""
        self.batcher = batcher
        self.observers: list[Observer] = []
        self._metrics = metrics
        self._check_methods = (options or PlaneOptions()).check_method_names

    def predict(
        self,
        handle: Handle,
        signature: str,
        inputs: Arrays,
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, dict[str, np.ndarray]]:
        """Run a signature.

        Args:
            handle: The model; held by the caller until the outputs are there.
            signature: Name of the signature; empty for `serving_default`.
            inputs: Arrays by name; strings are bytes in arrays of dtype object.
            outputs: Outputs to compute; None or empty for all.
            deadline: `time.monotonic()` at which the answer is useless; None for never.

        Returns:
            The outputs by name, to be awaited; awaiting raises `StatusError` if the request failed.

        Raises:
            StatusError: At once, if the request does not fit the model.
        """
        return self._run(handle, self._predict_call(handle, signature, inputs, outputs), deadline)

    def predict_blocking(
        self,
        handle: Handle,
        signature: str,
        inputs: Arrays,
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Do as `predict` does, from a thread."""
        return self._run_blocking(handle, self._predict_call(handle, signature, inputs, outputs), deadline)

    def predict_future(
        self,
        handle: Handle,
        signature: str,
        inputs: Arrays,
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> concurrent.futures.Future[dict[str, np.ndarray]]:
        """Do as `predict` does, from any thread, without waiting.

        Returns:
            The outputs to come. Callbacks run in a worker thread, after the request was counted and shown.

        Raises:
            StatusError: At once, if the request does not fit the model or the queue is full.
        """
        call = self._predict_call(handle, signature, inputs, outputs)
        start = time.perf_counter()

        def count(future: concurrent.futures.Future[dict[str, np.ndarray]]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._finish(handle, call, future.result(), start)

        future = self.batcher.submit(handle, call.signature, call.inputs, call.outputs, deadline)
        future.add_done_callback(count)
        return future

    async def classify(
        self, handle: Handle, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> Classification:
        """Classify serialized tf.Examples, a common context already merged into each.

        Raises:
            StatusError: The signature cannot classify, or it failed.
        """
        call = self._examples_call(handle, "Classify", signature, examples)
        return to_classification(await self._run(handle, call, deadline), len(examples))

    def classify_blocking(
        self, handle: Handle, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> Classification:
        """Do as `classify` does, from a thread."""
        call = self._examples_call(handle, "Classify", signature, examples)
        return to_classification(self._run_blocking(handle, call, deadline), len(examples))

    async def regress(
        self, handle: Handle, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> list[float]:
        """Give one value for each serialized tf.Example.

        Raises:
            StatusError: The signature cannot regress, or it failed.
        """
        call = self._examples_call(handle, "Regress", signature, examples)
        return to_regression(await self._run(handle, call, deadline), len(examples))

    def regress_blocking(
        self, handle: Handle, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> list[float]:
        """Do as `regress` does, from a thread."""
        call = self._examples_call(handle, "Regress", signature, examples)
        return to_regression(self._run_blocking(handle, call, deadline), len(examples))

    async def multi_inference(
        self, handle: Handle, tasks: Sequence[Task], examples: Sequence[bytes], deadline: float | None = None
    ) -> list[Classification | list[float]]:
        """Run several signatures on the same serialized tf.Examples.

        Returns:
            The answer of each task, in their order.

        Raises:
            StatusError: The tasks do not fit together or the model, or one failed.
        """
        calls = self._multi_calls(handle, tasks, examples)
        answers = await asyncio.gather(*[self._run(handle, call, deadline) for call in calls])
        return [_to_answer(task, outputs, len(examples)) for task, outputs in zip(tasks, answers, strict=True)]

    def multi_inference_blocking(
        self, handle: Handle, tasks: Sequence[Task], examples: Sequence[bytes], deadline: float | None = None
    ) -> list[Classification | list[float]]:
        """Do as `multi_inference` does, from a thread."""
        calls = self._multi_calls(handle, tasks, examples)
        answers = [self._run_blocking(handle, call, deadline) for call in calls]
        return [_to_answer(task, outputs, len(examples)) for task, outputs in zip(tasks, answers, strict=True)]

    def _predict_call(self, handle: Handle, signature: str, inputs: Arrays, outputs: Sequence[str] | None) -> _Call:
        name = signature or DEFAULT_SIGNATURE
        spec = handle.servable.signatures.get(name)
        if spec is None:
            raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        if self._check_methods:
            _check_predict_method(spec)
        inputs = check_names(spec, inputs)
        check_tensors(spec, inputs)
        if outputs:
            check_outputs(spec, outputs)
        return _Call("Predict", name, inputs, tuple(outputs) if outputs else None)

    def _examples_call(self, handle: Handle, kind: str, signature: str, examples: Sequence[bytes]) -> _Call:
        name = signature or DEFAULT_SIGNATURE
        spec = handle.servable.signatures.get(name)
        if spec is None:
            raise StatusError(Code.INVALID_ARGUMENT, f"No signature was found with the name: {name}")
        outputs = outputs_of(spec, CLASSIFY if kind == "Classify" else REGRESS, self._check_methods)
        inputs = self._examples_input(handle, spec, examples)
        return _Call(kind, name, inputs, outputs)

    def _multi_calls(self, handle: Handle, tasks: Sequence[Task], examples: Sequence[bytes]) -> list[_Call]:
        wanted = check_tasks(handle.servable.signatures, tasks, self._check_methods)
        if not wanted:
            return []
        # All signatures were found to feed the same tensor, so one check and one count do for all.
        inputs = self._examples_input(handle, handle.servable.signatures[next(iter(wanted))], examples)
        return [_Call("MultiInference", name, inputs, outputs) for name, outputs in wanted.items()]

    def _examples_input(self, handle: Handle, spec: Signature, examples: Sequence[bytes]) -> Arrays:
        if not examples:
            raise StatusError(Code.INVALID_ARGUMENT, "Input is empty.")
        array = np.empty(len(examples), object)
        array[:] = examples
        inputs = {INPUT: array}
        check_tensors(spec, inputs)
        if self._metrics is not None:
            self._metrics.examples(handle.name, len(examples))
        return inputs

    async def _run(self, handle: Handle, call: _Call, deadline: float | None) -> dict[str, np.ndarray]:
        start = time.perf_counter()
        outputs = await self.batcher.run(handle, call.signature, call.inputs, call.outputs, deadline)
        self._finish(handle, call, outputs, start)
        return outputs

    def _run_blocking(self, handle: Handle, call: _Call, deadline: float | None) -> dict[str, np.ndarray]:
        start = time.perf_counter()
        outputs = self.batcher.submit(handle, call.signature, call.inputs, call.outputs, deadline).result()
        self._finish(handle, call, outputs, start)
        return outputs

    def _finish(self, handle: Handle, call: _Call, outputs: Arrays, start: float) -> None:
        if self._metrics is not None:
            self._metrics.runtime(handle.name, call.kind, (time.perf_counter() - start) * 1e6)
        for observer in self.observers:
            try:
                observer.answered(handle, call.kind, call.signature, call.inputs, outputs)
            except Exception:
                _log.exception("an observer failed; the request is answered all the same")


def _check_predict_method(spec: Signature) -> None:
    methods = ("tensorflow/serving/predict", CLASSIFY, REGRESS)
    if spec.method_name not in methods:
        raise StatusError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. Was: {spec.method_name}",
        )


def _to_answer(task: Task, outputs: Arrays, examples: int) -> Classification | list[float]:
    return to_classification(outputs, examples) if task.method == CLASSIFY else to_regression(outputs, examples)

"""Predict: the hot call of the gRPC API.

Comes in: bytes of a `PredictRequest`. Goes out: bytes of a `PredictResponse`. Called in gRPC's thread, which reads the
tensors and hands them to the batcher; the thread that ran the batch writes the answer. Neither waits for the other.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.server.grpc_api.calls import Call
from serving.server.grpc_api.requests import model_spec, parse
from serving.server.servable import DEFAULT_SIGNATURE
from serving.server.status import Code, StatusError
from serving.wire.messages import PredictRequest, PredictResponse
from serving.wire.tensors import read_tensor, write_tensor

if TYPE_CHECKING:
    from serving.server.data_plane import DataPlane
    from serving.server.metrics import ServerMetrics
    from serving.server.servable import Handle, Models

_log = logging.getLogger("slipway.serving")
Outputs = Mapping[str, np.ndarray]


class PredictHandler:
    """Answers Predict calls."""

    def __init__(self, plane: DataPlane, models: Models, metrics: ServerMetrics | None, tensor_content: bool) -> None:
        """Answer through a data plane."""
        self._plane = plane
        self._models = models
        self._metrics = metrics
        self._tensor_content = tensor_content

    def __call__(self, call: Call, message: bytes) -> None:
        """Start one request."""
        name = ""
        handle: Handle | None = None
        try:
            request = parse(PredictRequest, message)
            name = request.model_spec.name
            spec = model_spec(request)
            handle = self._models.acquire(spec)
            inputs = {key: _tensor(key, proto) for key, proto in request.inputs.items()}
            outputs = list(request.output_filter) or None
            future = self._plane.predict_future(handle, spec.signature, inputs, outputs, call.deadline)
        except StatusError as error:
            if handle is not None:
                handle.release()
            self._fail(call, name, error)
            return
        except BaseException:
            if handle is not None:
                handle.release()
            raise
        future.add_done_callback(self._finisher(call, name, handle, spec.signature))
        call.when_cancelled(future.cancel)

    def _finisher(
        self, call: Call, name: str, handle: Handle, signature: str
    ) -> Callable[[concurrent.futures.Future[dict[str, np.ndarray]]], None]:
        def finish(future: concurrent.futures.Future[dict[str, np.ndarray]]) -> None:
            try:
                version = handle.version
                handle.release()
                response = self._response(name, version, signature, future.result())
                # Counted first, so that whoever has the answer finds it in the metrics.
                self._count(call, name, Code.OK)
                call.reply(response)
            except concurrent.futures.CancelledError:
                self._count(call, name, Code.CANCELLED)
            except StatusError as error:
                self._fail(call, name, error)
            except Exception as error:
                _log.exception("the answer to a Predict call could not be made")
                self._fail(call, name, StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}"))

        return finish

    def _response(self, name: str, version: int, signature: str, outputs: Outputs) -> bytes:
        response = PredictResponse()
        spec = response.model_spec
        spec.name = name
        spec.version.value = version
        spec.signature_name = signature or DEFAULT_SIGNATURE
        for key, array in outputs.items():
            write_tensor(array, response.outputs[key], content=self._tensor_content)
        return bytes(response.SerializeToString())

    def _fail(self, call: Call, name: str, error: StatusError) -> None:
        self._count(call, name, error.code)
        call.fail(error.code, error.message)

    def _count(self, call: Call, name: str, code: Code) -> None:
        if self._metrics is not None:
            self._metrics.request(name, "Predict", "GRPC", code, (time.perf_counter() - call.started) * 1e6)


def _tensor(name: str, proto: Any) -> np.ndarray:
    try:
        return read_tensor(proto)
    except ValueError as error:
        raise StatusError(Code.INVALID_ARGUMENT, f"tensor parsing error: {name}: {error}") from error

"""Predict: the hot call of the gRPC API.

Comes in: bytes of a `PredictRequest`. Goes out: bytes of a `PredictResponse`. Called in gRPC's thread, which reads the
tensors and hands them to the batcher; the thread that ran the batch writes the answer. Neither waits for the other.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.server.grpc_api.calls import Call
from serving.server.grpc_api.envelopes import Envelopes, Parsed
from serving.server.grpc_api.requests import model_spec, parse
from serving.server.grpc_api.responses import response
from serving.server.status import Code, StatusError
from serving.wire.messages import PredictRequest
from serving.wire.tensors import read_tensor

if TYPE_CHECKING:
    from serving.server.data_plane import DataPlane
    from serving.server.metrics import ServerMetrics
    from serving.server.servable import Handle, Models

_log = logging.getLogger("slipway.serving")


class PredictHandler:
    """Answers Predict calls."""

    def __init__(self, plane: DataPlane, models: Models, metrics: ServerMetrics | None, tensor_content: bool) -> None:
        """Answer through a data plane."""
        self._plane = plane
        self._models = models
        self._metrics = metrics
        self._tensor_content = tensor_content
        self._envelopes = Envelopes(parsed)

    def __call__(self, call: Call, message: bytes) -> None:
        """Start one request."""
        name = ""
        handle: Handle | None = None
        try:
            known = self._envelopes.open(message)
            if known is None:
                request = parse(PredictRequest, message)
                name = request.model_spec.name
                handle = self._models.acquire(model_spec(request))
                known = _parsed(request)
                self._envelopes.learn(message, known)
            else:
                name = known.spec.name
                handle = self._models.acquire(known.spec)
            spec, inputs, outputs = known
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
                answer = response(name, version, signature, future.result(), tensor_content=self._tensor_content)
                # Counted first, so that whoever has the answer finds it in the metrics.
                self._count(call, name, Code.OK)
                call.reply(answer)
            except concurrent.futures.CancelledError:
                self._count(call, name, Code.CANCELLED)
            except StatusError as error:
                self._fail(call, name, error)
            except Exception as error:
                _log.exception("the answer to a Predict call could not be made")
                self._fail(call, name, StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}"))

        return finish

    def _fail(self, call: Call, name: str, error: StatusError) -> None:
        self._count(call, name, error.code)
        call.fail(error.code, error.message)

    def _count(self, call: Call, name: str, code: Code) -> None:
        if self._metrics is not None:
            self._metrics.request(name, "Predict", "GRPC", code, (time.perf_counter() - call.started) * 1e6)


def parsed(message: bytes) -> Parsed:
    """Parse a request with protobuf.

    Raises:
        StatusError: It is no `PredictRequest`, names no model, or holds a tensor that cannot be read.
    """
    return _parsed(parse(PredictRequest, message))


def _parsed(request: Any) -> Parsed:
    inputs = {key: _tensor(key, proto) for key, proto in request.inputs.items()}
    return Parsed(model_spec(request), inputs, tuple(request.output_filter) or None)


def _tensor(name: str, proto: Any) -> np.ndarray:
    try:
        return read_tensor(proto)
    except ValueError as error:
        raise StatusError(Code.INVALID_ARGUMENT, f"tensor parsing error: {name}: {error}") from error

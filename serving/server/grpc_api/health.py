"""The standard health service, `grpc.health.v1.Health`.

Comes in: serialized `HealthCheckRequest`s. Goes out: serialized `HealthCheckResponse`s. Called in gRPC's thread.
Protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import threading

from serving.server.grpc_api.calls import Call
from serving.server.grpc_api.requests import parse
from serving.server.status import Code, StatusError
from serving.wire.messages import HealthCheckRequest, HealthCheckResponse

SERVICES = ("", "ModelService", "PredictionService")
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3


class Health:
    """Says that the server serves, until it stops."""

    def __init__(self) -> None:
        """Begin as serving."""
        self._lock = threading.Lock()
        self._watchers: set[Call] = set()
        self._serving = True

    def check(self, call: Call, message: bytes) -> None:
        """Answer once."""
        try:
            service = parse(HealthCheckRequest, message).service
        except StatusError as error:
            call.fail(error.code, error.message)
            return
        if service in SERVICES:
            call.reply(self._answer(service))
        else:
            call.fail(Code.NOT_FOUND, "service name unknown")

    def watch(self, call: Call, message: bytes) -> None:
        """Answer now and again when the server stops."""
        try:
            service = parse(HealthCheckRequest, message).service
        except StatusError as error:
            call.fail(error.code, error.message)
            return
        with self._lock:
            call.announce(self._answer(service))
            if self._serving:
                self._watchers.add(call)
        if not self._serving:
            call.end_stream(self._answer(service), Code.UNAVAILABLE, "The server is shutting down")
            return
        call.when_cancelled(lambda: self._drop(call))

    def stop(self) -> None:
        """Tell all watchers that the server stops, and end their streams."""
        with self._lock:
            self._serving = False
            watchers, self._watchers = self._watchers, set()
        for call in watchers:
            call.end_stream(_response(_NOT_SERVING), Code.UNAVAILABLE, "The server is shutting down")

    def _drop(self, call: Call) -> None:
        with self._lock:
            self._watchers.discard(call)

    def _answer(self, service: str) -> bytes:
        if service not in SERVICES:
            return _response(_SERVICE_UNKNOWN)
        return _response(_SERVING if self._serving else _NOT_SERVING)


def _response(status: int) -> bytes:
    return bytes(HealthCheckResponse(status=status).SerializeToString())

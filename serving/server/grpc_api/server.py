"""Start and stop of the gRPC API.

Comes in: the data plane, the models and options. Goes out: `GrpcServer`. Called by the composition root.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from serving.errors import ServingError
from serving.server.grpc_api.options import GrpcOptions, TlsKeys

if TYPE_CHECKING:
    from serving.server.data_plane import DataPlane
    from serving.server.grpc_api.calls import CallServer, Handler
    from serving.server.grpc_api.health import Health
    from serving.server.metrics import ServerMetrics
    from serving.server.servable import Models

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_HEALTH = "/grpc.health.v1.Health/"
_FINAL_SECONDS = 5.0  # How long calls that were cut off may take to end.
# How long new calls are refused before the end, so that clients at work learn that they should go elsewhere.
_REFUSING_SECONDS = 0.2


class GrpcServer:
    """The running API.

    Attributes:
        port: TCP port of the first address that is no Unix socket; 0 if there is none.
    """

    def __init__(self, calls: CallServer, health: Health | None, port: int) -> None:
        """Use `start_grpc`."""
        self.port = port
        self._calls = calls
        self._health = health
        self._stopped: asyncio.Future[None] | None = None

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those that run finish, then cut off what is left; stopping twice is allowed.

        Args:
            grace_seconds: How long running calls may take.
        """
        if self._stopped is None:
            loop = asyncio.get_running_loop()
            self._stopped = loop.create_future()
            if self._health is not None:
                self._health.stop()
            self._calls.refuse("The server is shutting down", keep=_HEALTH)
            await asyncio.sleep(_REFUSING_SECONDS)
            self._calls.shutdown(lambda: _tell(loop, self._stopped))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._stopped), grace_seconds)
            return
        self._calls.cancel_calls()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._stopped), _FINAL_SECONDS)


def _tell(loop: asyncio.AbstractEventLoop, stopped: asyncio.Future[None] | None) -> None:
    def tell() -> None:
        if stopped is not None and not stopped.done():
            stopped.set_result(None)

    with contextlib.suppress(RuntimeError):  # The loop may be closed: then nobody waits.
        loop.call_soon_threadsafe(tell)


async def start_grpc(
    plane: DataPlane, models: Models, metrics: ServerMetrics | None, options: GrpcOptions
) -> GrpcServer:
    """Serve the gRPC API on the running event loop.

    Args:
        plane: Answers requests.
        models: Finds models.
        metrics: Counts requests; None for none.
        options: How to listen.

    Returns:
        The server, which accepts calls.

    Raises:
        ServingError: An address cannot be had, or the keys are unusable.
    """
    from serving.server.grpc_api.calls import CallServer
    from serving.server.grpc_api.health import Health

    health = Health() if options.health else None
    handlers = _handlers(plane, models, metrics, options.tensor_content)
    if health is not None:
        handlers |= {f"{_HEALTH}Check": health.check, f"{_HEALTH}Watch": health.watch}
    calls = CallServer(handlers, _arguments(options), options.max_threads)
    credentials = None if options.tls is None else _credentials(options.tls)
    ports = [(address, calls.listen(address, credentials)) for address in options.addresses]
    calls.start()
    return GrpcServer(calls, health, next((port for address, port in ports if not address.startswith("unix:")), 0))


def _handlers(
    plane: DataPlane, models: Models, metrics: ServerMetrics | None, tensor_content: bool
) -> dict[str, Handler]:
    from serving.server.grpc_api.coroutines import OnLoop
    from serving.server.grpc_api.inference import Inference
    from serving.server.grpc_api.model_service import ModelService
    from serving.server.grpc_api.predict import PredictHandler

    loop = asyncio.get_running_loop()
    inference, service = Inference(plane, models), ModelService(models, metrics)
    # Only these three are counted by TensorFlow Serving.
    counted: dict[str, Handler] = {
        f"{_PREDICTION}Predict": PredictHandler(plane, models, metrics, tensor_content),
        f"{_PREDICTION}Classify": OnLoop(loop, inference.classify, metrics, "Classify"),
        f"{_PREDICTION}Regress": OnLoop(loop, inference.regress, metrics, "Regress"),
    }
    uncounted: dict[str, Handler] = {
        f"{_PREDICTION}MultiInference": OnLoop(loop, inference.multi_inference, None, "MultiInference"),
        f"{_PREDICTION}GetModelMetadata": OnLoop(loop, service.metadata, None, "GetModelMetadata"),
        f"{_MODEL}GetModelStatus": OnLoop(loop, service.status, None, "GetModelStatus"),
        f"{_MODEL}HandleReloadConfigRequest": OnLoop(loop, service.reload, None, "HandleReloadConfigRequest"),
    }
    return counted | uncounted


def _arguments(options: GrpcOptions) -> list[tuple[str, int | str]]:
    defaults: dict[str, int | str] = {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        # Two servers on one port would each get a part of the calls, and nobody would notice.
        "grpc.so_reuseport": 0,
    }
    return list((defaults | dict(options.channel_arguments)).items())


def _credentials(tls: TlsKeys) -> Any:
    import grpc

    if tls.client_verify and tls.ca is None:
        raise ServingError("client_verify is set without custom_ca; give the certificates that sign those of clients.")
    return grpc.ssl_server_credentials([(tls.key, tls.certificate)], tls.ca, tls.client_verify)

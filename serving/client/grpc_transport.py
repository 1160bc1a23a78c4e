"""gRPC as a transport, on grpcio and `serving.wire`.

Comes in: calls of the client. Goes out: calls of PredictionService and ModelService. Called by the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from serving.client.address import Address, TlsFiles
from serving.client.answers import Metadata, Prediction, tensor_spec
from serving.client.errors import ClientError, InvalidRequest, ServerFailure, error_of
from serving.client.transport import MAX_ANSWER_BYTES, Attempt
from serving.server.servable import VersionState
from serving.server.status import Code
from serving.signature import Signature, TensorSpec
from serving.wire import messages
from serving.wire.dtypes import dtype_of_number
from serving.wire.tensors import read_tensor, write_tensor

if TYPE_CHECKING:
    import numpy as np

    from serving.server.model_spec import ModelSpec

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_METADATA_FIELD = "signature_def"
_STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    # The budget of this client decides on retries, and knows how many there were.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A server that comes back is found within a second, not after two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two clients of one process do not share a connection, so closing one leaves the other alone.
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcTransport:
    """One channel to a server, kept open between calls; may be used from any event loop."""

    needs_dtypes = True

    def __init__(self, address: Address, headers: Mapping[str, str], tls: TlsFiles | None) -> None:
        """Connect nothing yet."""
        import grpc

        self._target = address.target
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        if address.secure:
            self._channel = grpc.secure_channel(address.target, _credentials(tls), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address.target, options=_OPTIONS)
        # Without serializers bytes go in and out.
        self._methods = {path: self._channel.unary_unary(path) for path in (_PREDICT, _METADATA, _STATUS, _RELOAD)}

    def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray],
        outputs: tuple[str, ...] | None,
        signature: Callable[[], Awaitable[Signature | None]],
    ) -> Attempt[Prediction]:
        """Prepare a Predict call."""
        request = messages.PredictRequest()
        _fill_spec(request.model_spec, spec)
        for name, array in inputs.items():
            try:
                write_tensor(array, request.inputs[name], content=True)
            except ValueError as error:
                raise InvalidRequest(f"input {name!r}: {error}") from error
        if outputs is not None:
            request.output_filter.extend(outputs)
        data = request.SerializeToString()

        async def attempt(left_seconds: float) -> Prediction:
            response = _parsed(messages.PredictResponse, await self._invoke(_PREDICT, data, left_seconds))
            version = response.model_spec.version.value if response.model_spec.HasField("version") else None
            try:
                return Prediction({name: read_tensor(proto) for name, proto in response.outputs.items()}, version)
            except ValueError as error:
                raise ServerFailure(f"{self._target} sent an output that is no tensor: {error}") from error

        return attempt

    def status(self, spec: ModelSpec) -> Attempt[list[VersionState]]:
        """Prepare a question for the states of the versions."""
        request = messages.GetModelStatusRequest()
        _fill_spec(request.model_spec, spec)
        data = request.SerializeToString()

        async def attempt(left_seconds: float) -> list[VersionState]:
            response = _parsed(messages.GetModelStatusResponse, await self._invoke(_STATUS, data, left_seconds))
            try:
                return [_version_state(item) for item in response.model_version_status]
            except (KeyError, ValueError) as error:
                raise ServerFailure(f"{self._target} sent an unknown state of a version: {error}") from error

        return attempt

    def metadata(self, spec: ModelSpec) -> Attempt[Metadata]:
        """Prepare a question for number and signatures of a version."""
        request = messages.GetModelMetadataRequest(metadata_field=[_METADATA_FIELD])
        _fill_spec(request.model_spec, spec)
        request.model_spec.signature_name = ""
        data = request.SerializeToString()

        async def attempt(left_seconds: float) -> Metadata:
            response = _parsed(messages.GetModelMetadataResponse, await self._invoke(_METADATA, data, left_seconds))
            found = _parsed(messages.SignatureDefMap, response.metadata[_METADATA_FIELD].value)
            named = ((name, _signature(name, proto)) for name, proto in sorted(found.signature_def.items()))
            signatures = {name: signature for name, signature in named if signature is not None}
            return Metadata(response.model_spec.version.value, signatures)

        return attempt

    def reload(self, config: Any) -> Attempt[None]:
        """Prepare a change of the models that are served.

        Raises:
            InvalidRequest: The text is no ModelServerConfig.
        """
        request = messages.ReloadConfigRequest()
        request.config.CopyFrom(_server_config(config))
        data = request.SerializeToString()

        async def attempt(left_seconds: float) -> None:
            _parsed(messages.ReloadConfigResponse, await self._invoke(_RELOAD, data, left_seconds))

        return attempt

    async def close(self) -> None:
        """Close the channel; calls that run are cancelled."""
        self._channel.close()

    async def _invoke(self, path: str, request: bytes, left_seconds: float) -> bytes:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        try:
            call = self._methods[path].future(request, timeout=left_seconds, metadata=self._metadata)
        except ValueError as error:
            raise error_of(Code.UNAVAILABLE, "the client was closed; make a new one.") from error
        call.add_done_callback(lambda _: _wake(loop, done))
        try:
            await done
        except asyncio.CancelledError:
            call.cancel()
            raise
        code = Code(call.code().value[0])
        if code is Code.OK:
            return bytes(call.result())
        message = call.details() or f"{self._target} gave no reason"
        raise error_of(code, message, _retry_after(call.trailing_metadata()))


def _wake(loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))


def _retry_after(metadata: Any) -> float | None:
    """Seconds to wait: a header of a proxy, or gRPC's own `grpc-retry-pushback-ms`."""
    for name, value in metadata or ():
        if name == "grpc-retry-pushback-ms" and str(value).isdecimal():
            return float(value) / 1000.0
        if name == "retry-after" and str(value).isdecimal():
            return float(value)
    return None


def _fill_spec(proto: Any, spec: ModelSpec) -> None:
    proto.name = spec.name
    proto.signature_name = spec.signature
    if spec.version is not None:
        proto.version.SetInParent()
        proto.version.value = spec.version
    elif spec.label is not None:
        proto.version_label = spec.label


def _parsed(message_class: Any, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message_class.FromString(data)
    except DecodeError as error:
        raise ServerFailure(
            f"the answer is no {message_class.DESCRIPTOR.name} ({len(data)} bytes). Is this a model server?"
        ) from error


def _version_state(item: Any) -> VersionState:
    return VersionState(
        item.version,
        _STATES[item.state],  # type: ignore[arg-type]
        Code(item.status.error_code),
        item.status.error_message,
    )


def _signature(name: str, proto: Any) -> Signature | None:
    """Describe a signature; None for internal ones and those with types that numpy lacks."""
    if name.startswith("__saved_model"):
        return None
    try:
        inputs = {key: _tensor_spec(key, info) for key, info in sorted(proto.inputs.items())}
        outputs = {key: _tensor_spec(key, info) for key, info in sorted(proto.outputs.items())}
    except ValueError:
        return None
    return Signature(name, proto.method_name, inputs, outputs)


def _tensor_spec(name: str, info: Any) -> TensorSpec:
    sizes = [dim.size for dim in info.tensor_shape.dim]
    shape = None if info.tensor_shape.unknown_rank else tuple(None if size < 0 else size for size in sizes)
    return tensor_spec(name, info.name, dtype_of_number(info.dtype), shape)


def _server_config(config: Any) -> Any:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    try:
        if isinstance(config, str):
            return text_format.Parse(config, messages.ModelServerConfig())
        return messages.ModelServerConfig.FromString(config.SerializeToString())
    except (text_format.ParseError, DecodeError, AttributeError) as error:
        raise InvalidRequest(f"received no ModelServerConfig: {error}") from error


def _credentials(tls: TlsFiles | None) -> Any:
    import grpc

    def read(path: Any) -> bytes | None:
        return None if path is None else path.read_bytes()

    files = tls if tls is not None else TlsFiles()
    try:
        return grpc.ssl_channel_credentials(read(files.ca), read(files.key), read(files.certificate))
    except OSError as error:
        raise ClientError(f"a TLS file cannot be read: {error}", Code.INVALID_ARGUMENT) from error

"""Questions about models, and the change of what is served.

Comes in: serialized requests of GetModelMetadata, GetModelStatus and HandleReloadConfigRequest. Goes out: serialized
responses. Called on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from serving.server.grpc_api.calls import Call
from serving.server.grpc_api.requests import model_spec, parse
from serving.server.status import Code, StatusError
from serving.wire.messages import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
)

if TYPE_CHECKING:
    from serving.server.metrics import ServerMetrics
    from serving.server.servable import Models

_log = logging.getLogger("slipway.serving")
_METADATA_FIELD = "signature_def"
_METADATA_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}


class ModelService:
    """Answers for all models of the server."""

    def __init__(self, models: Models, metrics: ServerMetrics | None) -> None:
        """Answer for these models; `metrics` tells a reload what it changed."""
        self._models = models
        self._metrics = metrics

    async def metadata(self, call: Call, message: bytes) -> tuple[bytes, str]:
        """Answer a `GetModelMetadataRequest`: the signatures of a model."""
        request = parse(GetModelMetadataRequest, message)
        spec = model_spec(request)
        if not request.metadata_field:
            raise StatusError(Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                # The C++ server puts the name behind the text and leaves the placeholder in it.
                raise StatusError(Code.INVALID_ARGUMENT, f"Metadata field %s is not supported{field}")
        response = GetModelMetadataResponse()
        with self._models.acquire(spec) as handle:
            response.model_spec.name = handle.name
            response.model_spec.version.value = handle.version
            found = response.metadata[_METADATA_FIELD]
            found.type_url = _METADATA_TYPE
            found.value = handle.servable.signature_defs().SerializeToString()
        return response.SerializeToString(), spec.name

    async def status(self, call: Call, message: bytes) -> tuple[bytes, str]:
        """Answer a `GetModelStatusRequest`: where the versions of a model stand."""
        request = parse(GetModelStatusRequest, message)
        spec = model_spec(request)
        response = GetModelStatusResponse()
        for state in self._models.states(spec):
            entry = response.model_version_status.add()
            entry.version = state.version
            entry.state = _STATES[state.state]
            entry.status.SetInParent()
            entry.status.error_code = state.code.value
            entry.status.error_message = state.message
        return response.SerializeToString(), spec.name

    async def reload(self, call: Call, message: bytes) -> tuple[bytes, str]:
        """Answer a `ReloadConfigRequest` when the new models are available."""
        from google.protobuf.message import DecodeError
        from tensorflow_serving.config import model_server_config_pb2

        request = parse(ReloadConfigRequest, message)
        try:
            config = model_server_config_pb2.ModelServerConfig.FromString(request.config.SerializeToString())
        except DecodeError as error:
            raise StatusError(Code.INTERNAL, "Failed to parse ModelServerConfig.") from error
        if config.WhichOneof("config") != "model_config_list":
            raise StatusError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported",
            )
        names = list(request.metric_names)
        before = self._values(names)
        # Waits until models are loaded, so it must not run on the loop.
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._models.reload, config)
        except StatusError as error:
            _log.error("the configuration sent over gRPC was refused: %s", error.message)
            raise
        response = ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in self._values(names).items():
            metric = response.metric.add()
            metric.name = name
            metric.int64_value_increase = value - before[name]
        return response.SerializeToString(), ""

    def _values(self, names: list[str]) -> dict[str, int]:
        """First value of each metric, such as `/tensorflow/serving/request_count`; 0 for one that does not exist."""
        values = dict.fromkeys(names, 0)
        if not names or self._metrics is None:
            return values
        exported = {name.replace("/", ":"): name for name in names}
        seen = set()
        for line in self._metrics.exposition().decode().splitlines():
            series, _, value = line.rpartition(" ")
            name = exported.get(series.partition("{")[0])
            if name is not None and name not in seen:
                seen.add(name)
                values[name] = int(float(value))
        return values

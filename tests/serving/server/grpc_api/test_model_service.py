from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from serving.server.status import Code, StatusError
from tests.serving.server.grpc_api.running import RunningGrpc


@pytest.fixture()
def server() -> Iterator[RunningGrpc]:
    with RunningGrpc() as running:
        yield running


@pytest.fixture()
def channel(server: RunningGrpc) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as opened:
        yield opened


@pytest.fixture()
def service(channel: grpc.Channel) -> Any:
    from tensorflow_serving.apis import model_service_pb2_grpc

    return model_service_pb2_grpc.ModelServiceStub(channel)


def refusal(method: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=60)
    return caught.value.code().name, caught.value.details()


def status_request(name: str | None) -> Any:
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    if name is not None:
        request.model_spec.name = name
    return request


def test_status(service: Any) -> None:
    first, second = service.GetModelStatus(status_request("echo"), timeout=60).model_version_status
    assert (first.version, first.State.Name(first.state)) == (3, "AVAILABLE")
    assert first.HasField("status")
    assert (second.version, second.State.Name(second.state)) == (2, "END")
    assert (second.status.error_code, second.status.error_message) == (15, "variables are truncated")


def test_status_refusals(service: Any) -> None:
    assert refusal(service.GetModelStatus, status_request(None)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert refusal(service.GetModelStatus, status_request("nope")) == (
        "NOT_FOUND",
        "Could not find any versions of model nope",
    )


def metadata_request(*fields: str) -> Any:
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "echo"
    return request


def test_metadata(server: RunningGrpc, channel: grpc.Channel) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

    method = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata
    answer = method(metadata_request("signature_def"), timeout=60)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    assert found.signature_def["serving_default"].inputs["x"].name == "x:0"
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("echo", 3)
    assert server.models.held == 0
    assert refusal(method, metadata_request()) == (
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    assert refusal(method, metadata_request("signature_def", "more")) == (
        "INVALID_ARGUMENT",
        "Metadata field %s is not supportedmore",
    )
    bare = metadata_request("signature_def")
    bare.ClearField("model_spec")
    assert refusal(method, bare) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def reload_request(*metrics: str) -> Any:
    from tensorflow_serving.apis import model_management_pb2

    request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
    config = request.config.model_config_list.config.add(name="pets", base_path="/models/pets")
    config.model_version_policy.specific.versions.extend([3, 4])
    config.version_labels["stable"] = 3
    return request


def test_reload(server: RunningGrpc, service: Any) -> None:
    request = reload_request("/tensorflow/serving/request_count", "/no/such")
    answer = service.HandleReloadConfigRequest(request, timeout=60)
    assert answer.HasField("status")
    assert answer.status.error_code == 0
    assert server.models.configs == [request.config]
    assert {metric.name: metric.int64_value_increase for metric in answer.metric} == {
        "/tensorflow/serving/request_count": 1,
        "/no/such": 0,
    }


def test_reload_refusals(server: RunningGrpc, service: Any) -> None:
    from tensorflow_serving.apis import model_management_pb2

    assert refusal(service.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()) == (
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported",
    )
    server.models.refuse = StatusError(Code.FAILED_PRECONDITION, "no such version")
    assert refusal(service.HandleReloadConfigRequest, reload_request()) == ("FAILED_PRECONDITION", "no such version")


def test_a_failure_of_our_own_is_an_internal_error(server: RunningGrpc, service: Any) -> None:
    server.models.states = None  # type: ignore[assignment,method-assign]
    assert refusal(service.GetModelStatus, status_request("echo"))[0] == "INTERNAL"

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest

from serving.server.status import Code, StatusError
from serving.wire.messages import PredictRequest, PredictResponse
from serving.wire.tensors import read_tensor, write_tensor
from tests.serving.server.grpc_api.running import FakeModels, FakePlane, RunningGrpc
from tests.serving.server.waiting import eventually

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture()
def server() -> Iterator[RunningGrpc]:
    with RunningGrpc() as running:
        yield running


@pytest.fixture()
def channel(server: RunningGrpc) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as opened:
        yield opened


def request(name: str = "echo", **fields: Any) -> Any:
    message = PredictRequest(**fields)
    message.model_spec.name = name
    return message


def with_x(message: Any, values: Any = (1.0, 2.0)) -> Any:
    write_tensor(np.array(values, np.float32), message.inputs["x"], content=True)
    return message


def call(channel: grpc.Channel, message: Any, method: str = PREDICT, timeout: float = 60) -> Any:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return channel.unary_unary(method)(data, timeout=timeout)


def refusal(channel: grpc.Channel, message: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, message, **options)
    return caught.value.code(), caught.value.details()


def test_outputs_come_back_with_model_version_and_signature(server: RunningGrpc, channel: grpc.Channel) -> None:
    response = PredictResponse.FromString(call(channel, with_x(request())))
    assert read_tensor(response.outputs["x"]).tolist() == [1.0, 2.0]
    assert response.model_spec.name == "echo"
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == "serving_default"
    assert server.metrics.requests == [("echo", "Predict", "GRPC", Code.OK)]
    eventually(lambda: server.models.held == 0)


def test_the_stubs_of_tensorflow_serving_understand_it(server: RunningGrpc, channel: grpc.Channel) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    message = predict_pb2.PredictRequest()
    message.model_spec.name = "echo"
    message.model_spec.version_label = "canary"
    message.inputs["a"].CopyFrom(tf.make_tensor_proto([[1, 2], [3, 4]], tf.int64))
    message.inputs["b"].CopyFrom(tf.make_tensor_proto([b"\0", "ä"]))
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(message, timeout=60)
    assert tf.make_ndarray(answer.outputs["a"]).tolist() == [[1, 2], [3, 4]]
    assert tf.make_ndarray(answer.outputs["b"]).tolist() == [b"\0", "ä".encode()]
    # Typed fields, unless the server was told otherwise.
    assert list(answer.outputs["a"].int64_val) == [1, 2, 3, 4]
    assert answer.model_spec.HasField("version")


def test_tensor_content_is_an_option() -> None:
    with RunningGrpc(tensor_content=True) as server, grpc.insecure_channel(server.target) as channel:
        output = PredictResponse.FromString(call(channel, with_x(request()))).outputs["x"]
    assert output.tensor_content == struct.pack("<2f", 1.0, 2.0)
    assert not output.float_val


def test_version_zero_is_a_version(channel: grpc.Channel) -> None:
    message = with_x(request())
    message.model_spec.version.value = 0
    response = PredictResponse.FromString(call(channel, message))
    assert response.model_spec.HasField("version")
    assert response.model_spec.version.value == 0


def test_the_filter_signature_and_deadline_reach_the_data_plane(server: RunningGrpc, channel: grpc.Channel) -> None:
    message = with_x(request(output_filter=["x"]))
    write_tensor(np.array([b"s"], object), message.inputs["y"], content=True)
    message.model_spec.signature_name = "other"
    response = PredictResponse.FromString(call(channel, message))
    assert list(response.outputs) == ["x"]
    assert response.model_spec.signature_name == "other"
    _, signature, inputs, outputs, deadline = server.plane.calls[0]
    assert (signature, sorted(inputs), list(outputs)) == ("other", ["x", "y"], ["x"])
    assert deadline is not None


def test_a_call_without_deadline_has_none(server: RunningGrpc, channel: grpc.Channel) -> None:
    channel.unary_unary(PREDICT)(with_x(request()).SerializeToString())
    assert server.plane.calls[0][4] is None


def damaged_tensor() -> Any:
    message = request()
    message.inputs["x"].dtype = 1
    message.inputs["x"].tensor_content = b"123"
    return message


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (request("nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        (damaged_tensor(), "INVALID_ARGUMENT", "tensor parsing error: x"),
        (b"\xff\xff\xff", "INTERNAL", "Failed to parse"),
        (b"\x0c\x0a\x00", "INTERNAL", "Failed to parse"),
    ],
    ids=["no spec", "no name", "unknown model", "damaged tensor", "garbage", "stray end of group"],
)
@pytest.mark.filterwarnings("ignore:Unexpected end-group tag")
def test_refusals(message: Any, code: str, text: str, server: RunningGrpc, channel: grpc.Channel) -> None:
    found, details = refusal(channel, message)
    assert found.name == code
    assert details.startswith(text)
    assert server.models.held == 0
    # The next call is none the worse.
    call(channel, with_x(request()))
    assert [status.name for *_, status in server.metrics.requests] == [code, "OK"]


def test_errors_of_the_model_keep_code_and_text() -> None:
    def fail(signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise StatusError(Code.UNAVAILABLE, "The batch scheduling queue is full")

    with RunningGrpc(FakePlane(fail)) as server, grpc.insecure_channel(server.target) as channel:
        assert refusal(channel, with_x(request())) == (
            grpc.StatusCode.UNAVAILABLE,
            "The batch scheduling queue is full",
        )
        eventually(lambda: server.models.held == 0)
        assert server.metrics.requests == [("echo", "Predict", "GRPC", Code.UNAVAILABLE)]


@pytest.mark.parametrize(("text", "kept"), [("a" * 1024, 1024), ("a" * 1025, 1024), ("a" + "ä" * 600, 1023)])
def test_long_texts_are_cut_as_tensorflow_serving_cuts_them(text: str, kept: int) -> None:
    def fail(signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise StatusError(Code.INVALID_ARGUMENT, text)

    with RunningGrpc(FakePlane(fail)) as server, grpc.insecure_channel(server.target) as channel:
        _, details = refusal(channel, with_x(request()))
    cut = text.encode()[:kept].decode()
    assert details == (text if len(text.encode()) <= 1024 else f"{cut}...TRUNCATED")


def test_an_output_that_cannot_be_sent_is_an_internal_error() -> None:
    plane = FakePlane(lambda signature, inputs: {"x": np.array(["2020"], "datetime64[Y]")})
    with RunningGrpc(plane) as server, grpc.insecure_channel(server.target) as channel:
        code, details = refusal(channel, with_x(request()))
    assert code is grpc.StatusCode.INTERNAL
    assert "datetime64" in details


def test_methods_that_tensorflow_serving_lacks_are_unimplemented(channel: grpc.Channel) -> None:
    for method in ("/tensorflow.serving.SessionService/SessionRun", "/grpc.health.v1.Health/Check", "/x"):
        assert refusal(channel, request(), method=method)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_a_large_message_passes(channel: grpc.Channel) -> None:
    array = np.arange(3_000_000, dtype=np.float32)
    message = request()
    write_tensor(array, message.inputs["x"], content=True)
    unlimited = [("grpc.max_receive_message_length", -1)]
    with RunningGrpc() as server, grpc.insecure_channel(server.target, options=unlimited) as wide:
        response = PredictResponse.FromString(call(wide, message))
    np.testing.assert_array_equal(read_tensor(response.outputs["x"]), array)


class Gate:
    """A model that answers when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.entered.release()
        assert self.open.wait(60)
        return dict(inputs)


def test_a_cancelled_call_is_dropped_and_lets_the_model_go() -> None:
    gate = Gate()
    with RunningGrpc(FakePlane(gate)) as server, grpc.insecure_channel(server.target) as channel:
        future = channel.unary_unary(PREDICT).future(with_x(request()).SerializeToString())
        assert gate.entered.acquire(timeout=60)
        assert server.models.held == 1
        future.cancel()
        eventually(lambda: server.metrics.requests == [("echo", "Predict", "GRPC", Code.CANCELLED)])
        assert server.models.held == 0
        gate.open.set()
        call(channel, with_x(request()))


def test_a_deadline_ends_the_call() -> None:
    gate = Gate()
    with RunningGrpc(FakePlane(gate)) as server, grpc.insecure_channel(server.target) as channel:
        assert refusal(channel, with_x(request()), timeout=0.3)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: server.models.held == 0)
        gate.open.set()


def test_many_calls_at_once_all_get_their_own_answer() -> None:
    with RunningGrpc() as server, grpc.insecure_channel(server.target) as channel:
        predict = channel.unary_unary(PREDICT)
        calls = [predict.future(with_x(request(), [n]).SerializeToString(), timeout=120) for n in range(300)]
        found = [read_tensor(PredictResponse.FromString(one.result()).outputs["x"]).tolist() for one in calls]
    assert found == [[float(n)] for n in range(300)]
    assert server.models.held == 0
    assert len(server.metrics.requests) == 300


def test_at_most_as_many_calls_as_asked_for_are_worked_on() -> None:
    gate = Gate()
    with (
        RunningGrpc(FakePlane(gate), FakeModels(), max_threads=2) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        predict = channel.unary_unary(PREDICT)
        calls = [predict.future(with_x(request()).SerializeToString(), timeout=120) for _ in range(6)]
        assert gate.entered.acquire(timeout=60) and gate.entered.acquire(timeout=60)
        assert not gate.entered.acquire(timeout=0.3)
        gate.open.set()
        assert all(one.result() for one in calls)

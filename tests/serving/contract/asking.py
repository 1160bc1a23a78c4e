"""Questions to a running server of the adder, over REST and gRPC, and whether the answers are right."""

from __future__ import annotations

import threading
from typing import Any

import grpc

from tests.serving.server.processes import RunningServer

ROWS = [[1.0, 2.0], [3.0, 4.0]]


def added(server: RunningServer, where: str = "/v1/models/adder") -> float:
    """What the model that answers a REST request adds."""
    status, answer = server.call(f"{where}:predict", {"instances": ROWS})
    assert status == 200, (status, answer)
    return _difference(answer["predictions"])


def added_over_grpc(channel: grpc.Channel, name: str = "adder", **spec: Any) -> float:
    """What the model that answers a gRPC request adds; `version` or `label` may be given."""
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    tensor = request.inputs["x"]
    tensor.dtype = 1
    for size in (2, 2):
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend([value for row in ROWS for value in row])
    call = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_serializer=predict_pb2.PredictRequest.SerializeToString,
        response_deserializer=predict_pb2.PredictResponse.FromString,
    )
    values = list(call(request, timeout=60).outputs["y"].float_val)
    return _difference([values[:2], values[2:]])


def reload(channel: grpc.Channel, text: str) -> None:
    """HandleReloadConfig with a text proto."""
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_management_pb2

    request = text_format.Parse(f"config {{ {text} }}", model_management_pb2.ReloadConfigRequest())
    call = channel.unary_unary(
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        request_serializer=model_management_pb2.ReloadConfigRequest.SerializeToString,
        response_deserializer=model_management_pb2.ReloadConfigResponse.FromString,
    )
    call(request, timeout=120)


def _difference(rows: list[list[float]]) -> float:
    differences = {
        round(got - sent, 4)
        for row, answer in zip(ROWS, rows, strict=True)
        for sent, got in zip(row, answer, strict=True)
    }
    assert len(differences) == 1, f"rows of different models: {rows}"
    return differences.pop()


class Load:
    """Clients that ask without a pause until they are told to stop.

    Attributes:
        answers: What the models added, in the order of the answers.
        failures: What went wrong.
    """

    def __init__(self, server: RunningServer, clients: int = 4) -> None:
        self.answers: list[float] = []
        self.failures: list[BaseException] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with grpc.insecure_channel(self._server.grpc_target) as channel:
            while not self._stop.is_set():
                try:
                    over_grpc = number % 2 == 1
                    answer = added_over_grpc(channel) if over_grpc else added(self._server)
                    self.answers.append(answer)
                except BaseException as error:
                    self.failures.append(error)
                    return

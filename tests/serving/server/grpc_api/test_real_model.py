"""The whole way: gRPC, data plane, batcher and a real SavedModel, asked by both makes of clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.client import Client, InvalidRequest
from serving.server.model_spec import ModelSpec
from tests.serving.saved_models import LABELS, encode_png, picture, to_example
from tests.serving.server.grpc_api.running import FakeHandle, FakeModels, RunningGrpc


class OneModel(FakeModels):
    def __init__(self, servable: Any) -> None:
        super().__init__()
        self.servable = servable

    def acquire(self, spec: ModelSpec) -> FakeHandle:
        handle = super().acquire(spec)
        handle.servable = self.servable
        return handle


@pytest.fixture(scope="module")
def server(classifier_dir: Path) -> Iterator[RunningGrpc]:
    from serving.server.batching import Batcher
    from serving.server.data_plane import DataPlane
    from serving.server.loading import LoadOptions, load_servable

    servable = load_servable(classifier_dir, LoadOptions())
    batcher = Batcher()
    with RunningGrpc(DataPlane(batcher), OneModel(servable)) as running:
        yield running
        running.run(batcher.drain())
    servable.close()


@pytest.fixture(scope="module")
def stub(server: RunningGrpc) -> Iterator[Any]:
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(server.target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_both_clients_get_the_same(server: RunningGrpc, stub: Any) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    images = [encode_png(picture(seed)) for seed in range(5)]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "echo"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(images))
    theirs = stub.Predict(request, timeout=120)
    with Client(f"grpc://{server.target}", "echo", timeout_seconds=120) as client:
        ours = client.predict({"image_bytes": images})
        rows = client.predict_images(images, batch=2)
    assert sorted(ours) == sorted(theirs.outputs)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, tf.make_ndarray(theirs.outputs[name]))
    assert [row["label"].encode() for row in rows] == ours["label"].tolist()
    np.testing.assert_allclose([row["probabilities"] for row in rows], ours["probabilities"], rtol=1e-5)


def test_a_bad_image_costs_its_neighbors_nothing(server: RunningGrpc) -> None:
    good = encode_png(picture(0))
    with Client(f"grpc://{server.target}", "echo", timeout_seconds=120) as client:
        with pytest.raises(InvalidRequest, match="image 1"):
            client.predict_images([good, b"no image", good])
        found = client.predict_images([good, b"no image", good], on_error="return")
    assert isinstance(found[1], InvalidRequest)
    assert found[0]["label"] == found[2]["label"] in LABELS


def test_the_texts_of_tensorflow_serving(stub: Any) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    def refusal(signature: str, output: str = "", **inputs: Any) -> tuple[str, str]:
        request = predict_pb2.PredictRequest(output_filter=[output] if output else [])
        request.model_spec.name, request.model_spec.signature_name = "echo", signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=120)
        return caught.value.code().name, caught.value.details()

    assert refusal("nope") == ("FAILED_PRECONDITION", 'Serving signature key "nope" not found.')
    code, text = refusal("", wrong=["x"])
    assert code == "INVALID_ARGUMENT"
    code, text = refusal("", image_bytes=["x"], other=["x"])
    assert (code, text.partition(":")[0]) == ("INVALID_ARGUMENT", "input size does not match signature")
    code, text = refusal("", "nope", image_bytes=["x"])
    assert (code, text.partition(":")[0]) == ("INVALID_ARGUMENT", "output tensor alias not found in signature")


def test_classify_and_metadata(server: RunningGrpc, stub: Any) -> None:
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "echo", "classify"
    for seed in range(3):
        request.input.example_list.examples.add().ParseFromString(to_example(encode_png(picture(seed))))
    answer = stub.Classify(request, timeout=120)
    assert [tuple(one.label for one in row.classes) for row in answer.result.classifications] == [LABELS] * 3
    assert sum(one.score for one in answer.result.classifications[0].classes) == pytest.approx(1.0)
    with Client(f"grpc://{server.target}", "echo", timeout_seconds=120) as client:
        found = client.metadata()
    assert sorted(found) == ["classify", "predict_examples", "predict_uint8", "serving_default"]
    assert str(found["predict_uint8"].inputs["image"]) == "image: uint8 [?, 8, 8, 3]"
    assert server.models.held == 0

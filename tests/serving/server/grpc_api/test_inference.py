from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from serving.server.status import Code
from tests.serving.server.grpc_api.running import RunningGrpc


@pytest.fixture(scope="module")
def server() -> Iterator[RunningGrpc]:
    with RunningGrpc() as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: RunningGrpc) -> Iterator[Any]:
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(server.target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(autouse=True)
def _forget(server: RunningGrpc) -> None:
    server.plane.calls.clear()
    server.metrics.requests.clear()


def example(**features: int) -> Any:
    import tensorflow as tf

    values = {key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value])) for key, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=values))


def classification(name: str = "echo") -> Any:
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = name
    return request


def test_classify(server: RunningGrpc, stub: Any) -> None:
    request = classification()
    request.model_spec.signature_name = "classify"
    request.input.example_list.examples.extend([example(a=1), example(a=2)])
    answer = stub.Classify(request, timeout=60)
    assert [[(one.label, one.score) for one in row.classes] for row in answer.result.classifications] == [
        [("cat", 0.25), ("dog", 0.75)]
    ] * 2
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("echo", 3)
    assert answer.model_spec.signature_name == "classify"
    assert server.plane.calls[0][2] == [one.SerializeToString() for one in request.input.example_list.examples]
    assert server.metrics.requests == [("echo", "Classify", "GRPC", Code.OK)]
    assert server.models.held == 0


def test_a_context_is_merged_and_overridden(server: RunningGrpc, stub: Any) -> None:
    import tensorflow as tf

    request = classification()
    request.input.example_list_with_context.context.CopyFrom(example(a=1, b=2))
    request.input.example_list_with_context.examples.append(example(b=3))
    stub.Classify(request, timeout=60)
    (merged,) = server.plane.calls[0][2]
    feature = tf.train.Example.FromString(merged).features.feature
    assert {key: value.int64_list.value[:] for key, value in feature.items()} == {"a": [1], "b": [3]}


def test_regress(server: RunningGrpc, stub: Any) -> None:
    from tensorflow_serving.apis import regression_pb2

    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "echo"
    request.input.example_list.examples.append(example(a=1))
    answer = stub.Regress(request, timeout=60)
    assert [one.value for one in answer.result.regressions] == [float(example(a=1).ByteSize())]
    assert answer.model_spec.signature_name == "serving_default"
    assert server.metrics.requests == [("echo", "Regress", "GRPC", Code.OK)]


def multi(*tasks: tuple[str, str, str]) -> Any:
    from tensorflow_serving.apis import inference_pb2

    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    request.input.example_list.examples.append(example(a=1))
    return request


def test_multi_inference(server: RunningGrpc, stub: Any) -> None:
    answer = stub.MultiInference(multi(("echo", "", "classify"), ("echo", "r", "regress")), timeout=60)
    first, second = answer.results
    assert [one.score for one in first.classification_result.classifications[0].classes] == [0.5]
    assert not first.classification_result.classifications[0].classes[0].label
    assert first.model_spec.signature_name == "serving_default"
    assert second.regression_result.regressions[0].value == 1.5
    assert second.model_spec.version.value == 3
    # TensorFlow Serving does not count these calls.
    assert server.metrics.requests == []


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ((), "ModelSpec has no name specified."),
        ((("echo", "a", "classify"), ("", "b", "classify")), "Found ModelSpec with an empty model name."),
        ((("echo", "a", "classify"), ("x", "b", "classify")), "All ModelSpecs in a MultiInferenceRequest must access"),
    ],
    ids=["no tasks", "no name", "two models"],
)
def test_tasks_that_do_not_fit_together(tasks: Any, text: str, server: RunningGrpc, stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.MultiInference(multi(*tasks), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(text)
    assert server.models.held == 0


def test_refusals(server: RunningGrpc, stub: Any) -> None:
    from tensorflow_serving.apis import classification_pb2

    for request, code, text in (
        (classification_pb2.ClassificationRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (classification("nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        (classification(), "INVALID_ARGUMENT", "Input is empty."),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request, timeout=60)
        assert (caught.value.code().name, caught.value.details()) == (code, text)
    assert server.models.held == 0
    names = [(name, status.name) for name, _, _, status in server.metrics.requests]
    assert names == [("", "INVALID_ARGUMENT"), ("nope", "NOT_FOUND"), ("echo", "INVALID_ARGUMENT")]

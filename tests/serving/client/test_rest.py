"""The REST client against a server in this process."""

from __future__ import annotations

import asyncio
import email.utils
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.client import (
    AsyncClient,
    Client,
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    NotAllowed,
    NotFound,
    RetryBudget,
    ServerFailure,
    Unavailable,
)
from serving.server.status import Code
from tests.serving.client.rest_server import SIGNATURES, Request, RestServer, info, metadata, model


@pytest.fixture()
def server() -> Iterator[RestServer]:
    with RestServer() as running:
        yield running


@pytest.fixture()
def client(server: RestServer) -> Iterator[Client]:
    with Client(server.url, "pets", timeout_seconds=60, retries=RetryBudget(base_seconds=0.01)) as made:
        yield made


def test_predict(server: RestServer, client: Client) -> None:
    found = client.predict({"image_bytes": [b"cat\0", "dog"]})
    assert found["label"].tolist() == [b"cat", b"dog"]
    assert (found["class_id"].dtype, found["class_id"].tolist()) == (np.int64, [0, 1])
    assert (found["probabilities"].dtype, found["probabilities"].shape) == (np.float32, (2, 2))
    assert found.version is None
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", "/v1/models/pets:predict")
    assert sent.content == {
        "signature_name": "serving_default",
        "inputs": {"image_bytes": [{"b64": "Y2F0AA=="}, {"b64": "ZG9n"}]},
    }


def test_names_are_quoted_and_versions_and_labels_chosen(server: RestServer) -> None:
    with Client(server.url, "a b/ü") as client:
        assert client.predict({"image_bytes": [b"c"]}, version=0).version == 0
        client.predict({"image_bytes": [b"c"]}, label="x/y")
        client.status(version=7)
        with pytest.raises(InvalidRequest, match="one of them"):
            client.predict({"image_bytes": [b"c"]}, version=1, label="x")
        with pytest.raises(InvalidRequest, match="0 or more"):
            client.status(version=-1)
    assert server.paths() == [
        "/v1/models/a%20b%2F%C3%BC/versions/0:predict",
        "/v1/models/a%20b%2F%C3%BC/labels/x%2Fy:predict",
    ]
    assert server.paths("GET")[-1] == "/v1/models/a%20b%2F%C3%BC/versions/7"


@pytest.mark.parametrize(
    "values",
    [
        [0.1, -0.0, 1e300],
        [float("nan"), float("inf"), -float("inf")],
        [[1.0], [2.0]],
        2.5,
        [],
    ],
    ids=["finite", "not finite", "matrix", "scalar", "empty"],
)
def test_numbers_survive_json(values: Any, client: Client) -> None:
    for given in (values, np.array(values, np.float64)):
        found = client.predict({"x": given}, signature="echo")
        expected = np.array(given, np.float64)
        assert found["y"].dtype == np.float64
        np.testing.assert_array_equal(found["y"], expected.reshape(found["y"].shape))


def test_arrays_of_any_layout_are_sent(client: Client) -> None:
    array = np.arange(12).astype(">f4").reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(client.predict({"x": array}, signature="echo")["y"], array)
    with pytest.raises(InvalidRequest, match="complex64"):
        client.predict({"x": np.complex64(1)}, signature="echo")
    with pytest.raises(InvalidRequest, match="int"):
        client.predict({"x": np.array([b"a", 1], object)}, signature="echo")
    with pytest.raises(InvalidRequest, match="make no array"):
        client.predict({"x": [[1, 2], [3]]}, signature="echo")


def test_metadata_is_asked_once_and_again_when_the_outputs_change(server: RestServer, client: Client) -> None:
    for _ in range(3):
        client.predict({"x": 1.0}, signature="echo")
    assert server.paths("GET") == ["/v1/models/pets/metadata"]
    changed = SIGNATURES | {"echo": {**SIGNATURES["echo"], "outputs": {"a": info("DT_INT32"), "b": info("DT_FLOAT")}}}

    def behavior(request: Request) -> Any:
        return metadata(changed) if request.method == "GET" else (200, {"outputs": {"a": 1, "b": 2.0}}, {})

    server.behavior = behavior
    # One output is a bare value, so an object of two would pass for one output of an odd form.
    with pytest.raises(ServerFailure, match="make no arrays"):
        client.predict({"x": 1.0}, signature="echo")
    server.behavior = model
    client.predict({"image_bytes": [b"c"]})
    default = SIGNATURES["serving_default"]["outputs"] | {"more": info("DT_INT32")}
    changed["serving_default"] = {**SIGNATURES["serving_default"], "outputs": default}
    server.behavior = lambda request: (
        metadata(changed)
        if request.method == "GET"
        else (200, {"outputs": {"label": ["a"], "class_id": [1], "probabilities": [[1.0]], "more": 5}}, {})
    )
    assert client.predict({"image_bytes": [b"c"]})["more"].dtype == np.int32


def test_without_metadata_types_are_guessed(server: RestServer, client: Client) -> None:
    server.behavior = lambda request: (
        (404, {"error": "no"}, {})
        if request.method == "GET"
        else (200, {"outputs": {"a": [1], "b": [1.5], "c": ["x", {"b64": "AAE="}], "d": [True]}}, {})
    )
    found = client.predict({"x": 1})
    assert {name: str(array.dtype) for name, array in found.items()} == {
        "a": "int64",
        "b": "float32",
        "c": "object",
        "d": "bool",
    }
    assert found["c"].tolist() == [b"x", b"\0\1"]


def test_outputs_are_picked(client: Client) -> None:
    assert list(client.predict({"image_bytes": [b"c"]}, outputs=["class_id"])) == ["class_id"]
    with pytest.raises(InvalidRequest, match=r"no outputs \['no'\]"):
        client.predict({"image_bytes": [b"c"]}, outputs=["no"])


def test_an_answer_of_no_rows_keeps_its_rank(server: RestServer, client: Client) -> None:
    server.behavior = lambda request: (
        model(request)
        if request.method == "GET"
        else (200, {"outputs": {"label": [], "class_id": [], "probabilities": []}}, {})
    )
    found = client.predict({"image_bytes": []})
    assert found["probabilities"].shape == (0, 2)
    assert found["label"].shape == (0,)


def test_status_and_metadata(client: Client) -> None:
    (state,) = client.status()
    assert (state.version, state.state, state.code, state.message) == (3, "AVAILABLE", Code.OK, "")
    found = client.metadata()
    assert sorted(found) == ["echo", "serving_default"]
    assert str(found["serving_default"].outputs["probabilities"]) == "probabilities: float32 [?, 2]"
    assert client.resolve("stable") == client.resolve() == 3


def test_reload_is_for_grpc(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="grpc://"):
        client.reload("model_config_list {}")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, InvalidRequest, "INVALID_ARGUMENT"),
        (401, NotAllowed, "UNAUTHENTICATED"),
        (403, NotAllowed, "PERMISSION_DENIED"),
        (404, NotFound, "NOT_FOUND"),
        (413, InvalidRequest, "INVALID_ARGUMENT"),
        (429, Unavailable, "RESOURCE_EXHAUSTED"),
        (500, ServerFailure, "INTERNAL"),
        (501, InvalidRequest, "UNIMPLEMENTED"),
        (502, Unavailable, "UNAVAILABLE"),
        (503, Unavailable, "UNAVAILABLE"),
        (504, DeadlineExceeded, "DEADLINE_EXCEEDED"),
    ],
)
def test_statuses(status: int, kind: type[ClientError], code: str, server: RestServer) -> None:
    server.behavior = lambda request: (status, {"error": "the reason"}, {})
    with Client(server.url, "pets", retries=RetryBudget(attempts=1)) as client, pytest.raises(kind) as caught:
        client.predict({"x": 1})
    assert (caught.value.code.name, caught.value.message) == (code, "the reason")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[1]", b'{"outputs": ', b'{"predictions": [1]}', b'{"outputs": [[1], [2, 3]]}', b"[" * 9999],
)
def test_answers_that_are_none(body: bytes, server: RestServer, client: Client) -> None:
    server.behavior = lambda request: model(request) if request.method == "GET" else (200, body, {})
    with pytest.raises(ServerFailure):
        client.predict({"x": 1}, signature="echo")
    server.behavior = lambda request: (200, body, {})
    with pytest.raises(ServerFailure):
        client.status()
    with pytest.raises(ServerFailure):
        client.metadata()


def test_an_error_page_of_a_proxy_is_shown(server: RestServer) -> None:
    server.behavior = lambda request: (400, b"<html>go away</html>", {})
    with Client(server.url, "pets") as client, pytest.raises(InvalidRequest, match="HTTP status 400: '<html>go away"):
        client.status()


class Failing:
    """Fails a number of times, then answers."""

    def __init__(self, times: int, status: int = 503, headers: dict[str, str] | None = None) -> None:
        self.left = times
        self.status = status
        self.headers = headers or {}

    def __call__(self, request: Request) -> Any:
        if request.method == "GET":
            return model(request)
        self.left -= 1
        return model(request) if self.left < 0 else (self.status, {"error": "not now"}, self.headers)


def test_what_passes_is_retried(server: RestServer, client: Client) -> None:
    server.behavior = Failing(3)
    assert client.predict({"image_bytes": [b"c"]})["label"].tolist() == [b"cat"]
    assert len(server.paths()) == 4
    bodies = {request.body for request in server.requests if request.method == "POST"}
    assert len(bodies) == 1


def test_attempts_are_limited(server: RestServer, client: Client) -> None:
    server.behavior = Failing(4)
    with pytest.raises(Unavailable, match="not now"):
        client.predict({"image_bytes": [b"c"]})
    assert len(server.paths()) == 4


def test_what_does_not_pass_is_not_retried(server: RestServer, client: Client) -> None:
    for status in (400, 404, 429, 500, 504):
        server.behavior = Failing(1, status)
        with pytest.raises(ClientError):
            client.predict({"image_bytes": [b"c"]})
    assert len(server.paths()) == 5


def test_an_empty_budget_ends_retries(server: RestServer) -> None:
    server.behavior = lambda request: (503, {"error": "down"}, {})
    budget = RetryBudget(capacity=3, ratio=0, per_second=0, base_seconds=0.001)
    with Client(server.url, "pets", retries=budget) as one, Client(server.url, "pets", retries=budget) as other:
        for client in (one, other, one):
            with pytest.raises(Unavailable):
                client.predict({"x": 1})
    assert len(server.requests) == 3 + 3


def test_retry_after_is_honored(server: RestServer) -> None:
    waits: list[float] = []

    class Watched(RetryBudget):
        def wait_seconds(self, error: ClientError, attempt: int, left_seconds: float) -> float | None:
            waits.append(error.retry_after_seconds or 0.0)
            return super().wait_seconds(error, attempt, left_seconds)

    soon = email.utils.formatdate(time.time() + 3600, usegmt=True)
    with Client(server.url, "pets", timeout_seconds=30, retries=Watched(base_seconds=0)) as client:
        server.behavior = Failing(1, 503, {"retry-after": "0"})
        client.predict({"image_bytes": [b"c"]})
        server.behavior = Failing(1, 429, {"retry-after": "0"})
        client.predict({"image_bytes": [b"c"]})
        # Later than the deadline: no use in waiting.
        for late in ("120", soon):
            server.behavior = Failing(1, 503, {"retry-after": late})
            with pytest.raises(Unavailable):
                client.predict({"image_bytes": [b"c"]})
    assert waits[:3] == [0.0, 0.0, 120.0]
    assert 3500 < waits[3] <= 3600


def test_connections_are_reused(server: RestServer, client: Client) -> None:
    for _ in range(5):
        client.predict({"image_bytes": [b"c"]})
    assert server.connections == 1


def test_headers_are_sent(server: RestServer) -> None:
    with Client(server.url, "pets", headers={"Authorization": "Bearer x"}) as client:
        client.status()
    assert server.requests[0].headers["authorization"] == "Bearer x"


def test_images_go_in_batches_and_come_back_in_order(server: RestServer, client: Client) -> None:
    images = [b"c%d" % n if n % 3 == 0 else b"d%d" % n for n in range(20)]
    found = client.predict_images(images, batch=6)
    assert [one["label"] for one in found] == ["cat" if n % 3 == 0 else "dog" for n in range(20)]
    assert found[0]["class_id"] == 0
    assert found[1]["probabilities"].tolist() == [0.25, 0.75]
    sizes = [len(request.content["inputs"]["image_bytes"]) for request in server.requests if request.method == "POST"]
    assert sorted(sizes) == [2, 6, 6, 6]
    assert client.predict_images([]) == []
    with pytest.raises(ValueError, match="batch=0"):
        client.predict_images(images, batch=0)


def test_a_bad_image_is_named_and_costs_no_other_its_answer(server: RestServer, client: Client) -> None:
    images = [b"c", b"bad", b"d", b"d", b"bad"]
    with pytest.raises(InvalidRequest, match="image 1: Unknown image file format"):
        client.predict_images(images, batch=3)
    found = client.predict_images(images, batch=3, on_error="return")
    assert [one["label"] if isinstance(one, dict) else one.message for one in found] == [
        "cat",
        "Unknown image file format",
        "dog",
        "dog",
        "Unknown image file format",
    ]


def test_a_request_that_is_wrong_as_a_whole_blames_no_image(server: RestServer, client: Client) -> None:
    server.behavior = lambda request: (400, {"error": "Unrecognized servable version label: x"}, {})
    with pytest.raises(InvalidRequest) as caught:
        client.predict_images([b"c", b"d"], label="x")
    assert caught.value.message == "Unrecognized servable version label: x"


def test_models_that_are_no_image_classifiers_are_named(server: RestServer, client: Client) -> None:
    server.behavior = lambda request: model(request) if request.method == "GET" else (200, {"outputs": [1.0]}, {})
    with pytest.raises(ServerFailure, match="gives 'y'"):
        client.predict_images([b"c"], signature="echo", input_name="x")


def test_the_asynchronous_client_does_many_calls_at_once(server: RestServer) -> None:
    gate = threading.Barrier(5)

    def together(request: Request) -> Any:
        if request.method == "POST":
            gate.wait(60)
        return model(request)

    server.behavior = together

    async def main() -> list[Any]:
        async with AsyncClient(server.url, "pets", timeout_seconds=60) as client:
            return await asyncio.gather(*(client.predict({"image_bytes": [b"c"]}) for _ in range(5)))

    assert len(asyncio.run(main())) == 5


def test_threads_share_a_client(server: RestServer, client: Client) -> None:
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.predict({"image_bytes": [b"c"]}))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 8


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    client.close()
    with pytest.raises(Unavailable, match="closed"):
        client.status()


@pytest.mark.parametrize("options", [{"timeout_seconds": 0}, {"model": ""}])
def test_arguments_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="received"):
        Client("http://localhost:1", **{"model": "pets"} | options)


def test_a_child_process_may_go_on_with_the_client_of_its_parent(server: RestServer) -> None:
    code = """
import os, sys
from serving.client import Client
client = Client(sys.argv[1], "pets")
client.status()
child = os.fork()
if child == 0:
    os._exit(7 if client.status()[0].version == 3 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), client.status()[0].version)
"""
    done = subprocess.run([sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["7", "3"], done.stderr


def test_clients_import_no_tensorflow(server: RestServer) -> None:
    code = """
import json, sys
from serving.client import Client
with Client(sys.argv[1], "pets") as client:
    client.predict({"image_bytes": [b"c"]})
for address in ("grpc://127.0.0.1:1",):
    Client(address, "pets").close()
print(json.dumps([name for name in sys.modules if name.startswith("tensorflow")]))
"""
    done = subprocess.run([sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == [], done.stderr

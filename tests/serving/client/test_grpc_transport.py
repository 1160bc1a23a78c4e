"""The gRPC client against the gRPC API of the model server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    RetryBudget,
    ServerFailure,
    TlsFiles,
    Unavailable,
)
from serving.client.errors import ClientError
from serving.server.status import Code, StatusError
from serving.wire.messages import ModelServerConfig
from tests.serving.server.grpc_api.running import FakePlane, RunningGrpc
from tests.serving.server.grpc_api.test_predict import Gate
from tests.serving.server.grpc_api.test_server import Authority, Keys


@pytest.fixture(scope="module")
def server() -> Iterator[RunningGrpc]:
    with RunningGrpc() as running:
        yield running


@pytest.fixture()
def client(server: RunningGrpc) -> Iterator[Client]:
    with Client(f"grpc://{server.target}", "echo", timeout_seconds=60) as made:
        yield made


def test_predict(client: Client) -> None:
    found = client.predict({"x": np.float64([[1, 2]]), "s": [b"\0", "ä"], "scalar": np.int32(7)}, version=2)
    assert found["x"].dtype == np.float64
    assert found["x"].tolist() == [[1, 2]]
    assert found["s"].tolist() == [b"\0", "ä".encode()]
    assert found["scalar"].shape == ()
    assert found.version == 2


def test_lists_take_the_dtype_of_the_signature(client: Client) -> None:
    assert client.predict({"x": [1, 2]})["x"].dtype == np.float32
    # Arrays keep their own.
    assert client.predict({"x": np.array([1, 2])})["x"].dtype == np.int64
    with pytest.raises(InvalidRequest, match="x: float32"):
        client.predict({"x": [[1], [2, 3]]})


def test_outputs_are_filtered_by_the_server(server: RunningGrpc, client: Client) -> None:
    assert list(client.predict({"x": np.ones(1), "y": np.ones(1)}, outputs=["y"])) == ["y"]
    assert list(server.plane.calls[-1][3]) == ["y"]


def test_the_deadline_is_sent(server: RunningGrpc, client: Client) -> None:
    client.predict({"x": np.ones(1)})
    assert server.plane.calls[-1][4] is not None


def test_status_and_metadata(client: Client) -> None:
    first, second = client.status()
    assert (first.version, first.state, first.code) == (3, "AVAILABLE", Code.OK)
    assert (second.state, second.code, second.message) == ("END", Code.DATA_LOSS, "variables are truncated")
    assert str(client.metadata()["serving_default"].inputs["x"]) == "x: float32 [?]"


def test_reload(server: RunningGrpc, client: Client) -> None:
    text = 'model_config_list { config { name: "pets" base_path: "/x" version_labels { key: "a" value: 3 } } }'
    client.reload(text)
    from google.protobuf import text_format

    client.reload(text_format.Parse(text, ModelServerConfig()))
    one, other = server.models.configs[-2:]
    assert one == other
    assert one.model_config_list.config[0].version_labels == {"a": 3}
    for wrong in ("nonsense", "model_config_list { config { nam: 1 } }", 5):
        with pytest.raises(InvalidRequest, match="no ModelServerConfig"):
            client.reload(wrong)


def test_errors(client: Client) -> None:
    with pytest.raises(NotFound) as missing:
        client.predict({"x": np.ones(1)}, version=9)
    assert missing.value.message == "Servable not found for request: Specific(echo, 9)"
    with pytest.raises(InvalidRequest, match="Unrecognized servable version label: no"):
        client.predict({"x": np.ones(1)}, label="no")
    with pytest.raises(InvalidRequest, match=r"input 'x'.*datetime64"):
        client.predict({"x": np.array(["2020"], "datetime64[Y]")})


def test_a_deadline_that_passes() -> None:
    gate = Gate()
    with RunningGrpc(FakePlane(gate)) as server, Client(f"grpc://{server.target}", "echo") as client:
        with pytest.raises(DeadlineExceeded):
            client.predict({"x": np.ones(1)}, timeout_seconds=0.3)
        gate.open.set()


class Failing:
    """Fails a number of times, then echoes."""

    def __init__(self, times: int, code: Code = Code.UNAVAILABLE) -> None:
        self.left = times
        self.code = code
        self.calls = 0

    def __call__(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise StatusError(self.code, "not now")
        return dict(inputs)


def test_what_passes_is_retried() -> None:
    failing = Failing(3)
    budget = RetryBudget(base_seconds=0.001)
    with (
        RunningGrpc(FakePlane(failing)) as server,
        Client(f"grpc://{server.target}", "echo", timeout_seconds=60, retries=budget) as client,
    ):
        assert client.predict({"x": np.ones(1)})["x"].tolist() == [1.0]
    assert failing.calls == 4


@pytest.mark.parametrize(
    "code", [Code.INVALID_ARGUMENT, Code.INTERNAL, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED]
)
def test_what_does_not_pass_is_not_retried(code: Code) -> None:
    failing = Failing(1, code)
    with (
        RunningGrpc(FakePlane(failing)) as server,
        Client(f"grpc://{server.target}", "echo") as client,
        pytest.raises(ClientError) as caught,
    ):
        client.predict({"x": np.ones(1)})
    assert (caught.value.code, failing.calls) == (code, 1)


def test_a_server_that_comes_back_is_found(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'grpc.sock'}"
    budget = RetryBudget(attempts=100, capacity=100, base_seconds=0.05, cap_seconds=0.2)
    with Client(address, "echo", timeout_seconds=60, retries=budget) as client:
        for _ in range(2):
            with RunningGrpc(addresses=(address,)):
                assert client.status()


def test_tls(tmp_path: Path) -> None:
    authority = Authority()
    files = {"ca": authority.certificate}
    files["key"], files["certificate"] = authority.issue("client")
    paths = {name: tmp_path / name for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    with (
        RunningGrpc(tls=Keys(*authority.issue("localhost"), authority.certificate, True)) as server,
        Client(f"grpcs://localhost:{server.server.port}", "echo", tls=TlsFiles(**paths)) as client,
    ):
        assert client.status()
    with pytest.raises(ClientError, match="cannot be read"):
        Client("grpcs://localhost:1", "echo", tls=TlsFiles(ca=tmp_path / "missing"))


def test_headers_become_metadata_and_pushback_is_honored() -> None:
    seen: list[Any] = []

    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        if len(seen) == 1:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
        return b""

    with (
        Foreign(handle) as port,
        Client(f"grpc://127.0.0.1:{port}", "echo", timeout_seconds=60, headers={"X-Key": "k"}) as client,
    ):
        assert client.status() == []
    assert [metadata["x-key"] for metadata in seen] == ["k", "k"]


class Foreign:
    """A gRPC server of another make that answers every call by a function."""

    def __init__(self, handle: Any) -> None:
        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                return grpc.unary_unary_rpc_method_handler(handle)

        self._server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> int:
        self._server.start()
        return self._port

    def __exit__(self, *error: object) -> None:
        self._server.stop(None)


@pytest.mark.parametrize("answer", [b"\xff\xff", b"\x0a\x02\x10\x07"], ids=["garbage", "unknown state"])
def test_answers_that_are_none(answer: bytes) -> None:
    with (
        Foreign(lambda request, context: answer) as port,
        Client(f"grpc://127.0.0.1:{port}", "echo") as client,
        pytest.raises(ServerFailure),
    ):
        client.status()


def test_an_output_that_is_no_tensor() -> None:
    # outputs { key: "y" value { dtype: DT_FLOAT, tensor_content: "1" } }
    answer = b"\x0a\x0a\x0a\x01y\x12\x05\x08\x01\x22\x011"
    with (
        Foreign(lambda request, context: answer) as port,
        Client(f"grpc://127.0.0.1:{port}", "echo") as client,
        pytest.raises(ServerFailure, match="no tensor"),
    ):
        client.predict({"x": np.ones(1)})


def test_many_calls_at_once(server: RunningGrpc) -> None:
    async def main() -> list[Any]:
        async with AsyncClient(f"grpc://{server.target}", "echo", timeout_seconds=60) as client:
            return await asyncio.gather(*(client.predict({"x": np.full(2, n)}) for n in range(50)))

    assert [found["x"].tolist() for found in asyncio.run(main())] == [[n, n] for n in range(50)]


def test_a_cancelled_call_is_cancelled_at_the_server() -> None:
    gate = Gate()

    async def main() -> None:
        async with AsyncClient(f"grpc://{server.target}", "echo", timeout_seconds=60) as client:
            task = asyncio.create_task(client.predict({"x": np.ones(1)}))
            await asyncio.get_running_loop().run_in_executor(None, gate.entered.acquire)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not server.metrics.requests:
                await asyncio.sleep(0.01)

    with RunningGrpc(FakePlane(gate)) as server:
        asyncio.run(asyncio.wait_for(main(), 60))
        assert [status for *_, status in server.metrics.requests] == [Code.CANCELLED]
        gate.open.set()


def test_a_closed_client_says_so(server: RunningGrpc) -> None:
    async def main() -> None:
        client = AsyncClient(f"grpc://{server.target}", "echo", retries=RetryBudget(attempts=1))
        await client.close()
        with pytest.raises(Unavailable, match="closed"):
            await client.status()

    asyncio.run(main())

"""Servers that hang up, babble, or never come to an end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving.client import AsyncClient, Client, DeadlineExceeded, RetryBudget, ServerFailure, Unavailable, transport
from tests.serving.client.rest_server import RestServer, RudeServer, model

SCHEMES = ("http", "grpc")
Treat = Callable[[socket.socket], None]


def once() -> RetryBudget:
    return RetryBudget(attempts=1)


def hang_up(connection: socket.socket) -> None:
    connection.recv(10)
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def babble(connection: socket.socket) -> None:
    connection.recv(10)
    connection.sendall(b"\xff\0garbage\r\n\r\n" * 100)
    connection.close()


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def drip(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def drip_headers(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x: y\r\n")
        time.sleep(0.02)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("treat", [hang_up, reset], ids=["hangs up", "resets"])
def test_a_lost_connection_is_unavailable(treat: Treat, scheme: str) -> None:
    with (
        RudeServer(treat) as server,
        Client(f"{scheme}://127.0.0.1:{server.port}", "pets", retries=once()) as client,
        pytest.raises(Unavailable),
    ):
        client.status()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nobody_there_is_unavailable_and_retried(scheme: str) -> None:
    with socket.socket() as reserved:
        # Bound but not listening: connections are refused, and nobody else gets the port.
        reserved.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{reserved.getsockname()[1]}"
        budget = RetryBudget(base_seconds=0.001, per_second=0)
        with Client(address, "pets", retries=budget) as client, pytest.raises(Unavailable):
            client.status()
    assert budget.tokens == pytest.approx(10.0 - 3.0)


def test_a_connection_that_is_lost_is_made_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n" + b'{"model_version_status":[]}'

    def second_time(connection: socket.socket) -> None:
        connection.recv(65536)
        if server.connections > 1:
            connection.sendall(answer)
        connection.close()

    with (
        RudeServer(second_time) as server,
        Client(f"http://127.0.0.1:{server.port}", "pets", retries=RetryBudget(base_seconds=0.001)) as client,
    ):
        assert client.status() == []
        assert server.connections == 2


def test_garbage_instead_of_http_is_a_failure() -> None:
    with (
        RudeServer(babble) as server,
        Client(f"http://127.0.0.1:{server.port}", "pets") as client,
        pytest.raises(ServerFailure, match="not HTTP"),
    ):
        client.status()
    assert server.connections == 1


def test_garbage_instead_of_http2_is_no_answer() -> None:
    with (
        RudeServer(babble) as server,
        Client(f"grpc://127.0.0.1:{server.port}", "pets", retries=once()) as client,
        pytest.raises(Unavailable),
    ):
        client.status()


@pytest.mark.parametrize(
    ("scheme", "treat"),
    [("http", say_nothing), ("grpc", say_nothing), ("http", drip), ("http", drip_headers)],
    ids=["http silent", "grpc silent", "slow body", "slow headers"],
)
def test_the_deadline_holds_whatever_the_server_does(scheme: str, treat: Treat) -> None:
    with (
        RudeServer(treat) as server,
        Client(f"{scheme}://127.0.0.1:{server.port}", "pets", timeout_seconds=0.3, retries=once()) as client,
        pytest.raises((DeadlineExceeded, Unavailable)),
    ):
        client.predict({"x": [1.0]})


def test_the_deadline_is_for_all_attempts_together() -> None:
    with RestServer(lambda request: (503, {"error": "down"}, {})) as server:
        budget = RetryBudget(attempts=10_000, capacity=10_000, base_seconds=0.5, uniform=lambda low, high: high)
        with Client(server.url, "pets", timeout_seconds=5, retries=budget) as client, pytest.raises(Unavailable):
            client.predict({"x": [1.0]})
    assert 2 <= len(server.requests) <= 5


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.client import rest

    monkeypatch.setattr(rest, "MAX_ANSWER_BYTES", 10_000)
    assert transport.MAX_ANSWER_BYTES > 10_000
    with RestServer(lambda request: (200, b" " * 100_000, {})) as server, Client(server.url, "pets") as client:
        with pytest.raises(ServerFailure, match="more than 10,000 bytes"):
            client.status()
        server.behavior = model
        assert client.status()


def test_a_cancelled_call_leaves_a_client_that_works() -> None:
    def slow(request: Any) -> Any:
        if request.method == "POST":
            time.sleep(0.2)
        return model(request)

    async def main() -> None:
        async with AsyncClient(server.url, "pets", timeout_seconds=60) as client:
            task = asyncio.create_task(client.predict({"image_bytes": [b"c"]}))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await client.status()

    with RestServer(slow) as server:
        asyncio.run(main())


def test_redirects_are_not_followed() -> None:
    with RestServer() as target, RestServer(lambda request: (302, b"", {"location": target.url})) as server:
        with Client(server.url, "pets") as client, pytest.raises(ServerFailure, match="302"):
            client.status()
        assert not target.requests

"""The server as a process: signals, crashes, ports, exit codes."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.serving.contract.asking import Load, added
from tests.serving.server.processes import EMBEDDED, Launch
from tests.serving.server.waiting import eventually

pytestmark = pytest.mark.slow
Place = Callable[..., Path]


def _flags(base: Path, *more: str) -> list[str]:
    return ["--model_name=adder", f"--model_base_path={base}", *more]


def test_killed_and_started_again(model_server: Launch, base: Path, place: Place, tmp_path: Path) -> None:
    place(1)
    first = model_server(_flags(base, f"--grpc_socket_path={tmp_path / 's'}"))
    ports = [f"--port={first.grpc_target.rpartition(':')[2]}", f"--rest_api_port={first.rest_url.rpartition(':')[2]}"]
    first.process.signal(signal.SIGKILL)
    assert first.process.exit_code() == -signal.SIGKILL
    second = model_server([*ports, *_flags(base, f"--grpc_socket_path={tmp_path / 's'}")])
    assert added(second) == 1


@pytest.mark.skipif(not EMBEDDED, reason="the real server does not finish requests when it is stopped")
def test_what_was_accepted_is_answered_before_the_end(model_server: Launch, base: Path, place: Place) -> None:
    place(1)
    server = model_server(_flags(base))
    body = b'{"instances": [[1.0, 2.0]]}'
    head = f"POST /v1/models/adder:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    address = ("127.0.0.1", int(server.rest_url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=60) as client, Load(server) as load:
        client.sendall(head + body[:9])
        eventually(lambda: len(load.answers) > 20)
        server.process.signal(signal.SIGTERM)
        eventually(lambda: "shutting down" in server.log.read_text())
        with pytest.raises(OSError, match="refused"):
            eventually(lambda: socket.create_connection(address).close())
        assert server.process.alive(), "one request is still on its way"
        client.sendall(body[9:])
        answer = b""
        while received := client.recv(65536):
            answer += received
    assert answer.startswith(b"HTTP/1.1 200 ") and json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "predictions": [[2.0, 3.0]]
    }
    assert server.process.exit_code() == 0, server.log.read_text()
    for failure in load.failures:
        # Clients meet a closed door, never an answer that breaks off.
        unavailable = isinstance(failure, grpc.RpcError) and failure.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        assert unavailable or isinstance(failure, (ConnectionError, urllib.error.URLError)), repr(failure)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(not EMBEDDED, reason="the real server is ended by the signal")
def test_stopped_while_it_waits_for_a_model(model_server: Launch, base: Path, number: signal.Signals) -> None:
    server = model_server.begin(_flags(base))
    eventually(lambda: "no versions of adder found" in server.log.read_text())
    server.process.signal(number)
    assert server.process.exit_code() == 0


def test_nothing_listens_before_a_model_is_there(model_server: Launch, base: Path, place: Place) -> None:
    server = model_server.begin(_flags(base))
    eventually(lambda: server.log.read_text())
    with pytest.raises(OSError, match="refused"):
        server.call("/v1/models/adder")
    place(2)
    assert model_server._wait(server)
    assert added(server) == 2


def test_no_version_loads(model_server: Launch, base: Path, place: Place) -> None:
    (place(1) / "saved_model.pb").write_bytes(b"garbage")
    server = model_server.begin(_flags(base, "--max_num_load_retries=0"))
    assert server.process.exit_code(150) == 255
    text = server.log.read_text()
    assert "1 model(s) did not become available: {{{name: adder version: 1} due to error: " in text


@pytest.mark.skipif(not EMBEDDED, reason="the real server has its own words")
def test_mistakes_of_the_user(model_server: Launch, base: Path, place: Place) -> None:
    place(1)
    running = model_server(_flags(base))
    port = running.rest_url.rpartition(":")[2]
    for flags, words in (
        ([f"--rest_api_port={port}", *_flags(base)], f"--rest_api_port={port}: cannot listen on 127.0.0.1:{port}"),
        (_flags(base, "--modelname=x"), "did you mean --model_name?"),
        (["--model_base_path=relative"], "to have an absolute path or URI; got base_path()=relative"),
        (_flags(base, "--host=no.such.host.invalid"), "cannot listen on no.such.host.invalid"),
    ):
        server = model_server.begin(flags)
        assert server.process.exit_code(100) == 2, server.log.read_text()
        assert f"error: {words}" in server.log.read_text() or words in server.log.read_text()

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from pathlib import Path

import pytest

from serving.errors import ServingError
from serving.server.rest.connection import Connection
from serving.server.rest.serving import HttpLimits, start_rest
from tests.serving.server.rest.fakes import Core
from tests.serving.server.rest.served import Client, Served, served
from tests.serving.server.waiting import eventually

ONE = b'POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{"instances": [1]}'
QUICK = HttpLimits(check_seconds=0.02)


def unix_client(path: Path) -> Client:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(path))
    return Client(connection)


def test_a_unix_socket_beside_the_port(tmp_path: Path) -> None:
    path = tmp_path / "rest.sock"
    with served(QUICK, path) as running:
        assert running.server.port > 0
        with unix_client(path) as by_file, running.connect() as by_port:
            assert by_file.ask(ONE)[0] == by_port.ask(ONE)[0] == 200
    assert not path.exists()


def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rest.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with served(QUICK, path), unix_client(path) as client:
        assert client.ask(ONE)[0] == 200


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    path = tmp_path / "rest.sock"
    path.write_text("precious")

    async def run() -> None:
        await start_rest(Core().app, None, 0, unix_socket=str(path))

    with pytest.raises(ServingError, match=r"cannot listen on .*rest\.sock for REST"):
        asyncio.run(run())
    assert path.read_text() == "precious"


def test_a_port_that_is_taken() -> None:
    async def run() -> None:
        first = await start_rest(Core().app, "127.0.0.1", 0)
        try:
            with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1:{first.port} for REST"):
                await start_rest(Core().app, "127.0.0.1", first.port)
        finally:
            await first.stop(0)

    asyncio.run(run())


def test_it_runs_on_the_standard_loop_too() -> None:
    async def run() -> bytes:
        server = await start_rest(Core().app, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ONE)
        answer = await reader.readuntil(b"]}")
        writer.close()
        await server.stop(5)
        return answer

    assert asyncio.run(run()).endswith(b'{"predictions":[2.0]}')


def stopping(running: Served, grace_seconds: float) -> threading.Thread:
    thread = threading.Thread(target=lambda: running.run(running.server.stop(grace_seconds)))
    thread.start()
    eventually(lambda: running.server.draining)
    return thread


def test_stopping_finishes_what_was_accepted() -> None:
    with served(QUICK) as running, running.connect() as busy, running.connect() as idle, running.connect() as half:
        running.call(running.core.plane.gate.clear)
        assert idle.ask(b"GET /v1/models/pets HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        busy.send(ONE)
        half.send(ONE[:-5])
        eventually(lambda: running.core.plane.calls and running.server.buffered_bytes >= 13)
        thread = stopping(running, 60)
        assert idle.ended()
        with pytest.raises(OSError):
            running.connect()
        half.send(ONE[-5:])
        running.call(running.core.plane.gate.set)
        for client in (busy, half):
            status, headers, body = client.response()
            assert (status, headers["connection"], body) == (200, "close", b'{"predictions":[2.0]}')
            assert client.ended()
            client.close()
        thread.join(60)
        assert not thread.is_alive()


def test_stopping_does_not_wait_for_ever() -> None:
    with served(QUICK) as running, running.connect() as busy:
        running.call(running.core.plane.gate.clear)
        busy.send(ONE)
        eventually(lambda: running.core.plane.calls)
        thread = stopping(running, 0.1)
        thread.join(60)
        assert not thread.is_alive()
        assert busy.ended()
        assert running.core.plane.cancelled == 1


def alive() -> int:
    return sum(type(item) is Connection for item in gc.get_objects())


def test_no_connection_waits_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        before = alive()
        with served(QUICK) as running:
            for last in (ONE, b"GARBAGE\r\n\r\n", ONE[:-3]):
                with running.connect() as client:
                    assert client.ask(ONE)[0] == 200
                    client.send(last)
            eventually(lambda: alive() <= before, what="the connections are freed without the garbage collector")
    finally:
        gc.enable()


def test_memory_does_not_grow_with_connections_and_errors() -> None:
    import tracemalloc

    def burst(running: Served, rounds: int) -> None:
        for _ in range(rounds):
            with running.connect() as client:
                assert client.ask(ONE)[0] == 200
                assert client.ask(ONE.replace(b"[1]", b"{1]"))[0] == 400
                assert client.ask(b"GARBAGE\r\n\r\n")[0] == 400
        eventually(lambda: not running.server.connections)
        running.core.plane.calls.clear()

    with served(QUICK) as running:
        burst(running, 50)
        tracemalloc.start()
        try:
            burst(running, 20)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            burst(running, 300)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 100_000

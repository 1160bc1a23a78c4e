"""A REST server on stand-ins in a thread of its own, and a client that speaks in raw bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from serving.server.rest.serving import HttpLimits, RestServer, start_rest
from tests.serving.server.rest.fakes import Core

_T = TypeVar("_T")
_TIMEOUT = 60.0


class Served:
    """A running server.

    Attributes:
        core: What it answers from.
        server: The server itself; touch it by `call` only.
        faults: What went wrong in its event loop.
    """

    def __init__(self, limits: HttpLimits, unix_socket: Path | None, options: dict[str, Any]) -> None:
        self.faults: list[dict[str, Any]] = []
        self.loop = uvloop.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

        async def start() -> tuple[Core, RestServer]:
            core = Core(**options)
            path = str(unix_socket) if unix_socket else None
            return core, await start_rest(core.app, "127.0.0.1", 0, unix_socket=path, limits=limits)

        self.core, self.server = self.run(start())

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the loop of the server."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(_TIMEOUT)

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function in the loop of the server."""

        async def once() -> _T:
            return function()

        return self.run(once())

    def stop(self, grace_seconds: float = 10) -> None:
        """Stop the server and its loop."""
        self.run(self.server.stop(grace_seconds))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_TIMEOUT)
        self.loop.close()

    def connect(self) -> Client:
        """Open a connection."""
        return Client(socket.create_connection(("127.0.0.1", self.server.port), _TIMEOUT))


@contextmanager
def served(limits: HttpLimits | None = None, unix_socket: Path | None = None, **options: Any) -> Iterator[Served]:
    """A server while the block runs; nothing may go wrong in its loop, and no memory may stay reserved."""
    running = Served(limits or HttpLimits(check_seconds=0.05), unix_socket, options)
    try:
        yield running
    finally:
        running.call(running.core.plane.gate.set)
        running.stop()
    assert running.faults == []
    assert running.server.buffered_bytes == 0
    assert running.core.models.acquired == running.core.models.released


class Client:
    """One connection, and a reader of responses."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has hung up is no fault."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def response(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Read one response: status, headers in lower case, body."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return int(first.split()[1]), headers, body

    def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes and read one response."""
        self.send(data)
        return self.response()

    def ended(self) -> bool:
        """Wait for the server to hang up; false if it says something instead."""
        try:
            return self._rest == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(f"the server hung up after {self._rest!r}")
        self._rest += data

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

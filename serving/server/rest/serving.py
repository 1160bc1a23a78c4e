"""The HTTP server of the REST API: sockets, time limits, shutdown.

Comes in: a `RestApp` and where to listen. Goes out: `RestServer`, listening. Called by the composition root of the
model server.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from serving.errors import ServingError
from serving.server.rest.app import RestApp
from serving.server.rest.connection import Connection
from serving.server.rest.http import ok_head

_BACKLOG = 1024


@dataclass(frozen=True)
class HttpLimits:
    """How much patience the server has.

    Attributes:
        max_header_bytes: Largest request line and headers together.
        header_seconds: Time for the headers to arrive, from the first byte.
        body_seconds: Time for a body to arrive, beside what `min_bytes_per_second` allows it.
        min_bytes_per_second: Slowest rate, in bytes, at which a body may arrive.
        idle_seconds: How long a connection without a request is kept.
        write_seconds: How long a client may read nothing of a waiting answer.
        max_buffered_bytes: Bodies held in memory, of all connections together.
        max_connections: Open connections; further ones are answered with 503.
        check_seconds: How often the time limits are looked at.
    """

    max_header_bytes: int = 65_536
    header_seconds: float = 20.0
    body_seconds: float = 30.0
    min_bytes_per_second: int = 16_384
    idle_seconds: float = 120.0
    write_seconds: float = 60.0
    max_buffered_bytes: int = 1 << 30
    max_connections: int = 8192
    check_seconds: float = 1.0


class RestServer:
    """A listening HTTP server; made by `start_rest`.

    Attributes:
        app: Answers the requests.
        limits: How much patience it has.
        connections: Open connections.
        draining: Whether it is stopping and closes each connection after its answer.
        date: Value of the Date header, kept up to date.
        ok_head: Head of the usual answer with that date.
        port: TCP port it listens on; 0 if only on a Unix socket.
    """

    def __init__(self, app: RestApp, limits: HttpLimits) -> None:
        """Use `start_rest`."""
        self.app = app
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = b""
        self.ok_head = b""
        self._set_date()
        self.port = 0
        self._listeners: list[asyncio.AbstractServer] = []
        self._sockets: list[str] = []
        self._buffered = 0
        self._ticking: asyncio.Task[None] | None = None

    def buffer(self, size: int) -> bool:
        """Reserve memory for a piece of a body; False if there is no room."""
        if self._buffered + size > self.limits.max_buffered_bytes:
            return False
        self._buffered += size
        return True

    def release(self, size: int) -> None:
        """Give back what `buffer` reserved."""
        self._buffered -= size

    @property
    def buffered_bytes(self) -> int:
        """Memory that bodies take now."""
        return self._buffered

    async def listen(self, host: str | None, port: int, unix_socket: str | None) -> None:
        """Open the sockets."""
        if unix_socket:
            _remove_stale_socket(unix_socket)
            self._listeners.append(
                await self.loop.create_unix_server(lambda: Connection(self), unix_socket, backlog=_BACKLOG)
            )
            self._sockets.append(unix_socket)
        if host is not None:
            listener = await self.loop.create_server(lambda: Connection(self), host, port, backlog=_BACKLOG)
            self._listeners.append(listener)
            self.port = listener.sockets[0].getsockname()[1]
        self._ticking = self.loop.create_task(self._tick())

    async def stop(self, grace_seconds: float) -> None:
        """Accept nothing new, finish what was accepted, close.

        Args:
            grace_seconds: How long to wait for answers under way before they are cut off.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.drain()
        deadline = time.monotonic() + grace_seconds
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._ticking is not None:
            self._ticking.cancel()
        # The transports that were aborted close on the next turns of the loop.
        while self.connections:
            await asyncio.sleep(0)
        for path in self._sockets:
            Path(path).unlink(missing_ok=True)

    def _set_date(self) -> None:
        self.date = formatdate(usegmt=True).encode()
        self.ok_head = ok_head(self.date)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.limits.check_seconds)
            self._set_date()
            self._check(time.monotonic())

    def _check(self, now: float) -> None:
        # Apart from the loop above, whose variables would keep the last connection in memory.
        for connection in list(self.connections):
            connection.check(now)


async def start_rest(
    app: RestApp,
    host: str | None,
    port: int,
    *,
    unix_socket: str | None = None,
    limits: HttpLimits | None = None,
) -> RestServer:
    """Start serving the REST API on the running event loop.

    Args:
        app: What `rest_app` made.
        host: Address to listen on; None for no TCP socket.
        port: TCP port; 0 for any free one.
        unix_socket: Path of a Unix socket to listen on too; None for none.
        limits: How much patience the server has.

    Returns:
        The server, with `.port` and `async stop(grace_seconds)`.

    Raises:
        ServingError: The address cannot be listened on.
    """
    server = RestServer(app, limits or HttpLimits())
    try:
        await server.listen(host, port, unix_socket)
    except OSError as error:
        await server.stop(0)
        where = unix_socket if unix_socket and host is None else f"{host}:{port}"
        raise ServingError(
            f"cannot listen on {where} for REST: {error.strerror or error}. Choose another address or stop the "
            "process that holds it."
        ) from error
    return server


def _remove_stale_socket(path: str) -> None:
    """Remove the socket that a killed server left behind; any other file is in the way and stays."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return

"""One client connection: HTTP/1.1 on httptools, without a framework.

Comes in: bytes from a socket. Goes out: calls of `RestApp.answer`, and their responses as bytes, in the order of the
requests. Made by `serving.server.rest.serving` for each connection.

A general ASGI server spends more on a request than the batch engine spends on its share of a batch. This protocol does
what the API needs and no more: keep-alive, pipelining, chunked bodies, `Expect: 100-continue`, limits, back-pressure.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools

from serving.server.rest import answers
from serving.server.rest.http import (
    JSON_HEADERS,
    BodyError,
    Request,
    Response,
    path_of,
    response_head,
    too_large,
)

if TYPE_CHECKING:
    from serving.server.rest.serving import RestServer

_LINGER_SECONDS = 3.0
_PIPELINE = 16
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Responses up to this size go out in one piece with their head.
_JOINED = 65_536
# A chunk of one byte takes six on the wire; beyond this factor somebody sends chunk extensions or trailers.
_CHUNK_FACTOR = 16
_READ_SIZE = 262_144  # the most that arrives at once
_LENGTHS = frozenset(map(len, (b"content-length", b"content-encoding", b"expect")))


class Connection(asyncio.Protocol):
    """One client, served request by request."""

    __slots__ = (
        "_arriving",
        "_deaf",
        "_fresh",
        "_headers_done",
        "_linger",
        "_parser",
        "_paused",
        "_raw",
        "_resting",
        "_running",
        "_server",
        "_since",
        "_stuck",
        "_task",
        "_transport",
        "_waiting",
        "_writable",
    )

    def __init__(self, server: RestServer) -> None:
        """Belong to a server."""
        self._server = server
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._arriving: Request | None = None
        self._waiting: deque[Request] = deque()
        self._running: Request | None = None
        # One for the whole connection, from its first request: a task for each costs more than parsing it.
        self._task: asyncio.Task[None] | None = None
        self._resting: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._headers_done = False
        # Deaf: what arrives from now on is thrown away.
        self._deaf = False
        self._paused = False
        self._writable = True
        # Bytes since the current message began, without the piece in which it began.
        self._raw = 0
        self._fresh = False
        self._since = time.monotonic()
        self._stuck = (0, 0.0)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= self._server.limits.max_connections:
            self._refuse(BodyError(503, "Too many connections; try again."), "connections")
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what nobody waits for any more."""
        self._server.connections.discard(self)
        self._deaf = True
        self._forget()
        if self._task is not None:
            self._task.cancel()
            # What it was cancelled with leads back here; without this the two would wait for the garbage collector.
            self._task = None
            self._finish()
        if self._linger is not None:
            self._linger.cancel()
        # The parser points back here, too.
        self._parser = None

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request that offers another protocol is answered as any other; what follows may be anything.
            self._deaf = True
            return
        except httptools.HttpParserError:
            self._refuse(BodyError(400, "Malformed HTTP request."), "malformed")
            return
        if self._fresh:
            self._fresh = False
        elif self._arriving is not None:
            self._raw += len(data)
            self._check_raw(self._arriving)

    def eof_received(self) -> bool:
        """Take the end of the stream for the end of the client, so that its queued work is dropped."""
        return False

    def pause_writing(self) -> None:
        """Start no further request while the client does not read."""
        self._writable = False
        self._stuck = (self._transport.get_write_buffer_size(), time.monotonic())

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        self._next()

    # --- httptools ---

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._arriving = None if self._deaf else Request()
        self._headers_done = False
        self._raw = 0
        self._fresh = True
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        if self._arriving is not None:
            self._arriving.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; few matter."""
        request = self._arriving
        if request is None:
            return
        length = len(name)
        request.header_size += length + len(value) + 4
        if length not in _LENGTHS:
            return
        name = name.lower()
        if name == b"content-length" and value.isdigit():
            request.length = int(value) if len(value) < 19 else 10**18
        elif name == b"content-encoding":
            request.encoding = value.lower()
        elif name == b"expect":
            request.expects = value.lower()

    def on_headers_complete(self) -> None:
        """Decide whether the body is wanted."""
        request = self._arriving
        if request is None:
            return
        self._headers_done = True
        self._since = time.monotonic()
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        request.old = self._parser.get_http_version() == "1.0"
        limit = self._server.app.options.max_body_bytes
        if request.header_size + len(request.url) > self._server.limits.max_header_bytes:
            self._refuse_headers()
        elif limit and request.length > limit:
            self._refuse(too_large(limit), "body_too_large")
        elif request.expects and not request.old:
            if request.expects != b"100-continue":
                self._refuse(BodyError(417, "Only 'Expect: 100-continue' is understood."), "expectation")
            elif self._running is None and not self._waiting:
                self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        request = self._arriving
        if request is None:
            return
        limit = self._server.app.options.max_body_bytes
        if limit and request.size + len(body) > limit:
            self._refuse(too_large(limit), "body_too_large")
        elif not self._server.buffer(len(body)):
            self._refuse(BodyError(503, "Too many request bodies are held in memory; try again."), "memory")
        else:
            request.size += len(body)
            request.pieces.append(body)

    def on_message_complete(self) -> None:
        """Queue the request, or start it if none is under way."""
        request, self._arriving = self._arriving, None
        if request is None:
            return
        self._since = time.monotonic()
        self._waiting.append(request)
        if len(self._waiting) >= _PIPELINE:
            self._paused = True
            self._transport.pause_reading()
        self._next()

    # --- requests ---

    def _next(self) -> None:
        if self._running is not None or not self._waiting or not self._writable:
            return
        self._running = self._waiting.popleft()
        if self._task is None or self._task.done():
            self._task = self._server.loop.create_task(self._work())
        elif self._resting is not None and not self._resting.done():
            self._resting.set_result(None)
        if self._paused and len(self._waiting) < _PIPELINE:
            self._paused = False
            self._transport.resume_reading()

    async def _work(self) -> None:
        """Serve one request after another, until it is cancelled."""
        while True:
            while self._running is not None:
                await self._serve(self._running)
            self._resting = self._server.loop.create_future()
            await self._resting

    async def _serve(self, request: Request) -> None:
        try:
            if request.refusal is None:
                pieces, request.pieces = request.pieces, []
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                response = await self._server.app.answer(request.method, path_of(request.url), body, request.encoding)
            else:
                response = Response(request.refusal.status, answers.error(str(request.refusal)))
        finally:
            self._finish()
        if self._transport.is_closing():
            return
        keep_alive = request.keep_alive and not self._server.draining
        self._write(response, request, keep_alive)
        self._since = time.monotonic()
        if not keep_alive:
            self._close()
        elif self._waiting:
            self._next()

    def _finish(self) -> None:
        """Count the running request as done; a task that is cancelled before it has begun it never gets there."""
        if self._running is not None:
            self._server.release(self._running.size)
            self._running = None

    def _write(self, response: Response, request: Request, keep_alive: bool) -> None:
        status, body, headers = response
        if status == 200 and headers is JSON_HEADERS and keep_alive and not request.old:
            head = self._server.ok_head
        else:
            head = response_head(response.status, response.headers, self._server.date)
            if not keep_alive:
                head += b"connection: close\r\n"
            elif request.old:
                head += b"connection: keep-alive\r\n"
            head += b"content-length: "
        if len(body) <= _JOINED and request.method != "HEAD":
            self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            return
        self._transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
        if request.method != "HEAD":
            self._transport.write(body)

    def _refuse(self, error: BodyError, reason: str) -> None:
        """Answer the requests before, then this error, then end the connection."""
        if self._deaf:
            return
        self._server.app.metrics.refused(reason)
        method = self._arriving.method if self._arriving is not None else ""
        self._deaf = True
        self._drop_arriving()
        self._waiting.append(Request(method=method, keep_alive=False, refusal=error))
        self._next()

    def _refuse_headers(self) -> None:
        limit = self._server.limits.max_header_bytes
        self._refuse(BodyError(431, f"Request line and headers are larger than {limit} bytes."), "headers_too_large")

    def _close(self) -> None:
        """Send what is written, then close; until then what the client still sends is thrown away.

        Closing at once while bytes arrive would reset the connection, and the client would lose the answer.
        """
        self._deaf = True
        self._forget()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._transport.write_eof()
        self._linger = self._server.loop.call_later(_LINGER_SECONDS, self._transport.close)

    def _forget(self) -> None:
        self._drop_arriving()
        while self._waiting:
            self._server.release(self._waiting.pop().size)

    def _drop_arriving(self) -> None:
        if self._arriving is not None:
            self._server.release(self._arriving.size)
            self._arriving = None

    # --- limits ---

    def _check_raw(self, request: Request) -> None:
        limit = self._server.limits.max_header_bytes
        if not self._headers_done and self._raw > limit:
            self._refuse_headers()
        elif self._raw > limit + _READ_SIZE + _CHUNK_FACTOR * request.size:
            self._refuse(BodyError(400, "Malformed HTTP request: chunks or trailers without end."), "malformed")

    def check(self, now: float) -> None:
        """Look for a client that is too slow; called every second."""
        limits = self._server.limits
        if not self._writable:
            self._check_reader(now)
        elif self._deaf or self._paused:
            return
        elif self._arriving is not None:
            allowed = limits.header_seconds
            if self._headers_done:
                allowed = limits.body_seconds + self._arriving.size / limits.min_bytes_per_second
            if now - self._since > allowed:
                self._refuse(BodyError(408, "The request did not arrive in time."), "slow_writer")
        elif self._idle() and now - self._since > limits.idle_seconds:
            self._transport.close()

    def _check_reader(self, now: float) -> None:
        left, since = self._transport.get_write_buffer_size(), self._stuck[1]
        if left < self._stuck[0]:
            self._stuck = (left, now)
        elif now - since > self._server.limits.write_seconds:
            self._server.app.metrics.refused("slow_reader")
            self._transport.abort()

    def _idle(self) -> bool:
        return self._running is None and not self._waiting and self._arriving is None

    def drain(self) -> None:
        """Close if nothing is under way; what has begun to arrive is still answered."""
        if self._idle() and not self._deaf:
            self._deaf = True
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

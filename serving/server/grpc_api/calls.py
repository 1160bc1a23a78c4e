"""A gRPC server that hands calls over as bytes and takes answers from any thread.

Comes in: addresses and a table of handlers. Goes out: `Call`s to the handlers. Called by the `server` module beside it.

It drives gRPC's completion queue itself, with the same Cython module as `grpc.server`: one thread reads events, no call
occupies a thread or an asyncio task. A call so costs a third of what it costs with `grpc.aio` or `grpc.server`, and a
client that sends half a request keeps nobody waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.errors import ServingError
from serving.server.status import Code

_log = logging.getLogger("slipway.serving")

Handler = Callable[["Call", bytes], None]
"""Gets one request; answers it now or later, from any thread, through the call. Must not block."""

_MAX_MESSAGE_BYTES = 1024
_TRUNCATED = b"...TRUNCATED"
_CALLS_AHEAD = 16  # How many calls gRPC may announce before the thread comes around again.
_POLL_SECONDS = 1.0
_NO_FLAGS = 0


def status_text(message: str) -> bytes:
    """Text of a status as TensorFlow Serving cuts it: 1024 bytes and a mark."""
    data = message.encode("utf-8", "replace")
    if len(data) <= _MAX_MESSAGE_BYTES:
        return data
    return data[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore").encode() + _TRUNCATED


class Call:
    """One call; exactly one of `reply` and `fail` ends it, further ones are passed over.

    Attributes:
        method: Full name, such as `/tensorflow.serving.PredictionService/Predict`.
        deadline: `time.monotonic()` at which the client stops waiting; None for never.
        started: `time.perf_counter()` at which the call arrived.
    """

    __slots__ = (
        "_call",
        "_cancel",
        "_cygrpc",
        "_handler",
        "_lock",
        "_server",
        "_state",
        "deadline",
        "method",
        "started",
    )

    def __init__(self, server: CallServer, event: Any, handler: Handler | None, cygrpc: Any) -> None:
        """Take over a call that gRPC announced."""
        details = event.call_details
        self.started = time.perf_counter()
        self.method: str = details.method.decode("utf-8", "replace")
        left = details.deadline - time.time()
        # Without a deadline gRPC gives the end of time, some hundred years away.
        self.deadline = time.monotonic() + left if left < 1e9 else None
        self._server = server
        self._call = event.call
        self._cygrpc = cygrpc
        self._handler = handler
        self._lock = threading.Lock()
        self._state = "open"
        self._cancel: Callable[[], object] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the client hung up or its deadline passed."""
        return self._state == "cancelled"

    def when_cancelled(self, action: Callable[[], object]) -> None:
        """Run an action if the client gives up before the answer; at once if it already did."""
        with self._lock:
            if self._state == "open":
                self._cancel = action
                return
            cancelled = self._state == "cancelled"
        if cancelled:
            action()

    def reply(self, message: bytes) -> None:
        """Send the only answer and end the call."""
        if self._end():
            cygrpc = self._cygrpc
            self._start(
                (
                    cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                    cygrpc.SendMessageOperation(message, _NO_FLAGS),
                    cygrpc.SendStatusFromServerOperation(None, Code.OK.value, b"", _NO_FLAGS),
                ),
                self._sent,
            )

    def fail(self, code: Code, message: str) -> None:
        """End the call with an error."""
        if self._end():
            cygrpc = self._cygrpc
            self._start(
                (
                    cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                    cygrpc.SendStatusFromServerOperation(None, code.value, status_text(message), _NO_FLAGS),
                ),
                self._sent,
            )

    def announce(self, message: bytes) -> None:
        """Send the first answer of a stream that goes on."""
        with self._lock:
            if self._state != "open":
                return
            self._server.expect()
        cygrpc = self._cygrpc
        self._start(
            (
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                cygrpc.SendMessageOperation(message, _NO_FLAGS),
            ),
            self._sent,
        )

    def end_stream(self, message: bytes, code: Code, text: str) -> None:
        """Send the last answer of a stream that was announced, and end it."""
        if self._end():
            cygrpc = self._cygrpc
            self._start(
                (
                    cygrpc.SendMessageOperation(message, _NO_FLAGS),
                    cygrpc.SendStatusFromServerOperation(None, code.value, status_text(text), _NO_FLAGS),
                ),
                self._sent,
            )

    def listen(self) -> None:
        """Ask gRPC for the request and for the end of the call."""
        cygrpc = self._cygrpc
        self._server.expect()
        self._start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._closed)
        if self._handler is None:
            self.fail(Code.UNIMPLEMENTED, "")
            return
        self._server.expect()
        self._start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._received)

    def _received(self, event: Any) -> None:
        with self._lock:
            message = event.batch_operations[0].message()
        if message is None or self._handler is None:
            # The client ended its side, or gave up, without a request.
            self.fail(Code.INTERNAL, "No message was received; expected one request.")
            return
        try:
            self._handler(self, message)
        except Exception as error:
            _log.exception("the handler of %s failed", self.method)
            self.fail(Code.INTERNAL, f"{type(error).__name__}: {error}")

    def _closed(self, event: Any) -> None:
        action = None
        with self._lock:
            if self._state == "open" and event.batch_operations[0].cancelled():
                self._state = "cancelled"
                action, self._cancel = self._cancel, None
        self._server.forget(self)
        if action is not None:
            action()

    def _end(self) -> bool:
        with self._lock:
            if self._state != "open":
                return False
            self._state = "ended"
            self._cancel = None
            # Counted before another thread can see the call end, so that the queue is read until the answer is out.
            self._server.expect()
            return True

    def _start(self, operations: Sequence[Any], done: Callable[[Any], None]) -> None:
        try:
            # Under the lock, which whoever sees the result takes too: by then gRPC has come back from here.
            with self._lock:
                self._call.start_server_batch(operations, done)
        except Exception:
            _log.exception("gRPC refused to go on with a call of %s", self.method)
            self._server.expect(-1)

    def _sent(self, event: Any) -> None:
        with self._lock:
            return


def _ignore(event: Any) -> None:
    """Take note that gRPC has shut down; what is left to do hangs on the count of events."""


class CallServer:
    """Listens, and calls handlers in its one thread.

    Args:
        handlers: Handler by full name of the method.
        arguments: Options of the gRPC library.
        max_calls: Most calls at once, the others wait unread; 0 for no limit.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], arguments: Sequence[tuple[str, int | str]], max_calls: int = 0
    ) -> None:
        """Listen nowhere yet."""
        from grpc._cython import cygrpc

        self._cygrpc = cygrpc
        self._handlers = dict(handlers)
        self._max_calls = max_calls
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(arguments), False)
        self._server.register_completion_queue(self._queue)
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._requested = 0
        self._expected = 0
        self._stopping = False
        self._stopped: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._poll, name="grpc", daemon=True)

    def listen(self, address: str, credentials: Any | None = None) -> int:
        """Add an address before `start`.

        Args:
            address: `host:port` or `unix:/path`.
            credentials: `grpc.ServerCredentials` for TLS.

        Returns:
            The port; 1 for a Unix socket.

        Raises:
            ServingError: The address cannot be had.
        """
        try:
            if credentials is None:
                port = self._server.add_http2_port(address.encode())
            else:
                port = self._server.add_http2_port(address.encode(), credentials._credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise ServingError(
                f"gRPC cannot listen on {address}: another process has it, the address is not one of this machine, "
                "or the keys do not fit each other. Choose another address, or check the keys."
            )
        return int(port)

    def start(self) -> None:
        """Accept calls."""
        self._server.start()
        with self._lock:
            self._request_calls()
        self._thread.start()

    def refuse(self, reason: str, keep: str) -> None:
        """Answer calls that begin from now on with UNAVAILABLE.

        Args:
            reason: Text of the error.
            keep: Methods whose full names begin so are still answered.
        """

        def refused(call: Call, _: bytes) -> None:
            call.fail(Code.UNAVAILABLE, reason)

        self._handlers = {
            name: handler if name.startswith(keep) else refused for name, handler in self._handlers.items()
        }

    def shutdown(self, stopped: Callable[[], None]) -> None:
        """Accept no more calls; those that run go on.

        gRPC ends a call that arrives at this very moment with CANCELLED, after which clients don't try again; see
        `refuse`.

        Args:
            stopped: Called when the last one has ended, in the server's thread.
        """
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._stopped = stopped
            self._expected += 1
            # Under the lock: gRPC may report the end before it comes back, and the thread must not free the server yet.
            self._server.shutdown(self._queue, _ignore)

    def cancel_calls(self) -> None:
        """Cut off the calls that still run, after `shutdown`."""
        with self._lock:
            if self._expected:
                self._server.cancel_all_calls()

    def expect(self, events: int = 1) -> None:
        """Count events that gRPC will report."""
        with self._lock:
            self._expected += events

    def forget(self, call: Call) -> None:
        """Count a call that ended."""
        with self._lock:
            self._calls.discard(call)
            if not self._stopping:
                self._request_calls()

    def _request_calls(self) -> None:
        limit = self._max_calls - len(self._calls) if self._max_calls else _CALLS_AHEAD
        while self._requested < min(limit, _CALLS_AHEAD):
            self._requested += 1
            self._expected += 1
            self._server.request_call(self._queue, self._queue, self._announced)

    def _announced(self, event: Any) -> None:
        with self._lock:
            self._requested -= 1
            if not event.success:
                return
            call = Call(
                self, event, self._handlers.get(event.call_details.method.decode("utf-8", "replace")), self._cygrpc
            )
            self._calls.add(call)
            if not self._stopping:
                self._request_calls()
        call.listen()

    def _poll(self) -> None:
        timeout = self._cygrpc.CompletionType.queue_timeout
        while True:
            event = self._queue.poll(time.time() + _POLL_SECONDS)
            if event.completion_type != timeout:
                try:
                    event.tag(event)
                except Exception:
                    _log.exception("an event of gRPC could not be handled")
                with self._lock:
                    self._expected -= 1
            # An event keeps its call alive; a call that outlives the queue can hang the process.
            event = None
            with self._lock:
                if self._stopping and not self._expected:
                    break
        self._server.destroy()
        self._stopped()

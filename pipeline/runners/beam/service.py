"""The driver's side of Beam's protocol: one gRPC server for all workers of a run, and the watch over them.

Beam's own server listens on four ports of every interface, without asking who calls, and hands out files; and its
driver waits for ever for a worker that has died. This one listens on a socket file that only this user can open, or on
the one address at which pools reach it, and a lost worker ends the run with a sentence.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import data_plane
from apache_beam.utils import thread_pool_executor

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 10_000),  # a machine that vanished without a word is noticed
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.so_reuseport", 0),
]
_WATCH_SECONDS = 0.2
_NO_TIMED_FLUSH = 0
"""Beam's flush by time may cut an element in two, which the other side then can't read; a full buffer never does."""


class _Control(worker_handlers.BeamFnControlServicer):
    """Beam's control service, which notes when a worker's connection begins and ends."""

    def __init__(self, manager: Any):
        super().__init__(manager)
        self.seen: set[str] = set()
        self.gone: set[str] = set()

    def Control(self, iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802 (Beam's name)
        worker = dict(context.invocation_metadata()).get("worker_id", "")
        self.seen.add(worker)
        context.add_callback(lambda: self.gone.add(worker))
        yield from super().Control(_until_gone(iterator), context)


def _until_gone(answers: Iterator[Any]) -> Iterator[Any]:
    """Yield a worker's answers until its connection ends, however it ends."""
    with contextlib.suppress(grpc.RpcError):
        yield from answers


class _Data(data_plane.BeamFnDataServicer):
    """Beam's data service, for which a lost connection is no error of its own."""

    def Data(self, elements_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802 (Beam's name)
        yield from super().Data(_until_gone(elements_iterator), context)


class Service:
    """What Beam calls a GrpcServer: control, data and state services, here on one address."""

    def __init__(self, state: Any, manager: Any, address: tuple[str, int] | None):
        """Start serving.

        Args:
            state: Beam's state servicer.
            manager: Beam's manager of workers.
            address: host and port to listen on, port 0 for a free one; None: a socket file.

        Raises:
            OSError: the address can't be had.
        """
        self._folder = None if address else tempfile.mkdtemp(prefix="beam-")  # mode 0700
        self._server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=_OPTIONS)
        self.control_handler = _Control(manager)
        self.data_plane_handler = _Data(_NO_TIMED_FLUSH)
        beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(self.control_handler, self._server)
        beam_fn_api_pb2_grpc.add_BeamFnDataServicer_to_server(self.data_plane_handler, self._server)
        beam_fn_api_pb2_grpc.add_BeamFnStateServicer_to_server(worker_handlers.GrpcStateServicer(state), self._server)
        bind = f"unix:{self._folder}/driver" if address is None else f"{address[0]}:{address[1]}"
        try:
            port = self._server.add_insecure_port(bind)
        except RuntimeError as error:
            raise OSError(f"{bind}: {error}") from error
        self.address = bind if address is None else f"{address[0]}:{port}"
        self.control_port = self.data_port = self.state_port = self.logging_port = port
        self._server.start()

    def close(self) -> None:
        """Stop serving."""
        self.control_handler.done()
        self._server.stop(1).wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class Watch:
    """Looks after the workers of one run, and fails all that the driver waits for when one of them is lost."""

    def __init__(self, handlers: list[Any]):
        """Initialize.

        Args:
            handlers: of the workers; each says by `trouble()` what is wrong with it. May grow.
        """
        self._handlers = handlers
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beam-watch", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what workers do from now on is no trouble."""
        self._end.set()
        with contextlib.suppress(RuntimeError):  # it was never started
            self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_WATCH_SECONDS):
            handlers = list(self._handlers)
            self.trouble = self.trouble or next(filter(None, (handler.trouble() for handler in handlers)), None)
            if self.trouble:
                for handler in handlers:
                    self._fail(handler.control_conn)

    def _fail(self, connection: Any) -> None:
        """Answer every request that is waiting; Beam stops reading when the answer is an error."""
        for instruction in list(connection._futures_by_id):
            future = connection._futures_by_id.pop(instruction, None)
            if future is not None:
                future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=instruction, error=self.trouble))

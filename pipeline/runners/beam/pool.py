"""A pool of workers on a machine that helps: what `slipway beam-worker` serves.

Comes in: requests of drivers for workers, in Beam's protocol for external worker pools. Each worker is a process of its
own, forked when it is asked for and gone when its pipeline is done. Whoever reaches the pool's port can run code on the
machine, as with every worker of Beam, so it listens on 127.0.0.1 unless told otherwise.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils import thread_pool_executor

from pipeline.fingerprint import code_fingerprint
from pipeline.runners.beam import harness

CODE = "slipway-code"
"""Name of the parameter in which a driver says what code its pipeline needs."""

_ENTRIES = tuple(name for name in harness.PRELOADED if name.startswith("pipeline."))
_END_SECONDS = 5


@functools.lru_cache(maxsize=1)
def code_version() -> str:
    """Return a hash of the code that workers run; both sides must have the same, or results would differ."""
    return code_fingerprint(_ENTRIES)[:16]


class PoolServicer(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and ends workers."""

    def __init__(self, most: int, say: Any):
        """Initialize.

        Args:
            most: workers at a time.
            say: is called with a sentence about every worker.
        """
        self._most = most
        self._say = say
        self._lock = threading.Lock()
        self._processes: dict[str, Any] = {}

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 (Beam's name)
        """Start a worker for a driver; what is in the way stands in the answer."""
        del context
        wanted = request.params.get(CODE, "")
        if wanted != code_version():
            error = "it runs other code than the pipeline; install the same version there, and start it anew"
            return beam_fn_api_pb2.StartWorkerResponse(error=error)
        with self._lock:
            if sum(process.is_alive() for process in self._processes.values()) >= self._most:
                error = f"all {self._most} are at work; start the pool with more --workers, or set beam.workers lower"
                return beam_fn_api_pb2.StartWorkerResponse(error=error)
            threads = max(1, (os.cpu_count() or 1) // self._most)
            name, address = request.worker_id, request.control_endpoint.url
            self._processes[name] = harness.start(name, address, name, threads, None)
        self._say(f"{name} works for {address} (process {self._processes[name].pid})")
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 (Beam's name)
        """End a worker; if it has ended badly before, the answer says how."""
        del context
        with self._lock:
            process = self._processes.pop(request.worker_id, None)
        if process is None:
            return beam_fn_api_pb2.StopWorkerResponse()
        process.join(_END_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            return beam_fn_api_pb2.StopWorkerResponse()
        self._say(f"{request.worker_id} is done (exit code {process.exitcode})")
        error = "" if process.exitcode == 0 else f"process {process.pid} {harness.obituary(process)}"
        return beam_fn_api_pb2.StopWorkerResponse(error=error)


def serve(host: str, port: int, most: int, say: Any) -> tuple[grpc.Server, int]:
    """Start serving a pool.

    Args:
        host: address to listen on.
        port: 0 for a free one.
        most: workers at a time.
        say: is called with a sentence about every worker.

    Returns:
        The server, and its port.

    Raises:
        OSError: the address can't be had.
    """
    server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(PoolServicer(most, say), server)
    try:
        found = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"{host}:{port} can't be listened on; it is in use, or no address of this machine") from error
    server.start()
    return server, found

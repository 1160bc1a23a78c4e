"""What the driver knows about one worker: how it is started, watched and ended.

Comes in: the driver's server. Called by the runner; both kinds say in words what is wrong with them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
import uuid
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from pipeline.runners.beam import harness
from pipeline.runners.beam.errors import WorkerError
from pipeline.runners.beam.pool import CODE, code_version
from pipeline.runners.resources import note_worker

_END_SECONDS = 10
"""How long a worker that has nothing more to do may take to clean up."""


class Worker(worker_handlers.GrpcWorkerHandler):
    """What both kinds share."""

    def __init__(self, state: Any, provision_info: Any, service: Any, number: int, timeout: int):
        """Initialize.

        Args:
            state: Beam's state servicer.
            provision_info: Beam's.
            service: the driver's server.
            number: of the worker, from 1, for messages.
            timeout: seconds until a worker that doesn't connect is given up.
        """
        super().__init__(state, provision_info, service)
        self._number = number
        self._timeout = timeout
        self._deadline = float("inf")

    @property
    def worker_id(self) -> str:
        """Name of the worker, unlike that of any other driver's."""
        return self._id

    @worker_id.setter
    def worker_id(self, value: str) -> None:
        self._id = f"{value}-{uuid.uuid4().hex[:12]}"

    def port_from_worker(self, port: int) -> str:
        """Return the address at which a worker reaches the driver."""
        del port  # there is one for everything
        return str(self._grpc_server.address)

    def trouble(self) -> str | None:
        """Return in words what is wrong with the worker, or None."""
        control = self._grpc_server.control_handler
        if self.worker_id in control.gone:
            return self.lost()
        if self.worker_id not in control.seen and time.monotonic() > self._deadline:
            return self.silent()
        return None

    def lost(self) -> str:
        """Return in words that the connection to the worker broke."""
        raise NotImplementedError

    def silent(self) -> str:
        """Return in words that the worker never connected."""
        raise NotImplementedError

    def close(self, failed: bool = False) -> None:
        """End the worker.

        Args:
            failed: whether the run has failed, so that nothing is waited for.
        """
        self.control_conn.close()
        self.data_conn.close()
        self.stop_worker(failed)

    def stop_worker(self, failed: bool = False) -> None:
        """End the worker's process."""
        raise NotImplementedError


class LocalWorker(Worker):
    """A process of this machine."""

    def __init__(self, *arguments: Any, threads: int):
        """Initialize.

        Args:
            *arguments: of the base class.
            threads: that one operation of TensorFlow uses.
        """
        super().__init__(*arguments)
        self._threads = threads

    def start_worker(self) -> None:
        """Fork the process."""
        self._costs, costs = multiprocessing.Pipe(duplex=False)
        name = f"worker {self._number}"
        self._process = harness.start(name, self.control_address, self.worker_id, self._threads, costs)
        costs.close()
        self._deadline = time.monotonic() + self._timeout

    def trouble(self) -> str | None:
        """Return in words what is wrong with the worker, or None."""
        return self.lost() if self._process.exitcode is not None else super().trouble()

    def lost(self) -> str:
        """Return how the process ended."""
        self._process.join(_END_SECONDS)
        return (
            f"worker {self._number} (process {self._process.pid}) {harness.obituary(self._process)}. Run again: stages "
            "before this one are in the cache. If it repeats, set beam.workers lower, or beam.runner to direct"
        )

    def silent(self) -> str:
        """Return that the process does not connect."""
        return (
            f"worker {self._number} (process {self._process.pid}) has not connected for {self._timeout} s; the machine "
            "seems to be overloaded. Set beam.workers lower, or beam.worker_timeout_seconds higher"
        )

    def stop_worker(self, failed: bool = False) -> None:
        """Wait for the process and note what it cost; kill it if it doesn't end."""
        if failed:
            self._process.kill()
        elif self._costs.poll(_END_SECONDS):
            with contextlib.suppress(EOFError):
                note_worker(*self._costs.recv())
        self._process.join(_END_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._costs.close()


class PoolWorker(Worker):
    """A process of a pool, on this machine or another one."""

    def __init__(self, *arguments: Any):
        """Initialize.

        Args:
            *arguments: of the base class; then host:port of the pool.
        """
        *base, self._pool = arguments
        super().__init__(*base)

    def start_worker(self) -> None:
        """Ask the pool for a worker.

        Raises:
            WorkerError: it can't be reached, or has none to give.
        """
        endpoint = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        request = beam_fn_api_pb2.StartWorkerRequest(
            worker_id=self.worker_id, control_endpoint=endpoint, params={CODE: code_version()}
        )
        try:
            answer = self._ask("StartWorker", request, self._timeout)
        except grpc.RpcError as error:
            raise WorkerError(
                f"the worker pool {self._pool} can't be reached ({error.code().name.lower()}: {error.details()}); "
                "start it there with `slipway beam-worker`, or take it out of beam.pools"
            ) from error
        if answer.error:
            raise WorkerError(f"the worker pool {self._pool} has no worker for this run: {answer.error}")
        self._deadline = time.monotonic() + self._timeout

    def _ask(self, method: str, request: Any, timeout: int = _END_SECONDS) -> Any:
        with grpc.insecure_channel(self._pool) as channel:
            stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
            return getattr(stub, method)(request, timeout=timeout)

    def lost(self) -> str:
        """Return that the connection broke, and why if the pool knows."""
        return (
            f"worker {self._number} of the pool {self._pool} was lost: {self._reason()}. Run again: stages before this "
            "one are in the cache; if it repeats, look at the pool's output"
        )

    def silent(self) -> str:
        """Return that the pool's process does not connect."""
        return (
            f"worker {self._number} of the pool {self._pool} has not connected to {self.control_address} for "
            f"{self._timeout} s; set beam.driver_host to a name or address at which the pool's machine reaches this one"
        )

    def _reason(self) -> str:
        request = beam_fn_api_pb2.StopWorkerRequest(worker_id=self.worker_id)
        try:
            answer = self._ask("StopWorker", request)
        except grpc.RpcError:
            return "the pool doesn't answer any more"
        return answer.error or "its connection broke"

    def stop_worker(self, failed: bool = False) -> None:
        """Tell the pool that the worker has nothing more to do."""
        with contextlib.suppress(grpc.RpcError):
            self._ask("StopWorker", beam_fn_api_pb2.StopWorkerRequest(worker_id=self.worker_id))

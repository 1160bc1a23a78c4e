"""Beam's portable runner on worker processes with memory of their own.

Comes in: a Beam pipeline whose options name this runner (`pipeline.beam_options`). Beam's FnApiRunner plans it and
hands bundles to the workers: processes of this machine, or of pools on others. They work on files that all see.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from typing import Any
from unittest import mock

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.transforms import environments

from pipeline.runners.beam.errors import WorkerError
from pipeline.runners.beam.service import Service, Watch
from pipeline.runners.beam.workers import LocalWorker, PoolWorker, Worker

_URN = "slipway:environment:workers:v1"

_one_at_a_time = threading.Lock()


class WorkersOptions(PipelineOptions):
    """Options of this runner."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--worker_processes", type=int, default=2, help="Number of workers.")
        parser.add_argument("--worker_pool", action="append", dest="worker_pools", help="host:port of a pool.")
        parser.add_argument("--driver_host", help="Name at which pools reach the driver.")
        parser.add_argument("--driver_port", type=int, default=0, help="Port of the driver; 0: any free one.")
        parser.add_argument("--worker_timeout", type=int, default=120, help="Seconds until a worker is given up.")


class WorkersEnvironment(environments.Environment):
    """Where functions run: on the workers of this runner."""

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """Return what stands in the pipeline; the workers themselves are the runner's business."""
        del context
        return _URN, b""


@environments.Environment.register_urn(_URN, bytes)
def _environment(payload: bytes, capabilities: Any, artifacts: Any, hints: Any, context: Any) -> WorkersEnvironment:
    """Return the environment that stands in a pipeline."""
    del payload, context
    return WorkersEnvironment(capabilities, artifacts, hints)


class _Manager(worker_handlers.WorkerHandlerManager):
    """Beam's manager of workers, with our server and our watch."""

    def __init__(self, settings: WorkersOptions, *arguments: Any):
        super().__init__(*arguments)
        self._settings = settings
        self._started: list[Worker] = []
        self.watch = Watch(self._started)
        try:
            self._grpc_server = Service(self.state_servicer, self, _listen(settings))
        except OSError as error:
            raise WorkerError(
                f"workers couldn't reach this machine: {error}; beam.driver_host and beam.driver_port must be an "
                "address of this machine and a free port"
            ) from error

    def get_worker_handlers(self, environment_id: str | None, num_workers: int) -> list[Worker]:
        """Return that many workers; they are started when they are first asked for."""
        del environment_id  # there is only one
        if not self._started:
            self.watch.start()
        while len(self._started) < num_workers:
            worker = self._new(len(self._started))
            self._workers_by_id[worker.worker_id] = worker
            worker.start_worker()
            self._started.append(worker)
        return self._started[:num_workers]

    def _new(self, index: int) -> Worker:
        pools, settings = self._settings.worker_pools or [], self._settings
        arguments = (
            self.state_servicer,
            self._job_provision_info,
            self._grpc_server,
            index + 1,
            settings.worker_timeout,
        )
        if pools:
            return PoolWorker(*arguments, pools[index % len(pools)])
        return LocalWorker(*arguments, threads=max(1, (os.cpu_count() or 1) // settings.worker_processes))

    def close_all(self) -> None:
        """End all workers and the server; where an error is on its way up, nothing is waited for."""
        self.watch.stop()
        failed = self.watch.trouble is not None or sys.exc_info()[0] is not None
        for worker in self._started:
            worker.close(failed)
        self._started.clear()
        self._grpc_server.close()


class WorkersRunner(fn_runner.FnApiRunner):
    """Runs a pipeline on several worker processes."""

    def __init__(self) -> None:
        """Take the environment of the workers for every function."""
        super().__init__(WorkersEnvironment(environments.python_sdk_capabilities()))

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        """Run a pipeline to its end.

        Raises:
            WorkerError: a worker was lost.
        """
        self._settings = options.view_as(WorkersOptions)
        return super().run_pipeline(pipeline, options)

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        """Run the planned stages; Beam has no other way to bring in a manager of one's own."""
        managers: list[_Manager] = []
        self._num_workers = self._settings.worker_processes

        def manager(*arguments: Any) -> _Manager:
            managers.append(_Manager(self._settings, *arguments))
            return managers[-1]

        with _one_at_a_time, mock.patch.object(fn_runner, "WorkerHandlerManager", manager):
            try:
                return super().run_stages(stage_context, stages)
            except Exception as error:
                trouble = next((m.watch.trouble for m in managers if m.watch.trouble), None)
                if trouble is None or isinstance(error, WorkerError):
                    raise
                raise WorkerError(trouble) from None


def _listen(settings: WorkersOptions) -> tuple[str, int] | None:
    """Return where the driver listens: nowhere but on a socket file, if all workers are processes of this machine."""
    if not settings.worker_pools:
        return None
    if settings.driver_host:
        return settings.driver_host, settings.driver_port
    host, _, port = settings.worker_pools[0].rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:  # nothing is sent
        try:
            probe.connect((host.strip("[]"), int(port)))
        except OSError as error:
            raise WorkerError(f"the worker pool {settings.worker_pools[0]} can't be reached: {error}") from error
        found = probe.getsockname()[0]
    return f"[{found}]" if ":" in found else found, settings.driver_port

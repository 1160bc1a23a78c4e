"""One worker: a process that takes work from a driver until the driver has no more.

Comes in: the driver's address. Nothing goes out but what Beam sends. Started by the driver itself (`local`) and by a
pool (`pool`), in both cases forked from a process that has imported what workers need, so that a worker costs
milliseconds instead of seconds, and its memory is gone when its pipeline is done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.spawn
import os
import resource
import signal
import threading
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any
from unittest import mock

PRELOADED = (
    "apache_beam.runners.worker.sdk_worker",
    "tensorflow",
    "pipeline.ingestion",
    "pipeline.record_batches",
    "pipeline.evaluation.bulk",
    "pipeline.evaluation.predict",
    "pipeline.runners.beam.harness",
)
"""Imported once, before any worker is forked."""

_STATE_CACHE_BYTES = 100 << 20
_NO_TIMED_FLUSH = 0
"""Beam's flush by time may cut an element in two, which the other side then can't read; a full buffer never does."""


def fork_context() -> ForkServerContext:
    """Return the context whose processes are forked from one that has imported `PRELOADED`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def start(name: str, control: str, worker_id: str, threads: int, costs: Any) -> ForkServerProcess:
    """Start a worker in a process of its own, which ends when this process does.

    Args:
        name: of the process, for messages.
        control: address of the driver, as gRPC takes it.
        worker_id: by which the driver knows the worker.
        threads: that one operation of TensorFlow uses.
        costs: end of a pipe that gets CPU seconds, peak resident bytes and the process that it was forked from, when
            the worker is done; or None.
    """
    process = fork_context().Process(target=work, name=name, args=(control, worker_id, threads, costs), daemon=True)
    # The driver's main module, and TFX with it, would be imported by every worker, which needs neither.
    with mock.patch.object(multiprocessing.spawn, "get_preparation_data", _without_main):
        process.start()
    return process


_preparation = multiprocessing.spawn.get_preparation_data


def _without_main(name: str) -> dict[str, Any]:
    """Return what a new process is told about this one, but for its main module."""
    return {key: value for key, value in _preparation(name).items() if not key.startswith("init_main")}


def work(control: str, worker_id: str, threads: int, costs: Any) -> None:
    """Take work until the driver has no more; the arguments are those of `start`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver too, which then ends this process
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # else the first worker takes all of a GPU's memory
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    SdkHarness(
        control,
        worker_id=worker_id,
        state_cache_size=_STATE_CACHE_BYTES,
        data_buffer_time_limit_ms=_NO_TIMED_FLUSH,
    ).run()
    if costs is not None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with contextlib.suppress(OSError):  # the driver may be gone by now
            costs.send((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, os.getppid()))


def _end_with(sentinel: int) -> None:
    """End this process when another one has ended, whatever it is doing."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def obituary(process: ForkServerProcess) -> str:
    """Return in words how a process ended."""
    code = process.exitcode
    if code == -9:
        return "was killed (signal 9); most likely the machine ran out of memory"
    if code is not None and code < 0:
        return f"was ended by signal {-code}"
    return f"ended by itself with exit code {code}"

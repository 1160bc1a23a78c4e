"""How one training is spread over devices and processes.

Comes in: the section `train`, and `TF_CONFIG` for several processes. Goes out: a `Distribution`, which the training
loop asks for everything that differs. Called by `trainer.run` before anything else touches TensorFlow, because
collective operations have to be set up first.

Every process computes on its part of each batch, and all hold the same weights after every step. What decides
something (a checkpoint that is found, an early stop) is decided by the chief or from figures that are equal
everywhere; a process that decided for itself would leave the others waiting.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from trainer import cluster as clusters
from trainer import rendezvous
from trainer.errors import TrainerError, WorkerLostError
from trainer.settings import uneven_batches
from trainer.shares import WHOLE, Share

Mode = Literal["auto", "off", "mirrored", "workers"]

# A process that gives no sign of life for so long is lost; a busy machine may be silent for some seconds.
HEARTBEAT_SECONDS = 30
# At the end of the program processes wait for each other at most so long.
FAREWELL_SECONDS = 10
# How long a file system may take to show what another machine wrote.
VISIBLE_SECONDS = 60

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Distribution:
    """Where a training runs. The default is one process and one device.

    Attributes:
        strategy: TensorFlow's; None without distribution.
        cluster: the processes; None if this is the only one.
        local: number of devices of this process that take part.
    """

    strategy: tf.distribute.Strategy | None = None
    cluster: clusters.Cluster | None = None
    local: int = 1

    @property
    def rank(self) -> int:
        """Number of this process, 0 for the chief."""
        return self.cluster.rank if self.cluster is not None else 0

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @property
    def processes(self) -> int:
        """Number of processes."""
        return self.cluster.size if self.cluster is not None else 1

    @property
    def share(self) -> Share:
        """The part of every batch that this process computes on."""
        if self.strategy is None:
            return WHOLE
        return Share(self.processes * self.local, self.rank * self.local, self.local)

    def describe(self) -> dict[str, Any]:
        """Return the choice for the record: `strategy`, `processes` and `replicas`."""
        kind = "off" if self.strategy is None else "mirrored" if self.cluster is None else "workers"
        return {"strategy": kind, "processes": self.processes, "replicas": self.share.replicas}

    def scope(self) -> Any:
        """Return the context in which model and optimizer are made."""
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()

    def batch_size(self, wanted: int, examples: int) -> int:
        """Return the examples of one step, over all devices.

        Args:
            wanted: `train.batch_size`.
            examples: size of the train split.

        Raises:
            TrainerError: if they can't be dealt evenly.
        """
        replicas = self.share.replicas
        if replicas == 1:
            return wanted
        if uneven := uneven_batches(wanted, replicas):
            raise TrainerError(uneven)
        if examples < replicas:
            raise TrainerError(f"the train split has {examples} examples for {replicas} devices; train on fewer")
        return min(wanted, examples // replicas * replicas)

    def batches(self, make: Callable[[Share], tf.data.Dataset]) -> Any:
        """Return what `fit` iterates over.

        Args:
            make: gives the batches of a share; each element is for one device.
        """
        if self.strategy is None:
            return make(WHOLE)
        return self.strategy.distribute_datasets_from_function(lambda context: make(self.share))

    def from_chief(self, content: bytes) -> bytes:
        """Return the chief's bytes in every process; the others' are ignored. All have to call it.

        Variables start with the chief's values, which is all that is needed to send something.
        """
        if self.cluster is None:
            return content
        assert self.strategy is not None, "several processes have a strategy"
        with self.strategy.scope():
            (length,) = tf.Variable(np.array([len(content)], np.int64), trainable=False).numpy()
            words = np.zeros(-(-int(length) // 4), np.int32)
            if self.chief:
                words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
            received = tf.Variable(words, trainable=False).numpy() if length else words
        return received.tobytes()[: int(length)]

    def finish(self, result: Path) -> None:
        """Let the other processes wait until the chief has written what comes out; all have to call it.

        Args:
            result: a file of it. TFX looks for the model in every process.

        Raises:
            TrainerError: if this process does not see the file.
        """
        self.from_chief(b"")
        # A mounted bucket shows what another machine wrote some seconds later.
        deadline = time.monotonic() + VISIBLE_SECONDS
        while not result.exists():
            if self.chief or time.monotonic() > deadline:
                raise TrainerError(
                    f"{result} can't be seen by process {self.rank}, though the chief has written it; expected a "
                    "folder that all processes share; mount the same bucket or file system on all machines"
                )
            time.sleep(VISIBLE_SECONDS / 60)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turn what TensorFlow says when another process is gone into one sentence.

        After any error the process ends as soon as its exit begins: TensorFlow would wait there for what the others
        owe it, without a limit.
        """
        if self.cluster is None:
            yield
            return
        try:
            yield
        except _LOST as error:
            atexit.register(_leave, WorkerLostError.exit_code)
            reason = next((line for line in str(error).splitlines() if "rror reported from" in line), "")
            reason = reason.partition("Error reported from ")[2].partition(". This indicates")[0]
            raise WorkerLostError(
                f"{self.cluster.names[self.rank]} lost another process of the training"
                f"{f' ({reason})' if reason else ''}; its own log says why; start all {self.processes} processes "
                "again, and the training goes on after its last finished epoch"
            ) from error
        except Exception as error:
            atexit.register(_leave, getattr(error, "exit_code", 1))
            raise


def _leave(code: int) -> None:
    """End the process without waiting for TensorFlow's threads."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def choose(mode: Mode, timeout: float, environment: str | None = None) -> Distribution:
    """Return how this process trains, and say so in the log.

    Args:
        mode: `train.distribute`.
        timeout: seconds that processes wait for each other at the start.
        environment: value of `TF_CONFIG`; that of the process if None.

    Raises:
        TrainerError: if `TF_CONFIG` is wrong, the devices or processes that the mode needs aren't there, or
            processes don't find each other.
    """
    found = Distribution()
    if mode in ("auto", "workers"):
        text = os.environ.get(clusters.VARIABLE) if environment is None else environment
        cluster = clusters.read_cluster(text)
        if cluster is not None:
            found = _workers(cluster, timeout)
        elif mode == "workers":
            raise TrainerError(
                f"train.distribute is workers, but {clusters.VARIABLE} names no other process; expected a chief and "
                "workers; set it for every process, or set train.distribute: auto"
            )
    if found.strategy is None and mode in ("auto", "mirrored"):
        found = _mirrored(forced=mode == "mirrored")
    _log.info("training is distributed as follows: %s", found.describe())
    return found


def _mirrored(forced: bool) -> Distribution:
    """Take all GPUs if there are several; all logical CPUs only if told to, since they share the same cores."""
    devices = tf.config.list_physical_devices("GPU")
    if len(devices) > 1:
        names = [device.name for device in tf.config.list_logical_devices("GPU")]
    elif forced:
        names = [device.name for device in tf.config.list_logical_devices("CPU")]
        if len(names) < 2:
            raise TrainerError(
                f"train.distribute is mirrored, but this machine has {len(devices)} GPU(s); expected several; set "
                "train.distribute: auto"
            )
    else:
        return Distribution()
    return Distribution(tf.distribute.MirroredStrategy(names), None, len(names))


def _workers(cluster: clusters.Cluster, timeout: float) -> Distribution:
    """Connect the processes of a cluster."""
    from tensorflow.python.eager import context

    # Private, but TensorFlow's own question; it would fail with an error that nobody understands.
    if context.context()._initialized:
        raise TrainerError(
            f"{clusters.VARIABLE} names {cluster.size} processes, but TensorFlow is already at work in this one; "
            "expected the training to come first; run the stage Trainer in a process of its own (`slipway run-node "
            "Trainer`), or set train.distribute: off"
        )
    _log.info("%s waits for %d other processes", cluster.names[cluster.rank], cluster.size - 1)
    rendezvous.meet(cluster, timeout)
    _watch_over(cluster)
    with _time_limit(timeout):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    if threading.current_thread() is threading.main_thread():
        # TensorFlow takes the signal for a notice of preemption, and the process would not end.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return Distribution(strategy, cluster, strategy.num_replicas_in_sync // cluster.size)


def _watch_over(cluster: clusters.Cluster) -> None:
    """Have TensorFlow notice lost processes within `HEARTBEAT_SECONDS`.

    The strategy would set up the same service with limits of its own; there is no public way to them.
    """
    from tensorflow.python.eager import context
    from tensorflow.tsl.protobuf import coordination_config_pb2

    chiefs = sum(name == clusters.CHIEF for name in cluster.names)
    jobs = {clusters.CHIEF: chiefs, clusters.WORKER: cluster.size - chiefs}
    leader = clusters.CHIEF if chiefs else clusters.WORKER
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{leader}/replica:0/task:0",
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        shutdown_barrier_timeout_in_ms=FAREWELL_SECONDS * 1000,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=name, num_tasks=count) for name, count in jobs.items() if count
        ],
    )


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End the process if what is inside takes longer: TensorFlow holds Python's lock while it waits.

    The processes have met before, so this happens only if one of them dies at that very moment.
    """
    try:
        stderr = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    except (OSError, ValueError):
        stderr = 2
    faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()

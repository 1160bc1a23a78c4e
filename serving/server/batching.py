"""Requests that arrive together run together.

Comes in: the arrays of single requests, from the event loop (`run`) or from any thread (`submit`). Goes out: the
outputs of each, exactly its own rows. Called by the data plane; batches run in threads of its own.

A worker that is free takes what has gathered while all were busy, so batches grow by themselves under load. A client
that is alone waits for nobody; if its requests are brief, the event loop runs them itself, since waking up a worker and
being woken up by it costs as much as a small model. Others wait as long as `timeout_micros` says, a few milliseconds
while a batch of their signature runs, and while others keep arriving, for as many as were under way before. What has
gathered runs as one batch, or as several beside each other where a call keeps but one core busy. Queues are bounded;
deadlines and cancelled callers are honored before work is done.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from serving.server.batch import Batch, Item
from serving.server.batch_queue import BatchQueues
from serving.server.batch_rows import rows_of
from serving.server.batch_runner import Answer, BatchRunner, too_late
from serving.server.servable import Handle
from serving.server.status import Code, StatusError

if TYPE_CHECKING:
    from serving.server.metrics import ServerMetrics

_log = logging.getLogger("slipway.serving")
_TICK_SECONDS = 0.02  # How late a caller may learn that its deadline passed.
_NEVER = math.inf


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are gathered.

    Attributes:
        max_batch_size: Most rows of a batch.
        timeout_micros: How long a batch that is not full waits for more, in microseconds; 0 for no longer than
            the module's text says.
        max_enqueued_batches: Batches of full size that may wait in the queue of a signature; what comes on top is
            refused with UNAVAILABLE.
        workers: Batches that run side by side; 0 for one a core.
        allowed_batch_sizes: Sizes that batches are padded to, ascending, the last equal to the largest batch; empty
            for no padding.
        pad_variable_length_inputs: Pad inputs whose other dimensions differ to the longest, so that they share a batch.
        oversized: What happens to a request with more rows than `max_batch_size`: it runs `alone`, is `split` into
            several batches, or is refused (`refuse`).
        max_execution_batch_size: Most rows of a batch if requests are split; 0 for `max_batch_size`.
        enabled: Gather at all; otherwise each request runs alone.
    """

    max_batch_size: int = 32
    timeout_micros: int = 0
    max_enqueued_batches: int = 64
    workers: int = 0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    oversized: Literal["alone", "split", "refuse"] = "alone"
    max_execution_batch_size: int = 0
    enabled: bool = True

    @property
    def worker_threads(self) -> int:
        """Threads that run batches."""
        return self.workers or os.cpu_count() or 1

    @property
    def batch_rows(self) -> int:
        """Most rows that run as one batch."""
        return (self.oversized == "split" and self.max_execution_batch_size) or self.max_batch_size


class Batcher:
    """Gathers requests into batches and runs them in worker threads.

    Example:
        >>> outputs = await batcher.run(handle, "serving_default", {"image": array})
    """

    def __init__(self, options: BatchingOptions | None = None, metrics: ServerMetrics | None = None) -> None:
        """Start no thread before the first request."""
        self._options = options or BatchingOptions()
        self._runner = BatchRunner(self._options, metrics)
        self._queues = BatchQueues(self._options)
        self._lock = self._queues.lock
        # What idle workers wait for: each has a lock of its own, released to wake it. A semaphore takes several, and a
        # SimpleQueue's `get` may, in Python 3.10, wait for ever if another thread took what woke it.
        self._idle: list[threading.Lock] = []
        self._sleepers = 0
        self._waking_loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._drained: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._next_deadline = _NEVER
        self._nearer_deadline = threading.Event()

    def run(
        self,
        handle: Handle,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[dict[str, np.ndarray]]:
        """Run a signature, together with what else has arrived; call it on an event loop.

        Args:
            handle: The model; the caller holds it until the answer is there.
            signature: Name of the signature.
            inputs: Exactly its inputs.
            outputs: Outputs to compute; None for all.
            deadline: `time.monotonic()` at which the answer is useless; None for never.

        Returns:
            The outputs by name, the rows of this request only. Awaiting them raises `StatusError` if the call failed,
            DEADLINE_EXCEEDED if the deadline passed; to cancel them takes the request back.

        Raises:
            StatusError: At once; UNAVAILABLE if the queue is full or the server shuts down.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, np.ndarray]] = loop.create_future()
        self._enqueue(handle, signature, Item(inputs, rows_of(inputs), deadline, future, loop), outputs)
        if self._idle and self._waking_loop is not loop:
            # One turn of the loop later, what arrived in the same turn is in the queue too.
            self._waking_loop = loop
            loop.call_soon(self._end_turn, loop)
        return future

    def submit(
        self,
        handle: Handle,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> concurrent.futures.Future[dict[str, np.ndarray]]:
        """Do as `run` does, from any thread; errors of the queue are raised at once."""
        future: concurrent.futures.Future[dict[str, np.ndarray]] = concurrent.futures.Future()
        self._enqueue(handle, signature, Item(inputs, rows_of(inputs), deadline, future, None), outputs)
        if self._idle:
            with self._lock:
                self._wake_one()
        return future

    async def drain(self) -> None:
        """Refuse new requests, and wait until those that were accepted are answered."""
        await asyncio.wrap_future(self.close())

    def close(self) -> concurrent.futures.Future[None]:
        """Refuse new requests; the result tells when those that were accepted are answered."""
        with self._lock:
            self._closing = True
        self._finish_if_drained()
        return self._drained

    def waiting_rows(self) -> dict[tuple[str, str], int]:
        """Return how many rows wait, by model and signature."""
        with self._lock:
            return self._queues.waiting_rows()

    def _enqueue(self, handle: Handle, signature: str, item: Item, outputs: Sequence[str] | None) -> None:
        if item.deadline is not None and item.deadline <= item.arrived:
            raise too_late()
        with self._lock:
            if self._closing:
                raise StatusError(Code.UNAVAILABLE, "The server is shutting down")
            self._queues.add(handle, signature, item, None if outputs is None else tuple(outputs))
            if item.deadline is not None and item.deadline < self._next_deadline:
                self._next_deadline = item.deadline
                self._nearer_deadline.set()
        if not self._threads:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._threads:
                return
            threads = [
                threading.Thread(target=self._work, name=f"batch-{n}", daemon=True)
                for n in range(self._options.worker_threads)
            ]
            threads.append(threading.Thread(target=self._watch_deadlines, name="batch-deadlines", daemon=True))
            self._threads = threads
        for thread in threads:
            thread.start()

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the only request that arrived in this turn of the loop, or wake a worker for what did."""
        self._waking_loop = None
        with self._lock:
            batch = self._queues.take_lone(time.monotonic(), loop)
            if batch is None:
                self._wake_one()
                return
        self._run(batch, _resolve)

    def _wake_one(self) -> None:
        """Wake an idle worker if there is something for it; the caller holds the lock."""
        # Who sleeps until a batch is due need not be woken before that.
        if self._idle and self._queues.ready and (not self._sleepers or self._queues.due(time.monotonic())):
            self._idle.pop().release()

    def _work(self) -> None:
        wake = threading.Lock()
        wake.acquire()
        while True:
            with self._lock:
                if self._drained.done():
                    return
                batch, late, wait = self._queues.take(time.monotonic())
                if batch is None:
                    self._idle.append(wake)
                    self._sleepers += wait is not None
                else:
                    self._wake_one()
            if late:
                _deliver([(item, None, too_late()) for item in late])
                self._finish_if_drained()
            if batch is None:
                self._rest(wake, wait)
                continue
            self._run(batch, _deliver)

    def _run(self, batch: Batch, tell: Callable[[Sequence[Answer]], None]) -> None:
        try:
            tell(self._runner.answers(batch))
        finally:
            with self._lock:
                self._queues.done(batch)
            self._finish_if_drained()

    def _rest(self, wake: threading.Lock, seconds: float | None) -> None:
        """Sleep until woken or until a batch that waits for more is due."""
        if seconds is None:
            wake.acquire()
            return
        woken = wake.acquire(timeout=min(max(seconds, 0), threading.TIMEOUT_MAX))
        with self._lock:
            self._sleepers -= 1
            if not woken and wake in self._idle:
                self._idle.remove(wake)
                return
        if not woken:
            # Somebody woke this worker at the same moment.
            wake.acquire()

    def _watch_deadlines(self) -> None:
        """Tell callers in time that their deadline passed, whether they wait or run."""
        while not self._drained.done():
            left = self._next_deadline - time.monotonic()
            if left > 0 and self._nearer_deadline.wait(None if left == _NEVER else left):
                self._nearer_deadline.clear()
                continue
            time.sleep(_TICK_SECONDS)
            with self._lock:
                late, self._next_deadline = self._queues.expired(time.monotonic())
            _deliver([(item, None, too_late()) for item in late])
            self._finish_if_drained()

    def _finish_if_drained(self) -> None:
        if not self._closing:
            return
        with self._lock:
            if self._queues.pending or self._drained.done():
                return
            self._drained.set_result(None)
            self._nearer_deadline.set()
            for wake in self._idle:
                wake.release()
            self._idle.clear()


def _deliver(answers: Sequence[Answer]) -> None:
    """Answer callers; those on an event loop all at once."""
    loops = {answer[0].loop for answer in answers}
    for loop in loops:
        group = answers if len(loops) == 1 else [answer for answer in answers if answer[0].loop is loop]
        if loop is None:
            _resolve(group)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, group)


def _resolve(answers: Sequence[Answer]) -> None:
    for item, outputs, error in answers:
        try:
            if item.future.done():
                continue
            if error is not None:
                item.future.set_exception(error)
            elif outputs is not None:
                item.future.set_result(outputs)
        except (asyncio.InvalidStateError, concurrent.futures.InvalidStateError):
            continue  # The caller gave up at the same moment.

"""The queues of the batcher: which requests wait, and which of them run together next.

Comes in: `Item`s with the model and signature they are for. Goes out: `Batch`es. Called by `serving.server.batching`,
which holds `BatchQueues.lock` around every call.

A lane is a signature of a loaded model; its bound holds for all its queues together. A queue holds what may share a
batch: same lane, output filter, dtypes and shapes but for the rows. Queues with work take turns.
"""

from __future__ import annotations

import asyncio
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.server.batch import Batch, Item, Lane, Queue
from serving.server.servable import Handle, Servable
from serving.server.status import Code, StatusError

if TYPE_CHECKING:
    from serving.server.batching import BatchingOptions

_SWEEP_SECONDS = 0.02  # How often a full queue is searched for callers that gave up.
# While a batch of a signature runs, so many rows are worth a second one beside it. With fewer, the fixed cost of a call
# is higher than what running side by side gains.
_ROWS_BESIDE = 8
_PATIENCE_SECONDS = 0.005  # How long fewer rows wait for that: hardly felt beside a model that takes long.
# Clients that were answered together come back together, but one after another, for each request has to be decoded. One
# call for all of them costs less than several, so what has arrived waits for as many as were under way before, while
# they keep coming so close to each other, and so long at most.
_NEXT_SECONDS = 0.002
_GATHER_SECONDS = 0.02
# A request that took less may run where it arrived. Nothing else is read there meanwhile, so this is how much later
# another client's request may begin.
_BRIEF_SECONDS = 0.002


class BatchQueues:
    """All queues of one batcher.

    Attributes:
        lock: Held by the caller around every call.
        ready: Queues that are not empty, whose turn it is first.
        pending: Requests that wait or run.
    """

    def __init__(self, options: BatchingOptions) -> None:
        """Start without queues."""
        self.lock = threading.Lock()
        self.ready: deque[Queue] = deque()
        self.pending = 0
        self._options = options
        self._limit = options.batch_rows
        self._timeout = options.timeout_micros / 1e6
        self._queues: dict[Any, Queue] = {}
        self._lanes: dict[int, dict[str, Lane]] = {}
        self._gone: dict[int, weakref.ref[Servable]] = {}
        self._running: set[Batch] = set()
        self._next_sweep = 0.0

    def add(self, handle: Handle, signature: str, item: Item, outputs: tuple[str, ...] | None) -> None:
        """Queue a request.

        Raises:
            StatusError: UNAVAILABLE, the queue is full; INVALID_ARGUMENT, the request is larger than allowed.
        """
        servable = handle.servable
        lanes = self._lanes.get(id(servable))
        lane = None if lanes is None else lanes.get(signature)
        if lane is None:
            lane = self._new_lane(handle, signature)
        solo = lane.solo or item.rows <= 0
        weight = self._weight(item, solo)
        self._admit(lane, item, weight, solo)
        key = (id(servable), signature, outputs, solo, None if solo else self._kind(item.inputs))
        waiting = self._queues.get(key)
        if waiting is None:
            waiting = self._queues[key] = Queue(key, servable, lane, outputs, solo)
            self.ready.append(waiting)
        waiting.items.append(item)
        waiting.rows += item.rows
        lane.waiting += weight
        lane.requests += 1
        self.pending += 1

    def take(self, now: float) -> tuple[Batch | None, list[Item], float | None]:
        """Take the next batch.

        Args:
            now: `time.monotonic()`.

        Returns:
            The batch, None if none is due; requests whose deadline passed while they waited; and in how many seconds
            a batch that waits for more is due, None if nothing waits.
        """
        late: list[Item] = []
        wait: float | None = None
        for _ in range(len(self.ready)):
            waiting = self.ready.popleft()
            rest = self._rest(waiting, now)
            if rest > 0:
                self.ready.append(waiting)
                wait = rest if wait is None else min(wait, rest)
                continue
            items, rows = self._pick(waiting, now, late)
            if waiting.items:
                self.ready.append(waiting)
            else:
                del self._queues[waiting.key]
            if items:
                batch = Batch(waiting.servable, waiting.lane, waiting.outputs, items, rows)
                self._running.add(batch)
                batch.lane.begin()
                return batch, late, None
        return None, late, wait

    def take_lone(self, now: float, loop: asyncio.AbstractEventLoop) -> Batch | None:
        """Take the one request that is under way at all, if its like was brief and it need not wait for others.

        Args:
            now: `time.monotonic()`.
            loop: The event loop that would run it; requests from elsewhere are left alone.

        Returns:
            A batch of that request alone; None if others are under way or were lately, or it may take long.
        """
        if self._running or len(self.ready) != 1:
            return None
        (waiting,) = self.ready
        lane = waiting.lane
        alone = len(waiting.items) == 1 and round(lane.expected) <= 1 and waiting.rows <= _ROWS_BESIDE
        if not alone or lane.lone_seconds > _BRIEF_SECONDS or self._rest(waiting, now) > 0:
            return None
        item = waiting.items[0]
        if item.loop is not loop or item.future.done() or _passed(item, now):
            return None
        return self.take(now)[0]

    def due(self, now: float) -> bool:
        """Whether `take` would find a batch."""
        return any(self._rest(waiting, now) <= 0 for waiting in self.ready)

    def done(self, batch: Batch) -> None:
        """Forget a batch that was answered."""
        self._running.discard(batch)
        batch.lane.end(len(batch.items))
        self.pending -= len(batch.items)

    def expired(self, now: float) -> tuple[list[Item], float]:
        """Take out waiting requests whose deadline passed or whose caller is gone.

        Returns:
            Requests to answer with an error, those that run included, and the next deadline of the others; infinity if
            none has one.
        """
        late = self._sweep(lambda item: item.future.done() or _passed(item, now))
        waiting = [item for kept in self._queues.values() for item in kept.items]
        running = [item for batch in self._running for item in batch.items]
        late += [item for item in running if _passed(item, now)]
        deadlines = [
            item.deadline for item in (*waiting, *running) if item.deadline is not None and item.deadline > now
        ]
        return [item for item in late if not item.future.done()], min(deadlines, default=math.inf)

    def _sweep(self, useless: Callable[[Item], bool]) -> list[Item]:
        """Take useless requests out of the queues."""
        swept: list[Item] = []
        for waiting in list(self._queues.values()):
            keep = deque[Item]()
            for item in waiting.items:
                if useless(item):
                    swept.append(item)
                    self._drop(waiting, item)
                else:
                    keep.append(item)
            waiting.items = keep
            if not keep:
                del self._queues[waiting.key]
                self.ready.remove(waiting)
        return swept

    def waiting_rows(self) -> dict[tuple[str, str], int]:
        """Rows that wait, by model and signature."""
        rows: dict[tuple[str, str], int] = {}
        for waiting in self._queues.values():
            key = (waiting.lane.model_name, waiting.lane.signature)
            rows[key] = rows.get(key, 0) + sum(max(item.rows, 1) for item in waiting.items)
        return rows

    def _pick(self, waiting: Queue, now: float, late: list[Item]) -> tuple[list[Item], int]:
        """Take the requests of the next batch off a queue, and say how many rows they have."""
        picked: list[Item] = []
        rows = 0
        items, solo = waiting.items, waiting.solo
        if not waiting.spread:
            waiting.share = self._limit
            most, full = min(waiting.rows, self._limit), waiting.lane.full
            # What the workers cannot take all at once is cheaper as one batch on all cores.
            if full < most <= full * self._options.worker_threads:
                waiting.share = math.ceil(most / math.ceil(most / full))
                # What does not fit runs beside it now, and not when more have come.
                waiting.spread = len(items)
        while items:
            item = items[0]
            if item.future.done() or _passed(item, now):
                late.append(items.popleft())
                self._drop(waiting, item)
                continue
            if picked and (solo or rows + item.rows > waiting.share):
                break
            items.popleft()
            rows += item.rows
            picked.append(item)
        waiting.rows -= rows
        waiting.lane.waiting -= self._limit * len(picked) if solo else rows
        waiting.spread = max(waiting.spread - len(picked), 0)
        return picked, rows

    def _drop(self, waiting: Queue, item: Item) -> None:
        waiting.rows -= item.rows
        waiting.lane.waiting -= self._weight(item, waiting.solo)
        waiting.lane.requests -= 1
        self.pending -= 1

    def _rest(self, waiting: Queue, now: float) -> float:
        """Seconds for which a batch that is not full still waits for more."""
        if waiting.solo or waiting.rows >= self._limit or waiting.spread:
            return 0.0
        lane, first, last = waiting.lane, waiting.items[0].arrived, waiting.items[-1].arrived
        due = first + self._timeout
        if lane.running and waiting.rows < _ROWS_BESIDE:
            due = max(due, first + _PATIENCE_SECONDS)
        if len(waiting.items) < round(lane.expected):
            due = max(due, min(last + _NEXT_SECONDS, first + _GATHER_SECONDS))
        return due - now

    def _admit(self, lane: Lane, item: Item, weight: int, solo: bool) -> None:
        options = self._options
        if not solo and item.rows > options.max_batch_size and options.oversized == "refuse":
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Task size {item.rows} is larger than maximum input batch size {options.max_batch_size}",
            )
        bound = options.max_enqueued_batches * self._limit
        if lane.waiting and lane.waiting + weight > bound and item.arrived >= self._next_sweep:
            # Callers that gave up must not keep others out.
            self._next_sweep = item.arrived + _SWEEP_SECONDS
            self._sweep(lambda waiting: waiting.future.done())
        if lane.waiting and lane.waiting + weight > bound:
            raise StatusError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{-(-lane.waiting // self._limit)} batches enqueued and max_enqueued_batches is "
                f"{options.max_enqueued_batches}",
            )

    def _weight(self, item: Item, solo: bool) -> int:
        return self._limit if solo else item.rows

    def _kind(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """What the inputs of two requests must have in common to be concatenated."""
        if self._options.pad_variable_length_inputs:
            return tuple([(name, array.dtype, array.ndim) for name, array in sorted(inputs.items())])
        if len(inputs) == 1:
            (array,) = inputs.values()
            return array.dtype, array.shape[1:]
        return tuple([(name, array.dtype, array.shape[1:]) for name, array in sorted(inputs.items())])

    def _new_lane(self, handle: Handle, signature: str) -> Lane:
        servable = handle.servable
        key = id(servable)
        if key not in self._gone:
            # A model that was unloaded must not be kept, nor its identity be mistaken for that of another.
            self._gone[key] = weakref.ref(servable, lambda _: self._forget(key))
            self._lanes[key] = {}
        solo = not self._options.enabled or not servable.batchable.get(signature, False)
        lane = self._lanes[key][signature] = Lane(handle.name, signature, solo, self._full(servable, signature))
        return lane

    def _full(self, servable: Servable, signature: str) -> int:
        """Rows with which a batch is full: the most allowed, or fewer if several beside each other are over sooner."""
        rows = servable.one_core_rows.get(signature, 0)
        if rows < _ROWS_BESIDE or self._options.allowed_batch_sizes:
            return self._limit
        return min(rows, self._limit)

    def _forget(self, key: int) -> None:
        self._lanes.pop(key, None)
        self._gone.pop(key, None)


def _passed(item: Item, now: float) -> bool:
    return item.deadline is not None and item.deadline <= now

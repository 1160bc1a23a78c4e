"""What the batcher handles: requests, the signature they are for, the queues they wait in and the batches they run in.

Comes in: one request after another. Goes out: nothing; these are the records that `serving.server.batch_queue` orders
and `serving.server.batch_runner` runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from serving.server.servable import Servable

_MEMORY = 0.75  # Weight of what was before against what is.


class Item:
    """One request: its inputs, how many rows they have, and whom to answer."""

    __slots__ = ("arrived", "deadline", "future", "inputs", "loop", "rows")

    def __init__(
        self,
        inputs: Mapping[str, np.ndarray],
        rows: int,
        deadline: float | None,
        future: asyncio.Future[Any] | concurrent.futures.Future[Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Keep what is given; `rows` is -1 if the inputs have no rows in common."""
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        self.future = future
        self.loop = loop
        self.arrived = time.monotonic()


class Lane:
    """A signature of a loaded model.

    Attributes:
        model_name: Name of the model.
        signature: Name of the signature.
        solo: Whether its requests must run one by one.
        full: Rows with which a batch is full.
        running: Its batches that run.
        waiting: Rows that wait; a request that runs alone counts as a full batch.
        requests: Requests that wait or run.
        expected: How many those were when batches began; falls slowly, rises at once.
        lone_seconds: How long requests that ran by themselves took; falls slowly, rises at once. Infinite before the
            first.
    """

    def __init__(self, model_name: str, signature: str, solo: bool, full: int) -> None:
        """Start empty."""
        self.model_name = model_name
        self.signature = signature
        self.solo = solo
        self.full = full
        self.running = 0
        self.waiting = 0
        self.requests = 0
        self.expected = 0.0
        self.lone_seconds = math.inf

    def begin(self) -> None:
        """Count a batch that runs from now on."""
        self.running += 1
        self.expected = max(self.requests, _MEMORY * self.expected + (1 - _MEMORY) * self.requests)

    def end(self, requests: int) -> None:
        """Count a batch of so many requests as done."""
        self.running -= 1
        self.requests -= requests

    def took(self, seconds: float) -> None:
        """Note how long a request took that ran by itself."""
        before = self.lone_seconds if self.lone_seconds < math.inf else seconds
        self.lone_seconds = max(seconds, _MEMORY * before + (1 - _MEMORY) * seconds)


class Queue:
    """Requests that may share a batch, in the order of their arrival."""

    __slots__ = ("items", "key", "lane", "outputs", "rows", "servable", "share", "solo", "spread")

    def __init__(self, key: Any, servable: Servable, lane: Lane, outputs: tuple[str, ...] | None, solo: bool) -> None:
        """Start empty; `key` is what its requests have in common."""
        self.key = key
        self.servable = servable
        self.lane = lane
        self.outputs = outputs
        self.solo = solo
        self.items: deque[Item] = deque()
        self.rows = 0
        # So many requests are spread over batches of at most so many rows, which run side by side at once.
        self.spread = 0
        self.share = 0


@dataclass(eq=False)
class Batch:
    """Requests that run together."""

    servable: Servable
    lane: Lane
    outputs: tuple[str, ...] | None
    items: list[Item]
    rows: int

    @property
    def signature(self) -> str:
        """Name of the signature."""
        return self.lane.signature

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self.lane.model_name

"""How much work is let in at a time.

A request with pictures takes one unit, a batch several, by the memory it may need; who finds no room is told to come
back instead of waiting in a queue that grows. Called by the routes that take pictures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from serving.gateway.errors import Problem
from serving.gateway.metrics import Metrics


class Gate:
    """Counts the units that are taken; belongs to one event loop.

    Args:
        capacity: units in all.
        metrics: shows the units that are taken.
    """

    def __init__(self, capacity: int, metrics: Metrics) -> None:
        """Start empty."""
        self._capacity = capacity
        self._taken = 0
        self._gauge = metrics.in_flight

    @contextlib.contextmanager
    def enter(self, units: int = 1) -> Iterator[None]:
        """Take units for the length of a request.

        Args:
            units: wanted; more than the capacity counts as all of it.

        Raises:
            Problem: 429; the gateway is busy.
        """
        units = min(units, self._capacity)
        if self._taken + units > self._capacity:
            raise Problem(
                429,
                "busy",
                "the gateway works on as many pictures as it may; come back in a second",
                {"Retry-After": "1"},
            )
        self._taken += units
        self._gauge.set(self._taken)
        try:
            yield
        finally:
            self._taken -= units
            self._gauge.set(self._taken)

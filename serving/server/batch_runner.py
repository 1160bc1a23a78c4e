"""Running a batch: one call for all its requests, or one for each where that can't be.

Comes in: a `Batch` that was taken from the queues. Goes out: what to tell each caller. Called by
`serving.server.batching`, in whichever thread the batch is to run; it calls `Servable.run`.

A batch that fails is run again item by item, so that one bad item fails alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from serving.server.batch import Batch, Item
from serving.server.batch_rows import merge, rows_of, split
from serving.server.status import Code, StatusError

if TYPE_CHECKING:
    from serving.server.batching import BatchingOptions
    from serving.server.metrics import ServerMetrics

_log = logging.getLogger("slipway.serving")
Answer = tuple[Item, dict[str, np.ndarray] | None, StatusError | None]


class BatchRunner:
    """Runs batches; any number of threads may call it at once."""

    def __init__(self, options: BatchingOptions, metrics: ServerMetrics | None) -> None:
        """Run batches as the options say, and count them."""
        self._options = options
        self._metrics = metrics

    def answers(self, batch: Batch) -> list[Answer]:
        """Run a batch.

        Returns:
            For each request its outputs or its error; neither if its caller is gone.
        """
        items = batch.items
        start = time.monotonic()
        if len(items) == 1:
            answer = self._alone(batch, items[0])
            if answer[1] is not None:
                batch.lane.took(time.monotonic() - start)
            return [answer]
        rows, options = batch.rows, self._options
        try:
            inputs, padded = merge([item.inputs for item in items], rows, options.allowed_batch_sizes)
            outputs = batch.servable.run(batch.signature, inputs, batch.outputs)
            parts = split(outputs, [item.rows for item in items], padded)
        except Exception as error:
            if not isinstance(error, StatusError):
                _log.exception("a batch of %d requests failed", len(items))
            return [self._alone(batch, item) for item in items]
        if parts is None:
            # Its rows are not those of the inputs, whatever the signature says: never gather it again.
            batch.lane.solo = True
            return [self._alone(batch, item) for item in items]
        self._count(batch, items, rows, padded - rows, start)
        return [(item, part, None) for item, part in zip(items, parts, strict=True)]

    def _alone(self, batch: Batch, item: Item) -> Answer:
        start = time.monotonic()
        if item.deadline is not None and item.deadline <= start:
            return item, None, too_late()
        if item.future.done():
            return item, None, None
        try:
            outputs, padding = self._run_alone(batch, item)
        except StatusError as error:
            return item, None, error
        except Exception as error:
            _log.exception("a request failed")
            return item, None, StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        self._count(batch, [item], item.rows, padding, start)
        return item, outputs, None

    def _run_alone(self, batch: Batch, item: Item) -> tuple[dict[str, np.ndarray], int]:
        """Outputs of one request, and how many rows of padding were added."""
        servable, options, inputs, rows = batch.servable, self._options, item.inputs, item.rows
        limit = options.batch_rows
        if batch.lane.solo or rows <= 0:
            return servable.run(batch.signature, inputs, batch.outputs), 0
        if rows > limit and options.oversized == "split":
            pieces = []
            for begin in range(0, rows, limit):
                part = {name: array[begin : begin + limit] for name, array in inputs.items()}
                pieces.append(self._run_alone(batch, Item(part, rows_of(part), None, item.future, None))[0])
            return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}, 0
        if not options.allowed_batch_sizes:
            return servable.run(batch.signature, inputs, batch.outputs), 0
        merged, padded = merge([inputs], rows, options.allowed_batch_sizes)
        outputs = servable.run(batch.signature, merged, batch.outputs)
        parts = split(outputs, [rows], padded)
        if parts is None:
            batch.lane.solo = True
            return servable.run(batch.signature, inputs, batch.outputs), 0
        return parts[0], padded - rows

    def _count(self, batch: Batch, items: Sequence[Item], rows: int, padding: int, start: float) -> None:
        if self._metrics is not None:
            waited = [(start - item.arrived) * 1e6 for item in items]
            self._metrics.batch(batch.model_name, rows, padding, waited, (time.monotonic() - start) * 1e6)


def too_late() -> StatusError:
    """Error of a request whose deadline passed."""
    return StatusError(Code.DEADLINE_EXCEEDED, "Run() timeout exceeded while waiting in batching queue")

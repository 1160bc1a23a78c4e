"""The queues of the batcher, on a clock of the test: when a batch is due beside one that runs."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import pytest

from serving.server.batch_queue import BatchQueues, Item
from serving.server.batching import BatchingOptions
from tests.serving.server.engines import Engine, FakeHandle

ONE_MILLISECOND = 0.001


def add(queues: BatchQueues, rows: int, name: str = "serving_default", handle: FakeHandle | None = None) -> Item:
    """Queue a request for a model of the test."""
    inputs: dict[str, Any] = {"x": np.zeros((rows, 1), np.float32)}
    item = Item(inputs, rows, None, concurrent.futures.Future(), None)
    queues.add(handle or HANDLE, name, item, None)
    return item


HANDLE = FakeHandle(Engine())


def running(**options: Any) -> tuple[BatchQueues, float]:
    """Queues of which one request was taken and runs, and the time."""
    queues = BatchQueues(BatchingOptions(**options))
    now = add(queues, 1).arrived
    batch, _, _ = queues.take(now)
    assert batch is not None and batch.rows == 1
    return queues, now


def test_a_few_rows_wait_while_a_batch_of_their_signature_runs() -> None:
    queues, _ = running()
    now = add(queues, 7).arrived
    batch, late, wait = queues.take(now + ONE_MILLISECOND)
    assert batch is None and late == []
    assert wait is not None and 0 < wait <= 0.005
    assert not queues.due(now + ONE_MILLISECOND)
    assert queues.due(now + 0.006)  # the longest that they wait
    add(queues, 1)
    assert queues.due(now + ONE_MILLISECOND)
    batch, _, _ = queues.take(now + ONE_MILLISECOND)
    assert batch is not None and batch.rows == 8


def test_they_go_at_once_when_that_batch_is_done() -> None:
    queues = BatchQueues(BatchingOptions())
    first, _, _ = queues.take(add(queues, 1).arrived)
    assert first is not None
    now = add(queues, 1).arrived
    assert not queues.due(now)
    queues.done(first)
    assert queues.due(now)


@pytest.mark.parametrize("options", [{"max_batch_size": 4}, {"enabled": False}], ids=["full batch", "no batching"])
def test_what_cannot_grow_does_not_wait(options: dict[str, Any]) -> None:
    queues, _ = running(**options)
    now = add(queues, 4).arrived
    assert queues.due(now)


def test_another_model_does_not_wait_for_it() -> None:
    queues, _ = running()
    other = FakeHandle(Engine())
    now = add(queues, 1, handle=other).arrived
    batch, _, _ = queues.take(now)
    assert batch is not None and batch.servable is other.servable


def answered(count: int) -> tuple[BatchQueues, float]:
    """Queues that answered so many requests of one row together, and the time."""
    queues = BatchQueues(BatchingOptions())
    now = max(add(queues, 1).arrived for _ in range(count))
    batch, _, _ = queues.take(now + 1)
    assert batch is not None and batch.rows == count
    queues.done(batch)
    return queues, now


def test_clients_that_were_answered_together_are_awaited_while_they_arrive() -> None:
    queues, now = answered(8)
    for _ in range(7):
        add(queues, 1).arrived = now
    batch, _, wait = queues.take(now + ONE_MILLISECOND)
    assert batch is None and wait is not None and 0 < wait <= 0.002
    assert queues.due(now + 0.0021)  # nobody else came
    add(queues, 1).arrived = now
    assert queues.due(now)
    batch, _, _ = queues.take(now)
    assert batch is not None and batch.rows == 8


def test_they_are_awaited_for_a_limited_time() -> None:
    queues, now = answered(30)
    for milliseconds in range(22):
        add(queues, 1).arrived = now + milliseconds * ONE_MILLISECOND
        assert queues.due(now + milliseconds * ONE_MILLISECOND) == (milliseconds >= 20)


def test_a_client_that_stays_behind_soon_waits_no_more() -> None:
    queues, _ = answered(32)
    waited = 0
    for _ in range(25):
        now = add(queues, 1).arrived
        waited += not queues.due(now)
        batch, _, _ = queues.take(now + 1)
        assert batch is not None
        queues.done(batch)
    assert 0 < waited < 20
    assert queues.due(add(queues, 1).arrived)


def test_a_client_that_is_alone_never_waits() -> None:
    queues, _ = answered(1)
    for _ in range(3):
        now = add(queues, 1).arrived
        assert queues.due(now)
        batch, _, _ = queues.take(now)
        assert batch is not None
        queues.done(batch)

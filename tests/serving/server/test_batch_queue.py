"""The queues of the batcher, on a clock of the test: when a batch is due beside one that runs."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.batch import Item
from serving.server.batch_queue import BatchQueues
from serving.server.batching import BatchingOptions
from tests.serving.server.engines import Engine, FakeHandle

ONE_MILLISECOND = 0.001


def add(queues: BatchQueues, rows: int, name: str = "serving_default", handle: FakeHandle | None = None) -> Item:
    """Queue a request for a model of the test."""
    inputs: dict[str, Any] = {"x": np.zeros((rows, 1), np.float32)}
    item = Item(inputs, rows, None, concurrent.futures.Future(), LOOP)
    queues.add(handle or HANDLE, name, item, None)
    return item


HANDLE = FakeHandle(Engine())
LOOP: Any = object()


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
    for rows in (1, 8, 1, 3):
        now = add(queues, rows).arrived
        assert queues.due(now)
        batch, _, _ = queues.take(now)
        assert batch is not None
        queues.done(batch)


def brief(seconds: float = ONE_MILLISECOND) -> BatchQueues:
    """Queues of a client that is alone, whose last request took so long."""
    queues = BatchQueues(BatchingOptions())
    first, _, _ = queues.take(add(queues, 1).arrived)
    assert first is not None
    first.lane.took(seconds)
    queues.done(first)
    return queues


def test_a_brief_request_of_a_client_that_is_alone_is_taken_by_itself() -> None:
    queues = brief()
    for rows in (1, 8):
        item = add(queues, rows)
        batch = queues.take_lone(item.arrived, LOOP)
        assert batch is not None and batch.items == [item]
        assert not queues.ready
        queues.done(batch)
    assert queues.pending == 0


def test_the_first_one_may_take_long() -> None:
    queues = BatchQueues(BatchingOptions())
    assert queues.take_lone(add(queues, 1).arrived, LOOP) is None


def test_one_long_request_makes_the_next_ones_suspect() -> None:
    queues, count = brief(0.1), 0
    while (batch := queues.take_lone((item := add(queues, 1)).arrived, LOOP)) is None:
        batch, _, _ = queues.take(item.arrived)
        assert batch is not None
        batch.lane.took(ONE_MILLISECOND)
        queues.done(batch)
        count += 1
    assert 10 < count < 30


@pytest.mark.parametrize(
    "case", ["two", "many rows", "another model", "another runs", "lately two", "gone", "late", "of a thread"]
)
def test_what_is_not_alone_or_not_brief_is_left_for_a_worker(case: str) -> None:
    queues = brief()
    if case == "another runs":
        other, _, _ = queues.take(add(queues, 1, handle=FakeHandle(Engine())).arrived)
        assert other is not None
    if case == "lately two":
        now = max(add(queues, 1).arrived for _ in range(2))
        batch, _, _ = queues.take(now)
        assert batch is not None and batch.rows == 2
        queues.done(batch)
    item = add(queues, 9 if case == "many rows" else 1)
    if case == "two":
        add(queues, 1)
    if case == "another model":
        add(queues, 1, handle=FakeHandle(Engine()))
    if case == "gone":
        item.future.cancel()
    if case == "of a thread":
        item.loop = None
    if case == "late":
        item.deadline = item.arrived
    waiting = len(queues.ready)
    assert queues.take_lone(item.arrived + 1, LOOP) is None
    assert len(queues.ready) == waiting > 0


def one_core(rows: int, **options: Any) -> tuple[BatchQueues, FakeHandle]:
    """Queues, and a model whose calls of so many rows keep one core busy."""
    engine = Engine()
    engine.one_core_rows["serving_default"] = rows
    return BatchQueues(BatchingOptions(workers=2, **options)), FakeHandle(engine)


def taken(queues: BatchQueues, now: float) -> list[int]:
    """Rows of the batches that are due, in order."""
    rows = []
    while True:
        batch, _, _ = queues.take(now)
        if batch is None:
            return rows
        rows.append(batch.rows)


@pytest.mark.parametrize(
    ("requests", "batches"),
    [
        ([1] * 16, [16]),
        ([1] * 17, [9, 8]),
        ([1] * 32, [16, 16]),
        ([1] * 40, [16, 16, 8]),
        ([1] * 3, [3]),
        ([24], [24]),  # what was sent as one runs as one
        ([12, 12, 12], [12, 12, 12]),
        ([15, 15, 2], [15, 15, 2]),
    ],
)
def test_a_model_that_keeps_one_core_busy_runs_side_by_side(requests: list[int], batches: list[int]) -> None:
    queues, handle = one_core(16)
    now = max(add(queues, rows, handle=handle).arrived for rows in requests)
    assert taken(queues, now + 1) == batches


def test_what_arrives_after_the_first_of_them_is_no_part_of_the_others() -> None:
    queues, handle = one_core(16)
    now = max(add(queues, 1, handle=handle).arrived for _ in range(20))
    first, _, _ = queues.take(now)
    assert first is not None and first.rows == 10
    for _ in range(3):
        add(queues, 1, handle=handle)
    second, _, _ = queues.take(now)
    assert second is not None and second.rows == 10
    # These three have company soon, when the others are answered.
    assert queues.take(now)[0] is None


@pytest.mark.parametrize(
    ("rows", "options"),
    [(4, {"workers": 32}), (15, {}), (16, {"workers": 1}), (16, {"allowed_batch_sizes": (8, 32)}), (64, {})],
    ids=["few rows", "too many for both", "one worker", "sizes that were asked for", "more than a batch holds"],
)
def test_batches_are_as_large_as_allowed_where_side_by_side_gains_nothing(rows: int, options: dict[str, Any]) -> None:
    engine = Engine()
    engine.one_core_rows["serving_default"] = rows
    queues, handle = BatchQueues(BatchingOptions(**{"workers": 2, **options})), FakeHandle(engine)
    now = max(add(queues, 1, handle=handle).arrived for _ in range(32))
    assert taken(queues, now + 1) == [32]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(8, 40),
    st.integers(1, 64),
    st.sets(st.integers(0, 59)),
)
def test_every_request_runs_once_in_its_order_in_batches_that_fit(
    requests: list[int], rows: int, limit: int, given_up: set[int]
) -> None:
    queues, handle = one_core(rows, max_batch_size=limit, max_enqueued_batches=10_000)
    items = [add(queues, count, handle=handle) for count in requests]
    for number in given_up & set(range(len(items))):
        items[number].future.cancel()
    now, ran = items[-1].arrived + 1, []
    while True:
        batch, _, _ = queues.take(now)
        if batch is None:
            break
        assert batch.rows == sum(item.rows for item in batch.items)
        assert batch.rows <= limit or len(batch.items) == 1
        ran += batch.items
        queues.done(batch)
    assert ran == [item for item in items if not item.future.cancelled()]
    assert queues.pending == 0 and queues.waiting_rows() == {}

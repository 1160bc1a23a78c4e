"""Running batches: who runs together, what is padded or split, and that one bad request fails alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.batching import Batcher, BatchingOptions
from serving.server.status import Code, StatusError
from tests.serving.server.batchers import occupy, result, x
from tests.serving.server.engines import BAD, Engine, FakeHandle, signature, spec

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@given(
    requests=st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=12),
    workers=st.integers(1, 3),
    limit=st.integers(1, 8),
    allowed=st.booleans(),
    oversized=st.sampled_from(["alone", "split"]),
)
@settings(max_examples=60, deadline=None)
def test_only_the_bad_request_fails_and_all_others_get_their_rows(
    requests: list[tuple[int, bool]], workers: int, limit: int, allowed: bool, oversized: Any
) -> None:
    engine = Engine()
    sizes = tuple(sorted({max(1, limit // 2), limit})) if allowed else ()
    one = Batcher(
        BatchingOptions(workers=workers, max_batch_size=limit, allowed_batch_sizes=sizes, oversized=oversized)
    )
    handle = FakeHandle(engine)
    futures = []
    with engine.held():
        for number, (rows, bad) in enumerate(requests):
            values = [100.0 * number + row for row in range(rows)]
            if bad:
                values[-1] = BAD
            futures.append(one.submit(handle, "serving_default", x(*values)))
    for number, ((rows, bad), future) in enumerate(zip(requests, futures, strict=True)):
        if bad:
            error = future.exception(60)
            assert isinstance(error, StatusError)
            assert (error.code, error.message) == (Code.INVALID_ARGUMENT, "a bad row")
        else:
            assert result(future) == [200.0 * number + 2 * row for row in range(rows)]
    one.close().result(60)
    largest = max(rows for rows, _ in requests)
    assert max(engine.rows()) <= max(limit, largest if oversized == "alone" else 0)
    if allowed:
        assert all(rows in sizes or rows > limit for rows in engine.rows())


def test_an_oversized_request_runs_alone(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    one = batcher(workers=1, max_batch_size=4, max_enqueued_batches=1)
    assert result(one.submit(FakeHandle(engine), "serving_default", x(*range(11)))) == [2 * n for n in range(11)]
    assert engine.rows() == [11]


def test_an_oversized_request_is_split(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    one = batcher(workers=1, max_batch_size=100, oversized="split", max_execution_batch_size=4)
    assert result(one.submit(FakeHandle(engine), "serving_default", x(*range(11)))) == [2 * n for n in range(11)]
    assert engine.rows() == [4, 4, 3]


def test_an_oversized_request_is_refused(batcher: Callable[..., Batcher]) -> None:
    with pytest.raises(StatusError) as caught:
        batcher(max_batch_size=4, oversized="refuse").submit(FakeHandle(Engine()), "serving_default", x(*range(5)))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == "Task size 5 is larger than maximum input batch size 4"


def test_allowed_batch_sizes_hold_for_lonely_requests_too(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    one = batcher(max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert result(one.submit(FakeHandle(engine), "serving_default", x(1, 2, 3))) == [2, 4, 6]
    assert engine.rows() == [4]


def test_variable_lengths_share_a_batch_where_asked(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    handle, one = FakeHandle(engine), batcher(workers=1, pad_variable_length_inputs=True)
    with engine.held():
        occupied = occupy(one, handle)
        futures = [one.submit(handle, "serving_default", x(n, width=n)) for n in (1, 3, 2)]
    occupied.result(60)
    assert [future.result(60)["y"].tolist() for future in futures] == [[[2, 2, 2]], [[6, 6, 6]], [[4, 4, 4]]]
    assert engine.rows() == [1, 3]


@pytest.mark.parametrize("case", ["not batchable", "disabled", "different rows", "scalar"])
def test_what_cannot_be_gathered_runs_alone(batcher: Callable[..., Batcher], case: str) -> None:
    pair = signature(inputs=(spec("x", (None, None)), spec("z", None)))
    engine = Engine(pair, batchable=case != "not batchable")
    one = batcher(workers=1, enabled=case != "disabled", allowed_batch_sizes=(32,))
    extra = {"different rows": {"z": np.zeros(7)}, "scalar": {"z": np.float32(1)}}.get(case, {"z": np.zeros((1, 1))})
    handle = FakeHandle(engine)
    with engine.held():
        occupied = one.submit(handle, "serving_default", {**x(5), **extra})
        futures = [one.submit(handle, "serving_default", {**x(n), **extra}) for n in range(4)]
    assert result(occupied) == [10]
    assert [result(future) for future in futures] == [[2 * n] for n in range(4)]
    assert engine.rows() == [1] * 5


def test_a_model_that_gives_other_rows_than_it_got_is_never_gathered_again(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()
    engine.answer = lambda inputs: {"y": np.sum(inputs["x"], axis=0, keepdims=True)}
    handle, one = FakeHandle(engine), batcher(workers=1)
    for _ in range(2):
        with engine.held():
            futures = [occupy(one, handle), *[one.submit(handle, "serving_default", x(n, n)) for n in range(3)]]
        assert [result(future) for future in futures] == [[1000], [0], [2], [4]]
    assert engine.rows() == [1, 6, 2, 2, 2, 1, 2, 2, 2]


def test_unexpected_errors_are_internal_and_leave_the_workers_alive(batcher: Callable[..., Batcher]) -> None:
    engine = Engine()

    def fail(inputs: Any) -> dict[str, np.ndarray]:
        raise RuntimeError("out of luck")

    engine.answer, good = fail, engine.answer
    handle, one = FakeHandle(engine), batcher(workers=1)
    error = one.submit(handle, "serving_default", x(1)).exception(60)
    assert isinstance(error, StatusError)
    assert (error.code, error.message) == (Code.INTERNAL, "RuntimeError: out of luck")
    engine.answer = good
    assert result(one.submit(handle, "serving_default", x(1))) == [2]

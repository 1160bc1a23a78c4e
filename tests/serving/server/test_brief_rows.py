"""Up to how many rows one thread is best: by a clock of our own, so that nothing is left to luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from serving.server.brief_rows import brief_rows
from serving.warmup import WarmupRequest
from tests.serving.server.engines import Engine

REQUEST = WarmupRequest("serving_default", {"x": np.array([[1.0, 2.0], [3.0, 4.0]])}, ("y",))


class Clock:
    """A clock that only calls move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(clock: Clock, seconds: Callable[[int, int], float]) -> Engine:
    """An engine whose calls take as long as said, by rows and number of the call."""
    engine = Engine()

    def answer(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        clock.now += seconds(len(inputs["x"]), len(engine.runs))
        return {"y": inputs["x"]}

    engine.answer = answer
    return engine


@pytest.mark.parametrize(
    ("milliseconds", "most"),
    [
        # A call with all cores takes 1 ms and 0.1 ms for each row; with one thread:
        (lambda rows: 0.2 * rows, 8),
        (lambda rows: 0.3 * rows, 4),
        (lambda rows: 0.5 * rows, 2),
        (lambda rows: 0.7 * rows, 1),
        (lambda rows: 0.01 * rows, 16),
        (lambda rows: 1.2 + rows, 0),
        # A little longer is worth it, for it costs one core only.
        (lambda rows: 0.9 if rows == 1 else 1.05 * (1 + 0.1 * rows), 16),
        # As where others keep the cores busy.
        (lambda rows: 0.92 * (1 + 0.1 * rows), 16),
        # Where nothing is divided, both are alike: not worth the memory.
        (lambda rows: 1 + 0.1 * rows, 0),
    ],
)
def test_one_thread_gets_what_it_is_not_slower_at(milliseconds: Callable[[int], float], most: int) -> None:
    clock = Clock()
    whole = timed(clock, lambda rows, _: 0.001 * (1 + 0.1 * rows))
    single = timed(clock, lambda rows, _: 0.001 * milliseconds(rows))
    assert brief_rows(whole, single, REQUEST, clock) == most


def test_the_request_is_called_as_it_was_recorded_row_by_row() -> None:
    clock = Clock()
    whole, single = timed(clock, lambda *_: 2.0), timed(clock, lambda *_: 0.01)
    assert brief_rows(whole, single, REQUEST, clock) == 16
    # By halving: not all need be tried.
    assert sorted(set(single.rows())) == [1, 8, 16] == sorted(set(whole.rows()))
    name, inputs, outputs = single.runs[-1]
    assert (name, outputs) == ("serving_default", ("y",))
    assert inputs["x"].tolist() == [[1.0, 2.0]] * 16


def test_calls_that_were_held_up_do_not_decide() -> None:
    clock = Clock()
    whole = timed(clock, lambda *_: 0.001)
    # The first prepares the shape, others meet something else that the machine does.
    single = timed(clock, lambda _, number: 0.0005 if number % 6 == 3 else 0.04)
    assert brief_rows(whole, single, REQUEST, clock) == 16


def test_brief_calls_are_tried_more_often_than_a_crowded_moment_lasts() -> None:
    clock = Clock()
    whole = timed(clock, lambda *_: 0.001)
    single = timed(clock, lambda _, number: 0.0005 if number % 30 > 20 else 0.0012)
    assert brief_rows(whole, single, REQUEST, clock) == 16


def test_long_calls_are_not_tried_for_long() -> None:
    clock = Clock()
    whole, single = timed(clock, lambda *_: 0.5), timed(clock, lambda *_: 0.4)
    assert brief_rows(whole, single, REQUEST, clock) == 0
    assert single.rows() == [1, 1]

"""Measures up to how many rows a call of a model is best left to one thread.

Comes in: a model loaded for all cores and for one thread, and a warm-up request. Goes out: a number of rows. Called by
`serving.server.pairing`. What is faster depends on model, rows and machine, so nothing but measuring tells.
"""

from __future__ import annotations

import functools
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from serving.server.servable import Servable
    from serving.warmup import WarmupRequest

_ROWS = (2, 4, 8, 16)  # Beyond one.
MOST_ROWS = _ROWS[-1]
_FEWEST_ROUNDS, _MOST_ROUNDS = 6, 30
_ENOUGH_SECONDS = 0.1
_LONG_SECONDS = 0.05  # Nobody would call it brief.
# So much shorter a call of one row has to be, for a second load to be worth its memory. Not shorter still: while others
# keep the cores busy, a call that finds none of them free isn't held up by waking them.
_GAIN = 0.95
_WORTH = 1.1  # So much longer others may then take, since they leave the other cores to others.


def brief_rows(
    whole: Servable, single: Servable, request: WarmupRequest, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Measure up to how many rows a call is best left to one thread.

    Args:
        whole: The model, with all cores for a call.
        single: The same with one thread for a call.
        request: What to call it with; its first row is repeated.
        clock: Seconds since some moment.

    Returns:
        The most rows, 16 at most; 0 if one thread is not clearly faster even for one row.

    Raises:
        StatusError: The model refuses that many rows.
    """
    # In threads of their own: oneDNN keeps for each thread how it has divided an operation of some shape, and would
    # hand what one of the two has planned to the other.
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:

        def seconds(pool: ThreadPoolExecutor, model: Servable, inputs: Mapping[str, np.ndarray]) -> float:
            def call() -> float:
                start = clock()
                model.run(request.signature, inputs, request.outputs)
                return clock() - start

            return pool.submit(call).result()

        def is_slower(rows: int, limit: float = _WORTH) -> bool:
            inputs = {name: np.repeat(array[:1], rows, axis=0) for name, array in request.inputs.items()}
            with_all, with_one = _shortest(
                functools.partial(seconds, first, whole, inputs), functools.partial(seconds, second, single, inputs)
            )
            return with_one > min(_LONG_SECONDS, limit * with_all)

        if is_slower(1, _GAIN):
            return 0
        # The more rows, the more there is to divide, so that the border is found by halving.
        return (1, *_ROWS)[bisect_left(_ROWS, True, key=is_slower)]


def _shortest(first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    """The shortest of several times of both, taken in turn.

    What else the machine does while a model is loaded makes calls longer, never shorter.
    """
    best, spent = (math.inf, math.inf), 0.0
    for number in range(1, 1 + _MOST_ROUNDS):
        one, other = first(), second()
        best = min(best[0], one), min(best[1], other)
        spent += one + other
        # The first call of a shape prepares the others, which may take long.
        is_long = number > 1 and best[1] > _LONG_SECONDS
        if is_long or (number >= _FEWEST_ROUNDS and spent > _ENOUGH_SECONDS):
            break
    return best

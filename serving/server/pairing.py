"""Finds out for which calls of a model one thread is faster than all, and loads it a second time for these.

Comes in: a loaded model that has answered its warm-up requests. Goes out: the same, or a `PairedServable`. Called by
`serving.server.loading`.

TensorFlow hands parts of an operation to the other threads of a Session, and to wake one up takes as long as a small
convolution. What is faster depends on model, rows and machine, so it is measured, with the warm-up requests. The two
Sessions need threads of their own, which TensorFlow gives them only where `TF_OVERRIDE_GLOBAL_THREADPOOL` is set.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving.errors import ServingError
from serving.server.paired_servable import PairedServable
from serving.server.saved_model_servable import SavedModelServable
from serving.server.status import StatusError
from serving.warmup import WarmupRequest, read_requests

if TYPE_CHECKING:
    from serving.server.loading import LoadOptions
    from serving.server.servable import Servable

_MOST_BYTES = 64 << 20  # of the files of a model: so much more memory it may take.
_ROWS = (2, 4, 8, 16)  # Beyond one.
_FEWEST_ROUNDS, _MOST_ROUNDS = 6, 30
_ENOUGH_SECONDS = 0.1
_LONG_SECONDS = 0.05  # Nobody would call it brief.
# So much shorter a call of one row has to be, for a second load to be worth its memory. Not shorter still: while others
# keep the cores busy, a call that finds none of them free isn't held up by waking them.
_GAIN = 0.95
_WORTH = 1.1  # So much longer others may then take, since they leave the other cores to others.
_log = logging.getLogger("slipway.serving")


def pair(servable: SavedModelServable, path: Path, options: LoadOptions) -> Servable:
    """Load a model a second time for its brief calls, if it has some.

    Args:
        servable: The model; stays the caller's if this raises.
        path: Its version directory.
        options: How it was loaded.

    Returns:
        Both as one, or the model itself: if it is large, keeps something from call to call, carries no warm-up
        requests, may run on a GPU, its number of threads was set, it does not load or answer so, or it is never
        faster on one thread.
    """
    requests = _first_requests(servable, path)
    if options.intra_op_threads or options.inter_op_threads or not requests or _size(path) > _MOST_BYTES:
        return servable
    if not (servable.runs_on_cpu() and servable.keeps_nothing()):
        return servable
    try:
        single = _load_single(path, options, requests)
    except ServingError as error:
        _log.warning("%s is served without a second load for brief calls: %s", path, error)
        return servable
    try:
        found = {request.signature: _brief_rows_or_zero(servable, single, request) for request in requests}
    except BaseException:
        single.close()
        raise
    rows = {signature: most for signature, most in found.items() if most}
    if not rows:
        single.close()
        return servable
    _log.info("%s: faster on one thread are calls of %s", path, _words(rows))
    return PairedServable(servable, single, rows)


def _load_single(path: Path, options: LoadOptions, requests: Iterable[WarmupRequest]) -> SavedModelServable:
    # With one thread there is nothing to share out: the calling one does all.
    load = functools.partial(SavedModelServable.load, path, replace(options, intra_op_threads=1), inline_rows=_ROWS[-1])
    single = load(in_order=True)
    try:
        for request in requests:
            single.run(request.signature, request.inputs, request.outputs)
    except StatusError as error:
        # TensorFlow does not run everything in order, and may say so when it is called only.
        _log.info("%s does not run in order: %s", path, error.message)
        single.close()
        return load()
    except BaseException:
        single.close()
        raise
    return single


def _brief_rows_or_zero(whole: Servable, single: Servable, request: WarmupRequest) -> int:
    try:
        return brief_rows(whole, single, request)
    except StatusError as error:
        # It answered the request as recorded: a model may refuse other numbers of rows than those that it is sent.
        _log.info("calls of %s are not tried on one thread: %s", request.signature, error.message)
        return 0


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


def _first_requests(servable: Servable, path: Path) -> list[WarmupRequest]:
    """The first request of each signature whose calls have rows."""
    found: dict[str, WarmupRequest] = {}
    for request in read_requests(path):
        if servable.batchable.get(request.signature, False):
            found.setdefault(request.signature, request.completed(servable.signatures[request.signature]))
    return [request for request in found.values() if all(len(array) for array in request.inputs.values())]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (*path.glob("saved_model.pb*"), *path.glob("variables/*")))


def _words(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{signature} up to {most} row{'s' * (most > 1)}" for signature, most in sorted(rows.items()))

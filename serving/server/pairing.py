"""Loads a model a second time for the calls that are faster on one thread than on all.

Comes in: a loaded model that has answered its warm-up requests. Goes out: the same, or a `PairedServable`. Called by
`serving.server.loading`; what is faster is measured in `serving.server.brief_rows`.

TensorFlow hands parts of an operation to the other threads of a Session, and to wake one up takes as long as a small
convolution. The two Sessions need threads of their own, which TensorFlow gives them only where
`TF_OVERRIDE_GLOBAL_THREADPOOL` is set.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from serving.errors import ServingError
from serving.server.brief_rows import MOST_ROWS, brief_rows
from serving.server.paired_servable import PairedServable
from serving.server.saved_model_servable import SavedModelServable
from serving.server.status import StatusError
from serving.warmup import WarmupRequest, read_requests

if TYPE_CHECKING:
    from serving.server.loading import LoadOptions
    from serving.server.servable import Servable

_MOST_BYTES = 64 << 20  # of the files of a model: so much more memory it may take.
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
    load = functools.partial(SavedModelServable.load, path, replace(options, intra_op_threads=1), inline_rows=MOST_ROWS)
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

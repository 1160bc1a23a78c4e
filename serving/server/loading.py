"""A version directory becomes a servable that has answered its warm-up requests.

Comes in: the directory of one version and `LoadOptions`. Goes out: a `Servable`. Called by the version manager in a
thread of its own; a failure leaves nothing behind.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from serving.server.collector import freeze_imports
from serving.server.servable import Servable
from serving.server.status import StatusError

TFLITE_FILE = "model.tflite"
_log = logging.getLogger("slipway.serving")


@dataclass(frozen=True)
class LoadOptions:
    """How a version is loaded.

    Attributes:
        tags: Exact set of tags of the graph to load.
        intra_op_threads: Threads inside one operation; 0 leaves the choice to TensorFlow.
        inter_op_threads: Operations that run side by side; 0 leaves the choice to TensorFlow.
        warmup: Replay the warm-up requests that the model carries before it is available.
        warmup_iterations: How often each warm-up request is replayed.
        prefer_tflite: Serve `model.tflite` of the version directory if there is one.
        tflite_threads: Threads of one TFLite interpreter.
        tflite_pool: Interpreters of one TFLite model, which is how many calls run side by side; 0 for one a core.
        pair: Load a small SavedModel twice if some of its calls are faster on one thread; takes effect only where each
            Session has threads of its own.
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    warmup: bool = True
    warmup_iterations: int = 1
    prefer_tflite: bool = False
    tflite_threads: int = 1
    tflite_pool: int = 0
    pair: bool = False


@dataclass(frozen=True)
class Loaded:
    """A servable and what it took to make it ready.

    Attributes:
        servable: The loaded model.
        load_seconds: Wall time of loading.
        warmup_seconds: Wall time of the warm-up; None if the model carries no requests or none were asked for.
        warmup_requests: Requests that were replayed.
    """

    servable: Servable
    load_seconds: float
    warmup_seconds: float | None
    warmup_requests: int


def load_servable(path: Path, options: LoadOptions) -> Servable:
    """Load a version and replay its warm-up requests; blocking.

    Args:
        path: The version directory.
        options: How to load it.

    Returns:
        The model, ready for requests.

    Raises:
        ServingError: The directory does not hold a model that loads, or its warm-up file is damaged.
        StatusError: A warm-up request failed.
    """
    return load(path, options).servable


def load(path: Path, options: LoadOptions) -> Loaded:
    """Do as `load_servable` does, and tell how long it took."""
    start = time.perf_counter()
    servable = _load(path, options)
    loaded = time.perf_counter()
    try:
        replayed = _warm_up(servable, path, options) if options.warmup else 0
        seconds = time.perf_counter() - loaded if replayed else None
        if replayed and options.pair:
            servable = _pair(servable, path, options)
    except BaseException:
        servable.close()
        raise
    _log.info("loaded %s in %.2f s, replayed %d warm-up requests", path, loaded - start, replayed)
    return Loaded(servable, loaded - start, seconds, replayed)


def _load(path: Path, options: LoadOptions) -> Servable:
    if options.prefer_tflite and (path / TFLITE_FILE).is_file():
        from serving.server.tflite_servable import TfliteServable

        _import_tflite()
        freeze_imports()
        return TfliteServable.load(path / TFLITE_FILE, options)
    from serving.server.saved_model_servable import SavedModelServable

    _import_session()
    freeze_imports()
    return SavedModelServable.load(path, options)


def _pair(servable: Servable, path: Path, options: LoadOptions) -> Servable:
    from serving.server.pairing import pair
    from serving.server.saved_model_servable import SavedModelServable

    return pair(servable, path, options) if isinstance(servable, SavedModelServable) else servable


def _import_session() -> None:
    """Import what loading needs before the collector is told to overlook it."""
    import tensorflow.python.client.session
    import tensorflow.python.framework.importer  # noqa: F401


def _import_tflite() -> None:
    import tensorflow.lite.python.interpreter  # noqa: F401


def _warm_up(servable: Servable, path: Path, options: LoadOptions) -> int:
    from serving.warmup import read_requests

    replayed = 0
    for request in read_requests(path):
        inputs = request.completed(servable.signatures.get(request.signature)).inputs
        for _ in range(options.warmup_iterations):
            try:
                servable.run(request.signature, inputs, request.outputs)
            except StatusError as error:
                raise StatusError(error.code, f"warm-up request {replayed + 1} of {path}: {error.message}") from error
        replayed += 1
    return replayed

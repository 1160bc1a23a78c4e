"""Warm-up requests that travel with a model; TensorFlow Serving replays them before it is available.

Comes in: `assets.extra/tf_serving_warmup_requests`, a TFRecord file of `PredictionLog` protos. Goes out: the
calls to make. Called by the infra probe and the model server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.records import read_records

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TensorFlow Serving refuses a model with more.
_DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class WarmupRequest:
    """One call: name of the signature and its inputs."""

    signature: str
    inputs: dict[str, np.ndarray]


def read_requests(model_dir: str | os.PathLike[str]) -> Iterator[WarmupRequest]:
    """Yield the warm-up requests of a model; none if it carries no file of them.

    Raises:
        ServingError: The file is damaged, holds more than 1000 records, or a kind of request that is neither
            Predict, Classify nor Regress.
    """
    file = Path(model_dir) / WARMUP_FILE
    if not file.exists():
        return
    for number, record in enumerate(read_records(file), start=1):
        if number > MAX_RECORDS:
            raise ServingError(f"{file} holds more than {MAX_RECORDS} records; TensorFlow Serving takes no more.")
        yield _to_request(f"{file}, record {number}", record)


def _to_request(where: str, record: bytes) -> WarmupRequest:
    from google.protobuf.message import DecodeError
    from tensorflow.python.framework import tensor_util
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise ServingError(f"{where}: expected a PredictionLog proto: {error}.") from error
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        inputs = {name: tensor_util.MakeNdarray(proto) for name, proto in request.inputs.items()}
        return WarmupRequest(request.model_spec.signature_name or _DEFAULT_SIGNATURE, inputs)
    if kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        # Both APIs feed serialized examples to the one input that must be named "inputs".
        examples = np.array([e.SerializeToString() for e in _examples(where, request.input)], dtype=object)
        return WarmupRequest(request.model_spec.signature_name or _DEFAULT_SIGNATURE, {"inputs": examples})
    raise ServingError(f"{where}: found {kind or 'nothing'}, expected predict_log, classify_log or regress_log.")


def _examples(where: str, source: Any) -> Any:
    if source.WhichOneof("kind") != "example_list" or not source.example_list.examples:
        raise ServingError(f"{where}: expected a list of examples, found {source.WhichOneof('kind') or 'nothing'}.")
    return source.example_list.examples

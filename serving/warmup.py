"""Warm-up requests that travel with a model; TensorFlow Serving replays them before it is available.

Comes in: `assets.extra/tf_serving_warmup_requests`, a TFRecord file of `PredictionLog` protos. Goes out: the
calls to make. Called by the infra probe and the model server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.errors import ServingError
from serving.records import read_records

if TYPE_CHECKING:
    from serving.signature import Signature

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TensorFlow Serving refuses a model with more.
_DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class WarmupRequest:
    """One call: name of the signature, its inputs, and the outputs to compute (None for all)."""

    signature: str
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...] | None = None

    def completed(self, signature: Signature | None) -> WarmupRequest:
        """The same with the defaults of its signature for the inputs that it leaves out."""
        if signature is None or not signature.defaults:
            return self
        return replace(self, inputs={**signature.defaults, **self.inputs})


def read_requests(model_dir: str | os.PathLike[str]) -> Iterator[WarmupRequest]:
    """Yield the warm-up requests of a model; none if it carries no file of them.

    Raises:
        ServingError: The file is damaged, holds more than 1000 records, or a kind of request that is neither
            Predict, Classify, Regress nor MultiInference; the last gives one request for each of its tasks.
    """
    file = Path(model_dir) / WARMUP_FILE
    if not file.exists():
        return
    for number, record in enumerate(read_records(file), start=1):
        if number > MAX_RECORDS:
            raise ServingError(f"{file} holds more than {MAX_RECORDS} records; TensorFlow Serving takes no more.")
        yield from _to_requests(f"{file}, record {number}", record)


def _to_requests(where: str, record: bytes) -> Iterator[WarmupRequest]:
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
        outputs = tuple(request.output_filter) or None
        yield WarmupRequest(request.model_spec.signature_name or _DEFAULT_SIGNATURE, inputs, outputs)
    elif kind in ("classify_log", "regress_log", "multi_inference_log"):
        request = getattr(log, kind).request
        specs = [task.model_spec for task in request.tasks] if kind == "multi_inference_log" else [request.model_spec]
        # These APIs feed serialized examples to the one input that must be named "inputs".
        examples = np.array(_examples(where, request.input), dtype=object)
        for spec in specs:
            yield WarmupRequest(spec.signature_name or _DEFAULT_SIGNATURE, {"inputs": examples})
    else:
        raise ServingError(
            f"{where}: found {kind or 'nothing'}, expected predict_log, classify_log, regress_log or "
            "multi_inference_log."
        )


def _examples(where: str, source: Any) -> list[bytes]:
    """Serialized examples; a context is put before each, as TensorFlow Serving merges it."""
    kind = source.WhichOneof("kind")
    held = getattr(source, kind) if kind else None
    if held is None or not held.examples:
        raise ServingError(f"{where}: expected a list of examples, found {kind or 'nothing'}.")
    context = held.context.SerializeToString() if kind == "example_list_with_context" else b""
    return [context + example.SerializeToString() for example in held.examples]

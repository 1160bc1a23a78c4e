"""What stands in a request log, and the warm-up file that can be made of it.

Comes in: requests with their answers, or files of a request log. Goes out: `PredictionLog` records. Called by the
request log, and by whoever reads one: retraining, drift checks, the export of a model.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.server.request_log_files import OPEN_SUFFIX, SUFFIX


@dataclass(frozen=True)
class Entry:
    """One request that was picked.

    Attributes:
        model: Name of the model.
        version: Version that answered.
        kind: `Predict`, `Classify`, `Regress` or `MultiInference`.
        signature: Name of the signature.
        inputs: Arrays by name; serialized tf.Examples under `inputs` for all but Predict.
        outputs: Arrays by name.
        seconds: When it was answered, Unix time.
        size: Bytes that it holds, about.
    """

    model: str
    version: int
    kind: str
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    seconds: int
    size: int


def to_record(entry: Entry, sampling_rate: float) -> bytes:
    """Serialize a `PredictionLog` with request and response."""
    from serving.wire.messages import PredictionLog
    from serving.wire.tensors import write_tensor

    log = PredictionLog()
    log.log_metadata.timestamp_secs = entry.seconds
    log.log_metadata.sampling_config.sampling_rate = sampling_rate
    field = {"Classify": log.classify_log, "Regress": log.regress_log, "MultiInference": log.multi_inference_log}
    body = field.get(entry.kind, log.predict_log)
    request, response = body.request, body.response
    specs = [log.log_metadata.model_spec]
    specs.append(request.tasks.add().model_spec if entry.kind == "MultiInference" else request.model_spec)
    for spec in specs:
        spec.name, spec.signature_name = entry.model, entry.signature
        spec.version.value = entry.version
    if entry.kind not in field:
        for name, array in entry.inputs.items():
            write_tensor(array, request.inputs[name], content=True)
        for name, array in entry.outputs.items():
            write_tensor(array, response.outputs[name], content=True)
        return bytes(log.SerializeToString())
    request.input.example_list.examples.extend(entry.inputs["inputs"].ravel().tolist())
    if entry.kind == "MultiInference":
        is_classification = "outputs" not in entry.outputs
        request.tasks[0].method_name = f"tensorflow/serving/{'classify' if is_classification else 'regress'}"
        response = response.results.add()
        result = response.classification_result if is_classification else response.regression_result
    else:
        result = response.result
    _fill_result(result, entry.outputs)
    return bytes(log.SerializeToString())


def _fill_result(result: Any, outputs: Mapping[str, np.ndarray]) -> None:
    if "outputs" in outputs:
        for value in outputs["outputs"].ravel().tolist():
            result.regressions.add().value = value
        return
    classes, scores = outputs.get("classes"), outputs.get("scores")
    rows, columns = (classes if classes is not None else outputs["scores"]).shape
    for row in range(rows):
        one = result.classifications.add()
        for column in range(columns):
            entry = one.classes.add()
            if classes is not None:
                entry.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                entry.score = scores[row, column]


def read_log(directory: str | os.PathLike[str], model: str | None = None) -> Iterator[Any]:
    """Yield the logged requests of a directory, oldest file first, those of files in work too.

    Args:
        directory: Directory of a `RequestLog`, or one of its files.
        model: Name of a model to keep to.

    Returns:
        `PredictionLog` messages of `serving.wire.messages`; a torn or damaged end of a file is passed over.
    """
    from google.protobuf.message import DecodeError

    from serving.wire.messages import PredictionLog
    from serving.wire.tfrecord import read_whole_records

    place = Path(directory)
    paths = [place] if place.is_file() else sorted([*place.glob(f"*{SUFFIX}"), *place.glob(f"*{OPEN_SUFFIX}")])
    for path in paths:
        try:
            for record in read_whole_records(path):
                with contextlib.suppress(DecodeError):
                    log = PredictionLog.FromString(record)
                    if model is None or log.log_metadata.model_spec.name == model:
                        yield log
        except FileNotFoundError:
            # It got its final name meanwhile; a reader that needs every record reads finished files.
            continue


def write_warmup(logs: str | os.PathLike[str], model: str, output: str | os.PathLike[str], count: int = 100) -> int:
    """Make a warm-up file of logged requests.

    Takes one request of each signature and input shape first, then further ones, so that the few cover what clients do.

    Args:
        logs: Directory of a `RequestLog`, or one of its files.
        model: Name of the model.
        output: File to write, such as `assets.extra/tf_serving_warmup_requests` of a version that is not published yet.
        count: Most requests; TensorFlow Serving takes up to 1000.

    Returns:
        How many requests were written.

    Raises:
        ServingError: The log holds no request of the model, or `count` is out of range.
    """
    from serving.warmup import MAX_RECORDS
    from serving.wire.tfrecord import frame

    if not 1 <= count <= MAX_RECORDS:
        raise ServingError(f"received count={count}; expected 1 to {MAX_RECORDS}.")
    groups: dict[Any, dict[bytes, None]] = {}
    for log in read_log(logs, model):
        key = _form(log)
        kept = groups.setdefault(key, {})
        if len(kept) < count:
            kept[_request_alone(log)] = None
    rounds = (list(group) for group in groups.values())
    picked = _round_robin(list(rounds), count)
    if not picked:
        raise ServingError(f"{logs} holds no request of model {model!r}; let the server log some requests of it.")
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.new")
    with temporary.open("wb") as stream:
        stream.writelines(frame(record) for record in picked)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, target)
    return len(picked)


def _form(log: Any) -> Any:
    """What a model prepares anew for: kind of call, signature, and type and shape of each input."""
    kind = log.WhichOneof("log_type")
    request = getattr(log, kind).request
    signature = log.log_metadata.model_spec.signature_name
    if kind != "predict_log":
        held = request.input.example_list.examples
        return kind, signature, len(held)
    shapes = (
        (name, proto.dtype, tuple(dim.size for dim in proto.tensor_shape.dim)) for name, proto in request.inputs.items()
    )
    return kind, signature, tuple(sorted(shapes))


def _request_alone(log: Any) -> bytes:
    """The record without its response, and without the version, which will be another one."""
    kind = log.WhichOneof("log_type")
    bare = type(log)()
    body = getattr(bare, kind)
    body.request.CopyFrom(getattr(log, kind).request)
    specs = (
        [task.model_spec for task in body.request.tasks] if kind == "multi_inference_log" else [body.request.model_spec]
    )
    for spec in specs:
        spec.ClearField("version")
    return bytes(bare.SerializeToString(deterministic=True))


def _round_robin(groups: list[list[bytes]], count: int) -> list[bytes]:
    picked: list[bytes] = []
    while groups and len(picked) < count:
        groups = [group for group in groups if group]
        for group in groups[: count - len(picked)]:
            picked.append(group.pop(0))
    return picked

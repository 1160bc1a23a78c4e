"""The warm-up file of a SavedModel: one recorded request per signature, made from real examples.

TensorFlow Serving replays them before it calls a version available, so that a broken model fails at load and
the first client does not wait for kernels to be prepared. Called by the export.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import explain
from transform import features
from transform.images import decode_and_resize_batch
from transform.settings import ImageSettings

FILE = "tf_serving_warmup_requests"


def write(folder: Path, raw_examples: Sequence[bytes], settings: ImageSettings, *, explains: bool) -> Path:
    """Write the PredictionLogs.

    Args:
        folder: `assets.extra` of the SavedModel.
        raw_examples: serialized examples.
        settings: size and channels of the tensors in the requests.
        explains: whether the model has the signature `explain`.

    Returns:
        The TFRecord file.
    """
    path = folder / FILE
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in _logs(raw_examples, settings, explains):
            writer.write(log.SerializeToString())
    return path


def _logs(raw_examples: Sequence[bytes], settings: ImageSettings, explains: bool) -> list[Any]:
    from tensorflow_serving.apis import prediction_log_pb2

    examples = [tf.train.Example.FromString(raw) for raw in raw_examples]
    encoded = [example.features.feature[features.IMAGE].bytes_list.value[0] for example in examples]
    pixels = decode_and_resize_batch(tf.constant(encoded), *settings.size, settings.channels).numpy()
    predictions = {
        "serving_default": {"image_bytes": np.array(encoded, object)},
        "predict_uint8": {"image": pixels},
        "predict_float": {"image": pixels.astype(np.float32) / np.float32(255)},
        "predict_examples": {"examples": np.array(list(raw_examples), object)},
    }
    if explains:
        predictions[explain.SIGNATURE] = {"image_bytes": np.array(encoded, object)}
    logs = []
    for signature, tensors in predictions.items():
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = signature
        for name, value in tensors.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        logs.append(log)
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    log.classify_log.request.input.example_list.examples.extend(examples)
    return [*logs, log]

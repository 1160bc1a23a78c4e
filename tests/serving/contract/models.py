"""SavedModels that add a number, and ways to put them in place."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np


def build_adder(directory: Path, number: float, *, warmup: bool = True) -> None:
    """Export a model with the signatures `serving_default` (x [?, 2] float -> y, x + number) and `text`.

    Args:
        directory: Where it goes.
        number: What it adds.
        warmup: Whether it carries a warm-up request.
    """
    import tensorflow as tf

    function = functools.partial(tf.function, autograph=False)

    class Adder(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.number = tf.Variable(float(number))

        @function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def add(self, x: Any) -> dict[str, Any]:
            return {"y": x + self.number}

        @function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: Any) -> dict[str, Any]:
            parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([2], tf.float32)})
            scores = parsed["x"] + self.number
            return {"scores": scores, "classes": tf.tile(tf.constant([["a", "b"]]), [tf.shape(scores)[0], 1])}

    module = Adder()
    signatures = {"serving_default": module.add, "classify": module.classify}
    tf.saved_model.save(module, str(directory), signatures=signatures)
    if warmup:
        add_warmup(directory, np.zeros([1, 2], np.float32))


def add_warmup(directory: Path, x: np.ndarray) -> None:
    """Put a warm-up request beside a model."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    (directory / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def publish_copy(source: Path, target: Path) -> Path:
    """Copy a model beside its place and rename it there."""
    incoming = target.with_name(f"incoming-{target.name}")
    shutil.copytree(source, incoming)
    # As old as a finished model: nobody has to wait for it to settle.
    os.utime(incoming, (1, 1))
    incoming.rename(target)
    return target

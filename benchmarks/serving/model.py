"""The model of the serving benchmark: a small CNN with a signature for encoded images and one for floats.

95,000 parameters, 32x32x3 pixels to 10 probabilities; three convolutions with batch normalization. Random weights:
the benchmark asks what a call costs, not what it answers.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

from serving.warmup import WARMUP_FILE

SIZE = (32, 32, 3)
CLASSES = 10
FLOATS = "predict_floats"


def build(keras: Any) -> Any:
    """The model that gives logits, made by Keras 2 (`tf_keras`) or Keras 3 (`keras`)."""
    layers = keras.layers
    keras.utils.set_random_seed(7)
    image = keras.Input(SIZE, name="image")
    hidden = image
    for filters in (32, 64, 128):
        hidden = layers.Conv2D(filters, 3, padding="same", use_bias=False)(hidden)
        hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
        hidden = layers.MaxPooling2D()(hidden)
    logits = layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(hidden))
    return keras.Model(image, logits)


def export(directory: Path) -> None:
    """Write the SavedModel; its `serving_default` takes encoded images, its `predict_floats` pixels in [0, 1].

    With a warm-up request for each, as a pipeline's export has it. The models of both Keras versions lie in
    `assets.extra`, as `tf_keras.keras` and `keras.keras`.
    """
    import keras
    import tensorflow as tf
    import tf_keras

    # Without autograph: it would convert the sources of tf_keras for nothing.
    function = functools.partial(tf.function, autograph=False)
    model = build(tf_keras)

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def decode(self, encoded: Any) -> Any:
            decoded = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return tf.ensure_shape(tf.image.resize(decoded, SIZE[:2]), SIZE) / 255.0

        @function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def from_bytes(self, image_bytes: Any) -> dict[str, Any]:
            pixels = tf.map_fn(self.decode, image_bytes, fn_output_signature=tf.TensorSpec(SIZE, tf.float32))
            return {"probabilities": tf.nn.softmax(self.model(pixels, training=False))}

        @function(input_signature=[tf.TensorSpec([None, *SIZE], tf.float32, name="image")])
        def from_floats(self, image: Any) -> dict[str, Any]:
            return {"probabilities": tf.nn.softmax(self.model(image, training=False))}

    module = Module()
    signatures = {"serving_default": module.from_bytes, FLOATS: module.from_floats}
    tf.saved_model.save(module, str(directory), signatures=signatures)
    (directory / "assets.extra").mkdir()
    write_warmup(directory)
    model.save(directory / "assets.extra" / "tf_keras.keras")
    build(keras).save(directory / "assets.extra" / "keras.keras")


def write_warmup(directory: Path) -> None:
    """Write a warm-up request for each signature."""
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    inputs = {
        "serving_default": {"image_bytes": np.array(pictures(1), object)},
        FLOATS: {"image": np.zeros((1, *SIZE), np.float32)},
    }
    with tf.io.TFRecordWriter(str(directory / WARMUP_FILE)) as writer:
        for signature, arrays in inputs.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, array in arrays.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            writer.write(log.SerializeToString())


def pictures(count: int) -> list[bytes]:
    """Encoded PNG pictures of the size that the model takes, each different."""
    import numpy as np
    import tensorflow as tf

    generator = np.random.default_rng(7)
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    # Blocks with a little noise: a file of about 1.5 kB, as photos of this size have.
    noisy = np.kron(coarse, np.ones((1, 4, 4, 1), np.uint8)) ^ generator.integers(0, 2, (count, *SIZE), dtype=np.uint8)
    return [bytes(tf.io.encode_png(pixels).numpy()) for pixels in noisy]


if __name__ == "__main__":
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    export(Path(sys.argv[1]))
    (Path(sys.argv[1]) / "assets.extra" / "pictures").mkdir(exist_ok=True)
    for number, picture in enumerate(pictures(64)):
        (Path(sys.argv[1]) / "assets.extra" / "pictures" / f"{number:02}.png").write_bytes(picture)

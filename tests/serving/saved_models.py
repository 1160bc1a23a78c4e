"""Builders of small real SavedModels, pictures and tf.Examples for the tests of the serving room."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("cat", "dog", "owl")
SIZE = (8, 8, 3)


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG file of uint8 [H, W, C] pixels."""
    import tensorflow as tf

    return bytes(tf.io.encode_png(pixels).numpy())


def picture(seed: int, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    """Random uint8 [H, W, C] pixels."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def to_example(png: bytes, label: int = 0) -> bytes:
    """Serialized tf.Example with the features that matter to serving."""
    import tensorflow as tf

    def of_bytes(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "image/encoded": of_bytes(png),
        "image/format": of_bytes(b"png"),
        "label_name": of_bytes(LABELS[label].encode()),
        "digest": of_bytes(hashlib.blake2b(png, digest_size=16).hexdigest().encode()),
        "origin": of_bytes(b"folder/picture.png"),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def build_classifier(directory: Path, *, scale: float = 1.0) -> None:
    """Export a tf_keras classifier with the signatures of the house and one asset file.

    Args:
        directory: Where the SavedModel goes.
        scale: Factor of the probabilities, to build a model whose probabilities do not sum to 1.
    """
    import tensorflow as tf
    import tf_keras

    # Autograph would convert the whole of tf_keras from source: 18 seconds for nothing.
    function = functools.partial(tf.function, autograph=False)
    tf_keras.utils.set_random_seed(7)
    image = tf_keras.Input(SIZE, name="image")
    hidden = tf_keras.layers.BatchNormalization()(tf_keras.layers.Conv2D(4, 3, activation="relu")(image))
    logits = tf_keras.layers.Dense(len(LABELS), name="logits")(tf_keras.layers.Flatten()(hidden))
    model = tf_keras.Model(image, logits)
    vocabulary = directory.parent / f"{directory.name}-vocabulary.txt"
    vocabulary.write_text("\n".join(LABELS) + "\n")

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            # A table read from an asset file: only the init op fills it.
            self.labels = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(
                    str(vocabulary),
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                ),
                default_value="?",
            )

        def answer(self, pixels: Any) -> dict[str, Any]:
            probabilities = tf.nn.softmax(self.model(pixels, training=False)) * scale
            class_id = tf.argmax(probabilities, axis=1)
            return {
                "probabilities": probabilities,
                "class_id": class_id,
                "label": self.labels.lookup(class_id),
            }

        def decode(self, encoded: Any) -> Any:
            def one(item: Any) -> Any:
                decoded = tf.io.decode_image(item, channels=3, expand_animations=False)
                return tf.ensure_shape(tf.image.resize(decoded, SIZE[:2]), SIZE) / 255.0

            return tf.map_fn(one, encoded, fn_output_signature=tf.TensorSpec(SIZE, tf.float32))

        def parse(self, examples: Any) -> Any:
            features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
            return self.decode(tf.io.parse_example(examples, features)["image/encoded"])

        @function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def from_bytes(self, image_bytes: Any) -> dict[str, Any]:
            return self.answer(self.decode(image_bytes))

        @function(input_signature=[tf.TensorSpec([None, *SIZE], tf.uint8, name="image")])
        def from_uint8(self, image: Any) -> dict[str, Any]:
            return self.answer(tf.cast(image, tf.float32) / 255.0)

        @function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def from_examples(self, examples: Any) -> dict[str, Any]:
            return self.answer(self.parse(examples))

        @function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: Any) -> dict[str, Any]:
            scores = self.answer(self.parse(inputs))["probabilities"]
            return {"scores": scores, "classes": tf.tile(tf.constant([LABELS]), [tf.shape(scores)[0], 1])}

    module = Module()
    signatures = {
        "serving_default": module.from_bytes,
        "predict_uint8": module.from_uint8,
        "predict_examples": module.from_examples,
        "classify": module.classify,
    }
    tf.saved_model.save(module, str(directory), signatures=signatures)
    vocabulary.unlink()
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "labels.txt").write_text("\n".join(LABELS) + "\n")


def add_warmup(directory: Path) -> None:
    """Put one Predict and one Classify request beside a classifier."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    example = to_example(encode_png(picture(0)))
    predict = prediction_log_pb2.PredictionLog()
    predict.predict_log.request.model_spec.name = "pets"
    predict.predict_log.request.inputs["image_bytes"].CopyFrom(
        tf.make_tensor_proto([encode_png(picture(0))], dtype=tf.string)
    )
    classify = prediction_log_pb2.PredictionLog()
    classify.classify_log.request.model_spec.signature_name = "classify"
    classify.classify_log.request.input.example_list.examples.add().ParseFromString(example)
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(predict.SerializeToString())
        writer.write(classify.SerializeToString())


def make_plain_model(directory: Path, content: bytes = b"graph") -> Path:
    """Write a directory that looks like a SavedModel from outside."""
    for name, data in (
        ("saved_model.pb", content),
        ("variables/variables.index", b"index"),
        ("variables/variables.data-00000-of-00001", content * 1000),
        ("assets.extra/labels.txt", "\n".join(LABELS).encode()),
    ):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    (directory / "assets").mkdir(exist_ok=True)
    return directory

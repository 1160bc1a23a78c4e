"""Small networks without Keras, and SavedModels of them as strangers export them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serving.measure.images import ImageBatches

SIZE = (8, 8, 3)
CLASSES = 4
FILTERS = 32


def weights(seed: int = 5) -> dict[str, np.ndarray]:
    """Kernel of a convolution and of a dense layer, fixed by a seed."""
    rng = np.random.default_rng(seed)
    return {
        "conv": rng.normal(0, 0.5, (3, 3, SIZE[2], FILTERS)).astype(np.float32),
        "dense": rng.normal(0, 0.5, (FILTERS, CLASSES)).astype(np.float32),
    }


def logits(images: Any) -> Any:
    """Float [N, 8, 8, 3] in [0, 1] to logits [N, 4]."""
    import tensorflow as tf

    values = weights()
    hidden = tf.nn.relu(tf.nn.conv2d(images, values["conv"], 2, "SAME"))
    return tf.matmul(tf.reduce_mean(hidden, [1, 2]), values["dense"], name="head")


def probabilities(images: Any) -> Any:
    """Float [N, 8, 8, 3] in [0, 1] to probabilities [N, 4]."""
    import tensorflow as tf

    return tf.nn.softmax(logits(images))


def quantization_aware(images: Any) -> Any:
    """The same with the ranges that quantization aware training leaves in a graph."""
    import tensorflow as tf

    values = weights()
    fake = tf.quantization.fake_quant_with_min_max_vars
    span = np.abs(values["conv"]).max(axis=(0, 1, 2))
    kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(values["conv"], -span, span, narrow_range=True)
    hidden = tf.nn.relu(tf.nn.conv2d(fake(images, 0.0, 1.0), kernel, 2, "SAME"))
    pooled = fake(tf.reduce_mean(fake(hidden, 0.0, 4.0), [1, 2]), 0.0, 4.0)
    largest = float(np.abs(values["dense"]).max())
    dense = fake(tf.constant(values["dense"]), -largest, largest, narrow_range=True)
    return tf.nn.softmax(fake(tf.matmul(pooled, dense), -12.0, 12.0))


def hard(images: Any) -> Any:
    """Logits by way of a layer with one output a thousand times the others, which 8 bits cannot hold together."""
    import tensorflow as tf

    wide, offset = _hard_layer()
    outlier = tf.nn.relu(tf.nn.bias_add(tf.matmul(_flat(images), wide, name="hard"), offset))
    head = np.concatenate([4 * np.eye(CLASSES), np.zeros((1, CLASSES))]).astype(np.float32)
    return tf.matmul(outlier, head, name="after")


def _flat(images: Any) -> Any:
    import tensorflow as tf

    hidden = tf.nn.relu(tf.nn.conv2d(images, weights()["conv"], 2, "SAME", name="easy"))
    return tf.reshape(hidden, [-1, 4 * 4 * FILTERS])


@functools.cache
def _hard_layer() -> tuple[np.ndarray, np.ndarray]:
    """Weights of a feature a class, all alike in mean and spread, so that every class occurs; and one of 3000."""
    import tensorflow as tf

    wide = np.random.default_rng(8).normal(0, 0.1, (4 * 4 * FILTERS, CLASSES))
    with tf.init_scope():
        features = np.asarray(_flat(unit(next(images(64, seed=3).read())[0]))) @ wide
    spread = features.std(axis=0)
    kernel = np.concatenate([wide / spread, np.zeros((len(wide), 1))], axis=1)
    offset = np.append(4 - features.mean(axis=0) / spread, 3000)
    return kernel.astype(np.float32), offset.astype(np.float32)


def save(
    directory: Path,
    function: Callable[..., Any],
    *,
    dtype: str = "float32",
    shape: tuple[int | None, ...] = (None, *SIZE),
    output: str = "scores",
    signature: str = "serving_default",
) -> Path:
    """Write a SavedModel with one signature, named as somebody else would."""
    import tensorflow as tf

    spec = tf.TensorSpec(shape, dtype, name="pixels")
    concrete = tf.function(lambda pixels: {output: function(pixels)}, autograph=False).get_concrete_function(spec)
    tf.saved_model.save(tf.Module(), str(directory), signatures={signature: concrete})
    return directory


def images(count: int = 24, shape: tuple[int, int, int] = SIZE, seed: int = 1) -> ImageBatches:
    """Seeded pictures from black to white, labeled 0, 1, 2, 3, 0, ..."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(rng.uniform(40, 215, (count, 1, 1, 1)), 60, (count, *shape)), 0, 255).astype(np.uint8)
    return ImageBatches.of_arrays(pixels, np.arange(count) % CLASSES)


def unit(pixels: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)

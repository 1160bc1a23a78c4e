"""A tiny network fitted to real digits once, and every technique applied to it at most once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import inputs, training
from trainer.compress import FinetuneSettings
from trainer.compress.compressed import Compressed
from trainer.compress.compressing import compress
from trainer.models import blocks
from trainer.settings import ModelSettings, TrainSettings

MODEL = ModelSettings(name="mlp", width=0.5, dropout=0.0)
TRAIN = TrainSettings(epochs=5, batch_size=64, learning_rate=1e-2)
FINETUNE = FinetuneSettings(epochs=3, learning_rate=0.2)

Splits = tuple[inputs.Split, inputs.Split]


def in_memory(images: np.ndarray, labels: np.ndarray) -> inputs.Split:
    def never(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raise AssertionError("decoded in spite of pixels in memory")

    return inputs.Split((), never, images.shape[1:], len(images), int(images.sum()), images, labels)


def tiny() -> tf_keras.Model:
    """A network of the usual layers: two convolutions with a residual sum between, a dense layer, the head."""
    image = blocks.image_input((8, 8, 1))
    x = shortcut = blocks.conv_bn(image, 8, strides=2)
    x = blocks.conv_bn(x, 8, relu=None)
    x = tf_keras.layers.ReLU()(tf_keras.layers.Add()([x, shortcut]))
    x = tf_keras.layers.Flatten()(x)
    x = tf_keras.layers.Dense(24, activation="relu", name="hidden")(x)
    return tf_keras.Model(image, blocks.classifier(x, 0.0, 10), name="tiny")


@pytest.fixture(scope="session")
def splits(digits: tuple[np.ndarray, np.ndarray]) -> Splits:
    images, labels = digits
    return in_memory(images[:1280], labels[:1280]), in_memory(images[1280:], labels[1280:])


@pytest.fixture(scope="session")
def fitted(splits: Splits) -> tf_keras.Model:
    """The float model; no test may change it."""
    tf_keras.utils.set_random_seed(1)
    model = training.compiled(tiny(), TRAIN, 20)
    model.fit(inputs.training(splits[0], 64, range(5), 1), epochs=5, steps_per_epoch=20, verbose=0)
    return model


@pytest.fixture(scope="session")
def compressed(fitted: tf_keras.Model, splits: Splits) -> Callable[[str], Compressed]:
    """A function that applies a technique to the float model."""

    @cache
    def apply(technique: str) -> Compressed:
        return compress(technique, fitted, *splits, FINETUNE, TRAIN, MODEL)

    return apply


def logits(model: tf_keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the logits of uint8 images."""
    return np.asarray(model(images / np.float32(255), training=False))


def randomized(model: tf_keras.Model, seed: int = 0) -> tf_keras.Model:
    """Give every weight a random value, batch norm statistics too, so that none of them can be mixed up unseen."""
    rng = np.random.default_rng(seed)

    def value(variable: Any) -> np.ndarray:
        positive = "variance" in variable.name or "gamma" in variable.name
        return rng.uniform(0.5 if positive else -0.5, 1.5 if positive else 0.5, variable.shape)

    for variable in model.variables:
        variable.assign(value(variable))
    return model

"""Grad-CAM: it points at what decides, and its graph runs where only the C++ loader is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import autograph, explain, models
from trainer.errors import TrainerError
from trainer.settings import ModelSettings
from transform.images import decode_and_resize_batch

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module", autouse=True)
def quick_tracing() -> None:
    autograph.spare_known_code()


def build(name: str, shape: tuple[int, int, int] = SHAPE, classes: int = 4) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(11)
    return models.build(ModelSettings(name=name), shape, classes)


def corner_detector() -> tf_keras.Model:
    """A model by hand: class 0 counts bright pixels, class 1 dark ones, and the convolution passes pixels through."""
    image = tf_keras.Input((16, 16, 1), name="image")
    conv = tf_keras.layers.Conv2D(2, 1, activation="relu", name="conv")
    pooled = tf_keras.layers.GlobalAveragePooling2D()(conv(image))
    logits = tf_keras.layers.Dense(2, name="logits", use_bias=False)
    model = tf_keras.Model(image, logits(pooled))
    conv.set_weights([np.array([[[[1.0, -1.0]]]], np.float32), np.array([-0.5, 0.5], np.float32)])
    logits.set_weights([np.eye(2, dtype=np.float32)])
    return model


def test_it_points_at_what_decides() -> None:
    images = np.full((2, 16, 16, 1), 0.5, np.float32)
    images[0, :4, :4] = 1.0  # a bright corner: class 0
    images[1, -4:, -4:] = 0.0  # a dark one: class 1
    heat = explain.gradcam(corner_detector(), images).numpy()
    assert heat.shape == (2, 16, 16) and heat.dtype == np.float32
    expected = np.zeros((2, 16, 16), np.float32)
    expected[0, :4, :4] = 1.0
    expected[1, -4:, -4:] = 1.0
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_an_image_with_nothing_to_see_gives_zeros_not_nan() -> None:
    heat = explain.gradcam(corner_detector(), tf.fill([1, 16, 16, 1], 0.5)).numpy()
    assert not heat.any() and np.isfinite(heat).all()


@pytest.mark.parametrize(
    ("name", "layer_side"), [("cnn_small", 7), ("cnn_deep", 7), ("resnet8", 7), ("mobilenet_small", 7)]
)
def test_every_convolutional_family_is_explained(name: str, layer_side: int) -> None:
    model = build(name)
    images = np.random.default_rng(3).uniform(size=(3, *SHAPE)).astype(np.float32)
    result = explain.Explainer(model)(tf.constant(images))
    assert result.heatmap.shape == (3, layer_side, layer_side)
    assert float(tf.reduce_min(result.heatmap)) >= 0 and float(tf.reduce_max(result.heatmap)) <= 1
    np.testing.assert_allclose(result.logits, model(images, training=False), atol=1e-5)
    np.testing.assert_array_equal(result.class_id, np.argmax(result.logits, -1))


def test_an_image_is_explained_alone_as_in_a_batch() -> None:
    model = build("cnn_small")
    images = np.random.default_rng(5).uniform(size=(4, *SHAPE)).astype(np.float32)
    together = explain.gradcam(model, images).numpy()
    alone = np.concatenate([explain.gradcam(model, images[row : row + 1]).numpy() for row in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_maps_of_tiny_images_are_the_finest_there_are() -> None:
    explainer = explain.Explainer(build("cnn_small", (8, 8, 1)))
    assert explainer(tf.zeros([1, 8, 8, 1])).heatmap.shape[1] == 4
    image = tf_keras.Input((6, 6, 1))
    coarse = tf_keras.layers.Conv2D(2, 3, strides=2, padding="same")(image)
    single = tf_keras.layers.Conv2D(2, 3)(coarse)
    model = tf_keras.Model(image, tf_keras.layers.Dense(2)(tf_keras.layers.Flatten()(single)))
    assert explain.gradcam(model, tf.zeros([1, 6, 6, 1])).shape == (1, 3, 3)


def test_a_model_without_maps_is_refused_with_a_reason() -> None:
    model = build("mlp")
    assert explain.target_layer(model) is None
    with pytest.raises(TrainerError, match="no feature maps behind a convolution"):
        explain.gradcam(model, tf.zeros([1, *SHAPE]))


def test_it_survives_the_export_and_the_loader_of_tensorflow_serving(
    tmp_path: Path, load_as_serving: Callable[[Path], Callable[..., Any]]
) -> None:
    model = build("cnn_small")
    explainer = explain.Explainer(model)
    labels = ["a", "b", "c", "d"]

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = list(model.variables)
            self.labels = tf.constant(labels)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def explain(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = decode_and_resize_batch(image_bytes, *SHAPE)
            return explain.outputs(explainer(tf.cast(pixels, tf.float32) / 255.0), self.labels)

    module = Module()
    tf.saved_model.save(module, str(tmp_path), signatures={explain.SIGNATURE: module.explain})
    pixels = np.random.default_rng(7).integers(0, 256, (2, *SHAPE), np.uint8)
    encoded = np.array([tf.io.encode_png(one).numpy() for one in pixels], object)
    answer = load_as_serving(tmp_path)(explain.SIGNATURE, image_bytes=encoded)

    expected = explainer(tf.constant(pixels / np.float32(255)))
    assert set(answer) == {"heatmap", "probabilities", "class_id", "label"}
    np.testing.assert_allclose(answer["heatmap"], expected.heatmap, atol=1e-4)
    np.testing.assert_allclose(answer["probabilities"], tf.nn.softmax(expected.logits), atol=1e-5)
    assert [name.decode() for name in answer["label"]] == [labels[index] for index in expected.class_id]

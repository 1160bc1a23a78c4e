"""Whole channels removed: they are really gone, tied ones together, and the answer is that of the masked model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tf_keras

from tests.trainer.compress.conftest import randomized, tiny
from trainer import models
from trainer.compress import channels, network
from trainer.settings import ModelSettings

keras = tf_keras.layers
SHAPE = (8, 8, 3)


def model_of(body: Callable[[Any], Any]) -> tf_keras.Model:
    image = tf_keras.Input(SHAPE, name="image")
    return randomized(tf_keras.Model(image, keras.Dense(4, name="logits")(body(image))))


def plain(x: Any) -> Any:
    x = keras.MaxPooling2D()(keras.Conv2D(8, 3, activation="relu", name="first")(x))
    x = keras.BatchNormalization()(keras.Conv2D(12, 3, use_bias=False, name="second")(x))
    return keras.Dense(10, activation="relu", name="third")(keras.Flatten()(keras.ReLU()(x)))


def residual(x: Any) -> Any:
    x = keras.Conv2D(8, 3, padding="same", name="stem")(x)
    y = keras.BatchNormalization()(keras.Conv2D(8, 3, padding="same", name="inner")(x))
    x = keras.ReLU()(keras.Add()([x, y]))
    x = keras.Add()([keras.Conv2D(8, 1, name="last")(x), x])
    return keras.GlobalAveragePooling2D()(x)


def depthwise(x: Any) -> Any:
    x = keras.Conv2D(8, 3, name="stem")(x)
    x = keras.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = keras.BatchNormalization()(x)
    x = keras.SeparableConv2D(6, 3, activation="relu", name="separable")(x)
    return keras.GlobalMaxPooling2D()(x)


def concatenated(x: Any) -> Any:
    left = keras.Conv2D(8, 3, padding="same", name="left")(x)
    right = keras.Conv2D(6, 3, padding="same", name="right")(x)
    x = keras.Concatenate()([left, right, left])
    x = keras.Conv2DTranspose(6, 2, name="up")(keras.LeakyReLU()(x))
    return keras.Flatten()(keras.AveragePooling2D()(x))


def gated(x: Any) -> Any:
    x = keras.Conv2D(8, 3, name="stem")(x)
    gate = keras.Conv2D(8, 1, activation="sigmoid", name="gate")(x)
    return keras.GlobalAveragePooling2D()(keras.Multiply()([x, gate]))


BODIES = [plain, residual, depthwise, concatenated, gated]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("importance", ["folded", "l1"])
def test_the_smaller_model_answers_as_the_masked_one(body: Callable[[Any], Any], importance: Any) -> None:
    model = model_of(body)
    gone = channels.choose(model, 0.4, importance)
    smaller, masked = channels.removed(model, gone), channels.masked(model, gone)
    images = np.random.default_rng(1).uniform(size=(5, *SHAPE)).astype(np.float32)
    expected = masked(images).numpy()
    np.testing.assert_allclose(smaller(images).numpy(), expected, atol=2e-5 * np.abs(expected).max())
    assert network.parameters(smaller) < 0.75 * network.parameters(model) == 0.75 * network.parameters(masked)
    # The mask does something, else both would only be equal to the model itself.
    assert np.abs(model(images).numpy() - expected).max() > 1e-3


def widths(model: tf_keras.Model) -> dict[str, int]:
    return {layer.name: layer.output_shape[-1] for layer in model.layers if network.kernel(layer) is not None}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (plain, {"first": 6, "second": 9, "third": 8, "logits": 4}),
        (residual, {"stem": 6, "inner": 6, "last": 6, "logits": 4}),
        (depthwise, {"stem": 6, "separable": 4, "logits": 4}),
        (concatenated, {"left": 6, "right": 4, "up": 4, "logits": 4}),
        (gated, {"stem": 6, "gate": 6, "logits": 4}),
    ],
)
def test_a_quarter_of_each_layer_is_gone_and_the_output_stays(body: Any, expected: dict[str, int]) -> None:
    model = model_of(body)
    assert widths(channels.removed(model, channels.choose(model, 0.25, "l2"))) == expected


def test_a_depthwise_layer_shrinks_with_what_it_reads() -> None:
    model = model_of(depthwise)
    smaller = channels.removed(model, channels.choose(model, 0.5, "l2"))
    assert smaller.get_layer("depthwise").output_shape[-1] == 2 * smaller.get_layer("stem").output_shape[-1] == 8


def test_the_least_important_filters_go_and_the_others_keep_their_weights() -> None:
    model = model_of(plain)
    layer = model.get_layer("first")
    kernel = layer.kernel.numpy()
    kernel[..., [1, 4, 6]] *= 0.01
    layer.kernel.assign(kernel)
    smaller = channels.removed(model, channels.choose(model, 3 / 8, "l2"))
    np.testing.assert_array_equal(smaller.get_layer("first").kernel, kernel[..., [0, 2, 3, 5, 7]])
    np.testing.assert_array_equal(smaller.get_layer("first").bias, layer.bias.numpy()[[0, 2, 3, 5, 7]])


def mixing(x: Any) -> Any:
    return keras.Flatten()(keras.LayerNormalization()(keras.Conv2D(8, 3, name="stem")(x)))


def grouped(x: Any) -> Any:
    return keras.Flatten()(keras.Conv2D(8, 3, groups=2, name="grouped")(keras.Conv2D(8, 3, name="stem")(x)))


def across(x: Any) -> Any:
    return keras.Flatten()(keras.Softmax()(keras.Conv2D(8, 3, name="stem")(x)))


def reshaped(x: Any) -> Any:
    return keras.Flatten()(keras.Reshape((36 * 4, 2))(keras.Conv2D(8, 3, name="stem")(x)))


def whitened(x: Any) -> Any:
    return keras.Flatten()(keras.Conv2D(8, 3, activation="softmax", name="stem")(x))


@pytest.mark.parametrize("body", [mixing, grouped, across, reshaped, whitened])
def test_channels_that_an_unknown_layer_touches_stay(body: Any) -> None:
    model = model_of(body)
    assert channels.removable(model) == []
    assert channels.choose(model, 0.9, "l2") == set()


def test_a_network_of_inverted_residuals_can_lose_channels() -> None:
    model = randomized(models.build(ModelSettings(name="mobilenet_small", width=0.25), (16, 16, 3), 5))
    gone = channels.choose(model, 0.4, "folded")
    smaller, masked = channels.removed(model, gone), channels.masked(model, gone)
    network.require_equal(masked, smaller, tolerance=1e-4)
    assert network.parameters(smaller) < 0.8 * network.parameters(model)
    assert smaller.output_names == ["logits"] and smaller.input_names == ["image"]


def test_two_channels_of_each_layer_stay_whatever_is_asked() -> None:
    model = tiny()
    smaller = channels.removed(model, channels.choose(model, 0.99, "l2"))
    assert set(widths(smaller).values()) == {2, 10}

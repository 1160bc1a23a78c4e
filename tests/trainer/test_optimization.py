"""Losses, learning rate schedules, optimizers and the autograph rule, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given
from hypothesis import strategies as st

from trainer import autograph, losses, optimizers, schedules
from trainer.settings import TrainSettings

LOGITS = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_cross_entropy_of_indices_and_of_probabilities() -> None:
    expected = -log_softmax(LOGITS)[[0, 1], [0, 1]]
    for targets in (np.array([0, 1]), np.array([[0.0], [1.0]], np.float32), np.eye(3, dtype=np.float32)[:2]):
        np.testing.assert_allclose(losses.cross_entropy(tf.constant(targets), LOGITS), expected, rtol=1e-6)
    halves = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5]], np.float32)
    np.testing.assert_allclose(
        losses.cross_entropy(tf.constant(halves), LOGITS), -(halves * log_softmax(LOGITS)).sum(1), rtol=1e-6
    )


def test_accuracy_counts_over_batches_and_shapes_of_targets() -> None:
    metric = losses.Accuracy()
    metric.update_state(tf.constant([0, 1]), LOGITS)
    metric.update_state(tf.constant([[0], [2]]), LOGITS)
    metric.update_state(tf.constant([[0.6, 0.4, 0.0], [0.0, 0.6, 0.4]]), LOGITS)
    assert metric.result().numpy() == pytest.approx(4 / 6)


def test_metric_and_loss_can_be_built_from_their_config() -> None:
    assert losses.Accuracy.from_config(losses.Accuracy().get_config()).name == "accuracy"
    assert isinstance(losses.CrossEntropy.from_config(losses.CrossEntropy().get_config()), losses.CrossEntropy)


def test_smoothed_targets() -> None:
    smoothed = losses.soft_targets(tf.constant([1]), 4, 0.2).numpy()
    np.testing.assert_allclose(smoothed, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)
    np.testing.assert_allclose(losses.soft_targets(tf.constant([[0.5, 0.5]]), 2, 0.2), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("schedule", "step", "rate"),
    [
        ("cosine", 0, 0.01),
        ("cosine", 9, 0.1),
        ("cosine", 10, 0.1),
        ("cosine", 55, 0.05),
        ("cosine", 100, 0.0),
        ("cosine", 200, 0.0),
        ("constant", 4, 0.05),
        ("constant", 10, 0.1),
        ("constant", 99, 0.1),
    ],
)
def test_the_learning_rate_at_a_step(schedule: str, step: int, rate: float) -> None:
    settings = TrainSettings.model_validate(
        {"epochs": 10, "learning_rate": 0.1, "warmup": 0.1, "schedule": schedule, "batch_size": 1}
    )
    built = schedules.build(settings, steps_per_epoch=10)
    assert built(step).numpy() == pytest.approx(rate, abs=1e-7)
    assert schedules.WarmUp.from_config(built.get_config())(step).numpy() == pytest.approx(rate, abs=1e-7)


@given(peak=st.floats(1e-6, 10), warmup=st.integers(0, 50), steps=st.integers(1, 100), cosine=st.booleans())
def test_the_learning_rate_is_never_negative_nor_above_its_peak(
    peak: float, warmup: int, steps: int, cosine: bool
) -> None:
    schedule = schedules.WarmUp(peak, min(warmup, steps), steps, cosine)
    rates = [float(schedule(step)) for step in (0, warmup // 2, warmup, steps // 2, steps - 1, steps, 10 * steps)]
    assert all(0 <= rate <= peak * (1 + 1e-6) and math.isfinite(rate) for rate in rates)
    assert rates[0] > 0


@pytest.mark.parametrize(("optimizer", "decays"), [("adam", False), ("adamw", True), ("sgd", True)])
def test_only_kernels_decay_and_only_where_the_optimizer_decays(optimizer: str, decays: bool) -> None:
    settings = TrainSettings.model_validate(
        {
            "optimizer": optimizer,
            "learning_rate": 1.0,
            "weight_decay": 0.5,
            "warmup": 0,
            "schedule": "constant",
        }
    )
    built = optimizers.build(settings, steps_per_epoch=10)
    kernel, gamma = tf.Variable([4.0], name="conv/kernel"), tf.Variable([4.0], name="norm/gamma")
    built.build([kernel, gamma])
    built.apply_gradients([(tf.zeros([1]), kernel), (tf.zeros([1]), gamma)])
    assert gamma.numpy() == pytest.approx(4.0)
    assert kernel.numpy() == pytest.approx(2.0 if decays else 4.0)


def test_the_autograph_rule_stands_once_and_first() -> None:
    from tensorflow.python.autograph.core import config

    autograph.spare_known_code()
    autograph.spare_known_code()
    prefixes = [getattr(rule, "_prefix", "") for rule in config.CONVERSION_RULES]
    assert prefixes.count("tf_keras") == 1
    assert prefixes[0] == "tf_keras"


def test_code_outside_of_keras_is_still_converted() -> None:
    autograph.spare_known_code()

    class Doubling(tf_keras.layers.Layer):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            if tf.reduce_sum(inputs) > 0:
                return inputs * 2
            return inputs

    double = tf.function(Doubling().call)
    assert double(tf.constant([3.0])).numpy() == [6.0]
    assert double(tf.constant([-3.0])).numpy() == [-3.0]

"""Distillation: the loss by hand, the student's size, an honest comparison."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.trainer.compress.conftest import TRAIN, Splits
from trainer import models
from trainer.compress import DistillSettings, FinetuneSettings, distillation, scoring
from trainer.compress.compressing import compress
from trainer.settings import ModelSettings

LOGITS = arrays.arrays(np.float32, (2, 3), elements=st.floats(-10, 10, width=32))


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(1, keepdims=True)


@given(LOGITS, LOGITS, st.floats(0.5, 10))
def test_the_divergence_is_that_of_softened_probabilities(
    teacher: np.ndarray, student: np.ndarray, temperature: float
) -> None:
    wanted, given_ = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * (wanted * np.log(wanted / given_)).sum(1)
    found = distillation.divergence(tf.constant(teacher), tf.constant(student), temperature)
    np.testing.assert_allclose(found, expected, atol=1e-3 * temperature**2, rtol=1e-3)
    same = distillation.divergence(tf.constant(teacher), tf.constant(teacher), temperature)
    np.testing.assert_allclose(same, 0, atol=1e-5 * temperature**2)


def test_gradients_stay_as_large_whatever_the_temperature() -> None:
    teacher = tf.constant([[0.1, -0.1, 0.0]])
    sizes = []
    for temperature in (4.0, 40.0):
        student = tf.Variable([[0.0, 0.1, -0.1]])
        with tf.GradientTape() as tape:
            loss = distillation.divergence(teacher, student, temperature)
        sizes.append(float(tf.norm(tape.gradient(loss, student))))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_a_smaller_student_of_the_family_is_trained_beside_a_plain_one(splits: Splits) -> None:
    model_settings = ModelSettings(name="mlp", width=0.5, dropout=0.0)
    tf_keras.utils.set_random_seed(1)
    teacher = models.build(model_settings, (8, 8, 1), 10)
    before = [weights.copy() for weights in teacher.get_weights()]
    settings = FinetuneSettings(distill=DistillSettings(width=0.5, epochs=2))
    found = compress("distill", teacher, *splits, settings, TRAIN, model_settings)
    stage = found.details["stages"][0]
    assert found.details["parameters"] == found.model.count_params() < 0.6 * teacher.count_params()
    assert [layer.units for layer in found.model.layers if hasattr(layer, "units")] == [32, 16, 10]
    assert stage["helped"] is (stage["eval"]["accuracy"] > stage["plain_student"]["eval"]["accuracy"])
    assert len(stage["history"]) == len(stage["plain_student"]["history"]) == stage["epochs"] == 2
    assert scoring.score(found.model, splits[1]).rounded() == stage["eval"]
    assert all(np.array_equal(old, new) for old, new in zip(before, teacher.get_weights(), strict=True))
    assert all(layer.trainable for layer in teacher.layers)

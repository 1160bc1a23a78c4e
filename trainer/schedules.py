"""Learning rate schedules: a linear warm-up followed by a constant or a cosine."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras

from trainer.settings import TrainSettings


class WarmUp(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak, then stays there or falls along half a cosine to zero.

    The cosine is that of SGDR without restarts (Loshchilov and Hutter, 2017, arXiv:1608.03983).
    """

    def __init__(self, peak: float, warmup_steps: int, steps: int, cosine: bool) -> None:
        """Keep the course.

        Args:
            peak: the highest learning rate.
            warmup_steps: steps until it is reached; 0 starts with it.
            steps: all steps of the training, warm-up included.
            cosine: whether it falls after the warm-up.
        """
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.steps = steps
        self.cosine = cosine

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate (float32 scalar) of a step, counted from 0."""
        now = tf.cast(step, tf.float32)
        rate = tf.constant(self.peak, tf.float32)
        if self.cosine:
            fallen = (now - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            rate = self.peak * 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(fallen, 0.0, 1.0)))
        if self.warmup_steps:
            # Counted from one, so that the first step is not lost to a learning rate of zero.
            rate = tf.where(now < self.warmup_steps, self.peak * (now + 1.0) / self.warmup_steps, rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "steps": self.steps,
            "cosine": self.cosine,
        }


def build(settings: TrainSettings, steps_per_epoch: int) -> WarmUp:
    """Return the schedule of a training of `settings.epochs` epochs."""
    steps = settings.epochs * steps_per_epoch
    return WarmUp(
        peak=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        steps=steps,
        cosine=settings.schedule == "cosine",
    )

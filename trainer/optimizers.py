"""Optimizers by the names of the config."""

from __future__ import annotations

import tf_keras

from trainer import schedules
from trainer.settings import TrainSettings

# Decay on scales and offsets shrinks batch norm without regularizing anything.
WITHOUT_DECAY = ["bias", "gamma", "beta"]


def build(settings: TrainSettings, steps_per_epoch: int) -> tf_keras.optimizers.Optimizer:
    """Return the optimizer with its learning rate schedule.

    Args:
        settings: the section `train`.
        steps_per_epoch: optimizer steps in one epoch; with the epochs it sets the length of the schedule.

    Returns:
        Adam, AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) or SGD with Nesterov momentum 0.9. It
        keeps a moving average of the weights if `settings.ema` is set.
    """
    rate = schedules.build(settings, steps_per_epoch)
    average = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema is not None else {}
    if settings.optimizer == "adam":
        return tf_keras.optimizers.Adam(rate, **average)
    if settings.optimizer == "adamw":
        optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **average)
    else:
        optimizer = tf_keras.optimizers.SGD(
            rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay or None, **average
        )
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=WITHOUT_DECAY)
    return optimizer

"""New statistics for batch norm: a model whose weights have changed in, the same with matching averages out.

Pruning changes the statistics faster than their moving averages follow; a few forward passes make up for it.
Called after pruning and after the removal of channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer import inputs
from trainer.compress.scoring import Scorer

EXAMPLES = 6_000
BATCH = 256


def reestimate(model: tf_keras.Model, train: inputs.Split, evaluation: inputs.Split, seed: int) -> dict[str, Any]:
    """Estimate the means and variances of all batch norms anew, in place, and keep them if that helps.

    Args:
        model: the model; no weight but the moving statistics changes.
        train: examples to take the statistics from, without augmentation.
        evaluation: the split whose loss decides between the old statistics and the new.
        seed: decides the order of examples.

    Returns:
        The scores before and after, and whether the new statistics were kept; empty without batch norm.
    """
    layers = [layer for layer in model.layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    if not layers:
        return {}
    scorer = Scorer(model, evaluation)
    before = scorer()
    old = [layer.get_weights() for layer in layers]
    _assign(layers, *_statistics(model, layers, train, seed))
    after = scorer()
    kept = after.loss < before.loss
    if not kept:
        for layer, weights in zip(layers, old, strict=True):
            layer.set_weights(weights)
    return {"before": before.rounded(), "after": after.rounded(), "kept": kept}


def _statistics(
    model: tf_keras.Model, layers: list[Any], train: inputs.Split, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return mean and variance of each layer over all batches taken together."""
    forward = tf.function(lambda images: model(images, training=True))
    momenta = [layer.momentum for layer in layers]
    steps = min(inputs.steps_per_epoch(train, BATCH), max(1, EXAMPLES // BATCH))
    means: list[list[np.ndarray]] = [[] for _ in layers]
    variances: list[list[np.ndarray]] = [[] for _ in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0  # each pass then leaves the statistics of its batch alone
        for images, _ in inputs.training(train, BATCH, range(1), seed).take(steps):
            forward(images)
            for index, layer in enumerate(layers):
                means[index].append(layer.moving_mean.numpy())
                variances[index].append(layer.moving_variance.numpy())
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    mean = [np.mean(one, axis=0) for one in means]
    variance = [np.mean(one, axis=0) + np.var(other, axis=0) for one, other in zip(variances, means, strict=True)]
    return mean, variance


def _assign(layers: list[Any], means: list[np.ndarray], variances: list[np.ndarray]) -> None:
    for layer, mean, variance in zip(layers, means, variances, strict=True):
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)

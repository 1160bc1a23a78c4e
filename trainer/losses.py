"""Targets, loss and accuracy for classes that are given as indices or as probabilities.

Evaluation compares with indices; label smoothing and mixup turn those of a training batch into probabilities.
Smoothing happens on the targets and not in the loss, so that the loss on the eval split stays the log loss.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras


def soft_targets(labels: tf.Tensor, classes: int, smoothing: float = 0.0) -> tf.Tensor:
    """Return the target probabilities of class indices.

    Args:
        labels: integer [N], or probabilities float32 [N, K].
        classes: K.
        smoothing: mass that is spread evenly over all classes (Szegedy et al., 2016, arXiv:1512.00567).

    Returns:
        float32 [N, K], rows sum to 1.
    """
    targets = labels if labels.shape.rank == 2 else tf.one_hot(labels, classes)
    return targets * (1.0 - smoothing) + smoothing / classes


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the cross entropy of each example in nats.

    Args:
        targets: class indices [N] or [N, 1], or probabilities float32 [N, K].
        logits: float32 [N, K].

    Returns:
        float32 [N].
    """
    if _is_soft(targets, logits):
        return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    indices = tf.cast(tf.reshape(targets, [-1]), tf.int64)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=indices, logits=logits)


def hits(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return 1.0 where the highest logit is at the (likeliest) target class, else 0.0; see `cross_entropy`."""
    soft = _is_soft(targets, logits)
    wanted = tf.argmax(targets, axis=-1) if soft else tf.cast(tf.reshape(targets, [-1]), tf.int64)
    return tf.cast(tf.equal(wanted, tf.argmax(logits, axis=-1)), tf.float32)


class CrossEntropy(tf_keras.losses.Loss):
    """The mean of `cross_entropy` over a batch."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each example, float32 [N]."""
        return cross_entropy(y_true, y_pred)


class Accuracy(tf_keras.metrics.MeanMetricWrapper):
    """The share of `hits`; an object, since Keras may take the string "accuracy" for another metric."""

    def __init__(self, name: str = "accuracy") -> None:
        """Start with no examples counted."""
        super().__init__(hits, name=name)

    def get_config(self) -> dict[str, str]:
        """Return the constructor's arguments."""
        return {"name": self.name}


def _is_soft(targets: tf.Tensor, logits: tf.Tensor) -> bool:
    return targets.dtype.is_floating and targets.shape.rank == 2 and targets.shape[-1] == logits.shape[-1]

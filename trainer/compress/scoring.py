"""The one evaluator of this package: a model and a split in, log loss and argmax accuracy out.

Called after each stage and, many times with changed weights, by the sensitivity scan. It reads logits itself,
since what Keras's string "accuracy" means depends on how a model was compiled and saved.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from trainer import inputs, losses


class Score(NamedTuple):
    """Figures of a model on a split.

    Attributes:
        loss: mean cross entropy in nats.
        accuracy: share of examples whose highest logit is at the label.
    """

    loss: float
    accuracy: float

    def rounded(self) -> dict[str, float]:
        """Return both for a report."""
        return {"loss": round(self.loss, 4), "accuracy": round(self.accuracy, 4)}


class Scorer:
    """Scores one model again and again on the same examples."""

    def __init__(self, model: tf_keras.Model, split: inputs.Split, limit: int | None = None) -> None:
        """Take all examples of a split, or whole batches from its start until there are at least `limit`."""
        self._batches = inputs.evaluation(split)
        if limit is not None:
            self._batches = self._batches.take(math.ceil(limit / inputs.EVAL_BATCH)).cache()
        # The weights are read at each call, so one trace serves whatever they become.
        function = tf.function(lambda images, labels: _sums(labels, model(images, training=False)))
        self._sums = function.get_concrete_function(
            tf.TensorSpec([None, *model.input_shape[1:]], tf.float32), tf.TensorSpec([None], tf.int64)
        )

    def __call__(self) -> Score:
        """Return the figures of the model as it is now."""
        loss, hits, size = 0.0, 0.0, 0
        for images, labels in self._batches:
            batch_loss, batch_hits = self._sums(images, labels)
            loss += float(batch_loss)
            hits += float(batch_hits)
            size += len(labels)
        return Score(loss / size, hits / size)


def score(model: tf_keras.Model, split: inputs.Split) -> Score:
    """Return the figures of a model on all examples of a split."""
    return Scorer(model, split)()


def _sums(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    loss = tf.reduce_sum(losses.cross_entropy(labels, logits))
    return loss, tf.reduce_sum(losses.hits(labels, logits))

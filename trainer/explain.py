"""Grad-CAM as part of a graph: which regions of an image speak for the class that the model chose.

A Keras model of the house and images come in, a coarse heatmap for each image goes out. Everything is TensorFlow
operations, gradients included, so that the export can offer it as a signature and a model server needs no Python.
Called by the export; tests and notebooks call `gradcam`.

References:
    Selvaraju et al., 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    arXiv:1610.02391.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from trainer.errors import TrainerError

if TYPE_CHECKING:
    import tf_keras

SIGNATURE = "explain"
"""Name under which an export offers `outputs`; clients look for it in the model's metadata."""

_SMALLEST_SIDE = 4
"""Cells; a coarser map than that says little about where. Deeper layers are passed over if others are finer."""


class Explanation(NamedTuple):
    """What the model says and where it looked.

    Attributes:
        heatmap: float32 [N, h, w] in [0, 1], of the feature maps' size; 1 is the strongest cell of the image. All
            zero where no region speaks for the class.
        logits: float32 [N, K].
        class_id: int64 [N], the class that is explained: the one with the largest logit.
    """

    heatmap: tf.Tensor
    logits: tf.Tensor
    class_id: tf.Tensor


def target_layer(model: tf_keras.Model) -> str | None:
    """Return the layer whose feature maps are weighed, or None if the model has none.

    It is the deepest layer behind a convolution with maps of at least 4 x 4 cells; if all are smaller, the deepest
    with the finest maps. A map of a single cell cannot say where.

    Args:
        model: flat functional model, image [N, H, W, C] to logits [N, K].
    """
    candidates: list[tuple[str, int]] = []
    convolved = False
    for layer in model.layers:
        convolved = convolved or "Conv" in type(layer).__name__
        shape = getattr(layer, "output_shape", None)
        if convolved and isinstance(shape, tuple) and len(shape) == 4 and min(shape[1:3]) > 1:
            candidates.append((layer.name, min(shape[1:3])))
    if not candidates:
        return None
    wanted = min(_SMALLEST_SIDE, max(side for _, side in candidates))
    return [name for name, side in candidates if side >= wanted][-1]


class Explainer:
    """Grad-CAM of one model, ready to be called with many images or traced into a graph.

    Args:
        model: flat functional model, image float32 [N, H, W, C] in [0, 1] to logits float32 [N, K].

    Raises:
        TrainerError: the model has no feature maps; `target_layer` tells beforehand.
    """

    def __init__(self, model: tf_keras.Model) -> None:
        """Cut the model open at its target layer; weights are shared, not copied."""
        import tf_keras

        self.layer = target_layer(model)
        if self.layer is None:
            raise TrainerError(
                f"the model {model.name!r} has no feature maps behind a convolution, so Grad-CAM has nothing to weigh; "
                "expected a convolutional network, such as cnn_small"
            )
        self._opened = tf_keras.Model(model.inputs, [model.get_layer(self.layer).output, model.output])

    def __call__(self, images: tf.Tensor) -> Explanation:
        """Explain float32 [N, H, W, C] in [0, 1]."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            maps, logits = self._opened(images, training=False)
            class_id = tf.argmax(logits, axis=-1)
            chosen = tf.gather(logits, class_id, axis=-1, batch_dims=1)
        # Each image's logit depends on its own maps only, so one backward pass serves the whole batch.
        gradients = tape.gradient(chosen, maps)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        raw = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))
        strongest = tf.reduce_max(raw, axis=(1, 2), keepdims=True)
        return Explanation(tf.math.divide_no_nan(raw, strongest), logits, class_id)


def gradcam(model: tf_keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Return where each image speaks for the class that the model chose.

    Args:
        model: flat functional model, image float32 [N, H, W, C] in [0, 1] to logits float32 [N, K].
        images: float32 [N, H, W, C] in [0, 1].

    Returns:
        float32 [N, h, w] in [0, 1], of the size of the deepest usable feature maps.

    Raises:
        TrainerError: the model has no feature maps.

    Example:
        >>> gradcam(model, tf.zeros([2, 28, 28, 1])).shape  # doctest: +SKIP
        TensorShape([2, 7, 7])
    """
    return Explainer(model)(tf.convert_to_tensor(images, tf.float32)).heatmap


def outputs(explanation: Explanation, labels: tf.Tensor) -> dict[str, Any]:
    """Return the outputs of the signature `explain`.

    Args:
        explanation: of N images.
        labels: string [K], the class names in the order of the class indices.

    Returns:
        `heatmap` float32 [N, h, w], `probabilities` float32 [N, K], `class_id` int64 [N] and `label` string [N].
    """
    return {
        "heatmap": explanation.heatmap,
        "probabilities": tf.nn.softmax(explanation.logits),
        "class_id": explanation.class_id,
        "label": tf.gather(labels, explanation.class_id),
    }

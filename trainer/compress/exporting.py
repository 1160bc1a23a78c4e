"""The export of a compressed model: a result of `compressing.compress` in, a SavedModel for converters out.

The SavedModel holds plain functions and variables, so TF-MOT is not needed to load it. It is a step on the
way to a converted file and no model to serve: simulated int8 is slower than float.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import autograph
from trainer.compress.compressed import Compressed
from trainer.errors import TrainerError


class Predictor(tf.Module):
    """The model as functions from images to `probabilities`, float32 [N, K]."""

    def __init__(self, model: tf_keras.Model) -> None:
        """Track the weights; the Keras model itself stays out of the SavedModel."""
        super().__init__(name="predictor")
        self._weights = list(model.variables)
        self._shape = model.input_shape[1:]
        self._logits = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec([None, *self._shape], tf.float32)],
        )

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        functions = {"predict_float": (self.predict_float, tf.float32), "predict_uint8": (self.predict_uint8, tf.uint8)}
        return {
            name: tf.function(function).get_concrete_function(image=tf.TensorSpec([None, *self._shape], dtype))
            for name, (function, dtype) in functions.items()
        }

    def predict_float(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from float32 [N, H, W, C] in [0, 1]."""
        return {"probabilities": tf.nn.softmax(self._logits(image))}

    def predict_uint8(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from uint8 [N, H, W, C]."""
        return self.predict_float(tf.cast(image, tf.float32) / 255.0)


def export(compressed: Compressed, out_dir: Path) -> Path:
    """Write a SavedModel with the signatures `predict_float` and `predict_uint8`.

    Args:
        compressed: the result of a technique.
        out_dir: folder to write; must not hold a SavedModel yet.

    Returns:
        The folder.

    Raises:
        TrainerError: if the folder is taken, a wrapper of pruning or clustering was left on, or a
            quantization-aware model was never trained, since its ranges would be made up.
    """
    out_dir = Path(out_dir)
    if (out_dir / "saved_model.pb").exists():
        raise TrainerError(f"{out_dir} already holds a SavedModel; expected a new folder")
    wrappers = [layer.name for layer in compressed.model.layers if _thins(layer)]
    if wrappers:
        raise TrainerError(
            f"layers {wrappers} still have their wrappers; strip pruning and clustering before exporting"
        )
    if compressed.quantization_aware and not any(
        stage.get("stage") == "quantization-aware training" and stage.get("history")
        for stage in compressed.details.get("stages", ())
    ):
        raise TrainerError(
            "the quantization-aware model was never trained, so its ranges are made up; train it with compress() first"
        )
    autograph.spare_known_code()
    predictor = Predictor(compressed.model)
    tf.saved_model.save(predictor, str(out_dir), signatures=predictor.signatures())
    return out_dir


def _thins(layer: Any) -> bool:
    return type(layer).__name__ in ("PruneLowMagnitude", "ClusterWeights")

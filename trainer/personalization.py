"""A model that goes on learning on the user's device: its last layer, on the user's own images.

Comes in: the float Keras model. Goes out: a SavedModel with the signatures `train`, `infer`, `save` and
`restore`, which `serving.edge.personalize` turns into one `.tflite` file. Called by the export of the mobile
bundle, if the config asks for it.

The gradient of softmax and cross-entropy is written out, and weights go in and out as tensors instead of
checkpoint files, so that the file needs the standard runtime only: TensorFlow's gradients and its checkpoint
operations would bring in the Flex delegate, tens of megabytes that stock mobile libraries lack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from trainer.errors import TrainerError


class Personalizable(tf.Module):
    """The frozen features of a model and a last layer that learns.

    Args:
        model: image float32 [N, H, W, C] in [0, 1] to logits float32 [N, K]; its last layer is dense and linear.

    Raises:
        TrainerError: if the last layer is another one.
    """

    def __init__(self, model: tf_keras.Model) -> None:
        """Copy the weights of the last layer; those of the others stay as they are."""
        super().__init__(name="personalizable")
        head = model.layers[-1]
        linear = tf_keras.activations.linear
        if not isinstance(head, tf_keras.layers.Dense) or head.activation is not linear or not head.use_bias:
            raise TrainerError(
                f"the last layer {head.name!r} is {type(head).__name__}; expected a linear dense layer with a bias, "
                "which is the part that learns on the device"
            )
        features = tf_keras.Model(model.input, head.input)
        self._weights = list(features.variables)
        self._features = tf.function(lambda images: features(images, training=False), autograph=False)
        self._shape = model.input_shape[1:]
        self._kernel = tf.Variable(head.kernel, name="head_kernel")
        self._bias = tf.Variable(head.bias, name="head_bias")

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        image = tf.TensorSpec([None, *self._shape], tf.float32)
        number = tf.TensorSpec([], tf.float32)
        return {
            "train": _concrete(self.train, image=image, label=tf.TensorSpec([None], tf.int32), learning_rate=number),
            "infer": _concrete(self.infer, image=image),
            "save": _concrete(self.save, unused=number),
            "restore": _concrete(
                self.restore,
                kernel=tf.TensorSpec(self._kernel.shape, tf.float32),
                bias=tf.TensorSpec(self._bias.shape, tf.float32),
            ),
        }

    def train(self, image: tf.Tensor, label: tf.Tensor, learning_rate: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take one step of gradient descent; `loss` is the mean cross-entropy before it.

        Args:
            image: float32 [N, H, W, C] in [0, 1].
            label: int32 [N], class indices.
            learning_rate: float32 scalar.
        """
        features = self._features(image)
        scores = tf.nn.log_softmax(self._logits(features))
        truth = tf.one_hot(label, self._bias.shape[0])
        loss = -tf.reduce_mean(tf.reduce_sum(truth * scores, axis=1))
        # d loss / d logits of softmax with cross-entropy: (probabilities - truth) / N.
        slope = (tf.exp(scores) - truth) / tf.cast(tf.shape(image)[0], tf.float32)
        self._kernel.assign(self._kernel - learning_rate * tf.matmul(tf.transpose(features), slope))
        self._bias.assign(self._bias - learning_rate * tf.reduce_sum(slope, axis=0))
        return {"loss": loss}

    def infer(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict `probabilities` float32 [N, K] from float32 [N, H, W, C] in [0, 1]."""
        return {"probabilities": tf.nn.softmax(self._logits(self._features(image)))}

    def save(self, unused: tf.Tensor) -> dict[str, tf.Tensor]:
        """Give `kernel` and `bias`; Android's API calls no function without an input, hence one that is unused."""
        del unused
        return self._held()

    def restore(self, kernel: tf.Tensor, bias: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take over what `save` gave, and give it back."""
        self._kernel.assign(kernel)
        self._bias.assign(bias)
        return self._held()

    def _held(self) -> dict[str, tf.Tensor]:
        return {"kernel": self._kernel.read_value(), "bias": self._bias.read_value()}

    def _logits(self, features: tf.Tensor) -> tf.Tensor:
        return tf.matmul(features, self._kernel) + self._bias


def export(model: tf_keras.Model, out_dir: Path | str) -> Path:
    """Write the SavedModel of a model that learns on the device.

    Args:
        model: image float32 [N, H, W, C] in [0, 1] to logits float32 [N, K].
        out_dir: folder to write.

    Returns:
        The folder.

    Raises:
        TrainerError: if the last layer is no linear dense layer with a bias.
    """
    module = Personalizable(model)
    tf.saved_model.save(module, str(out_dir), signatures=module.signatures())
    return Path(out_dir)


def _concrete(function: Any, **specs: tf.TensorSpec) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(**specs)

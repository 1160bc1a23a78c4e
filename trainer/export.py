"""The export: a fitted Keras model in, a SavedModel with every signature that clients use out.

Called by `trainer.run` after training and by every later stage that ships another set of weights. The
SavedModel holds no Keras object: TensorFlow Serving, `tf.saved_model.load` and the TFLite converter see plain
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import autograph, explain, warmup
from trainer.errors import TrainerError
from transform import features
from transform.images import decode_and_resize_batch
from transform.settings import ImageSettings

LABELS_FILE = "labels.txt"
CLASSIFY = "classify"
# Written into the SavedModel's signature, so that TensorFlow Serving offers it under Classify.
CLASSIFY_METHOD = "tensorflow/serving/classify"


class Classifier(tf.Module):
    """The model as functions of what clients send.

    Every function ends in the same network; they differ in what comes before it. `predict_*` and
    `serving_default` give `probabilities` float32 [N, K], `class_id` int64 [N] and `label` string [N]. `explain` is
    there if the network has feature maps that can tell where it looked.
    """

    def __init__(self, model: tf_keras.Model, labels: Sequence[str], settings: ImageSettings) -> None:
        """Track the weights; the Keras model itself stays out of the SavedModel."""
        super().__init__(name="classifier")
        self._weights = list(model.variables)
        self._labels = tf.constant(list(labels), tf.string)
        self._shape = (*settings.size, settings.channels)
        # One traced function for all signatures: the graph holds the network once.
        self._logits = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec([None, *self._shape], tf.float32)],
        )
        self._explainer = explain.Explainer(model) if explain.target_layer(model) is not None else None

    def signatures(self) -> dict[str, Any]:
        """Return the concrete functions by signature name."""
        height, width, channels = self._shape
        strings = tf.TensorSpec([None], tf.string)
        found = {
            "serving_default": _concrete(self.predict_bytes, image_bytes=strings),
            "predict_uint8": _concrete(
                self.predict_uint8, image=tf.TensorSpec([None, height, width, channels], tf.uint8)
            ),
            "predict_float": _concrete(
                self.predict_float, image=tf.TensorSpec([None, height, width, channels], tf.float32)
            ),
            "predict_examples": _concrete(self.predict_examples, examples=strings),
            CLASSIFY: _concrete(self.classify, inputs=strings),
        }
        if self._explainer is not None:
            found[explain.SIGNATURE] = _concrete(self.explain, image_bytes=strings)
        return found

    def predict_float(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from float32 [N, H, W, C] in [0, 1]."""
        probabilities = tf.nn.softmax(self._logits(image))
        class_id = tf.argmax(probabilities, axis=-1)
        return {
            "probabilities": probabilities,
            "class_id": class_id,
            "label": tf.gather(self._labels, class_id),
        }

    def predict_uint8(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from uint8 [N, H, W, C]."""
        return self.predict_float(tf.cast(image, tf.float32) / 255.0)

    def predict_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from encoded images, string [N]; the name lets REST clients send `{"b64": ...}`."""
        height, width, channels = self._shape
        return self.predict_uint8(decode_and_resize_batch(image_bytes, height, width, channels))

    def predict_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from serialized `tf.Example`, string [N], of which only the encoded image is read."""
        parsed = tf.io.parse_example(examples, {features.IMAGE: tf.io.FixedLenFeature([], tf.string)})
        return self.predict_bytes(parsed[features.IMAGE])

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return `classes` string [N, K], in the order of the labels, and `scores` float32 [N, K]."""
        scores = self.predict_examples(inputs)["probabilities"]
        classes = tf.tile(self._labels[tf.newaxis], [tf.shape(scores)[0], 1])
        return {"classes": classes, "scores": scores}

    def explain(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict from encoded images, string [N], and give `heatmap` float32 [N, h, w] beside the answer."""
        assert self._explainer is not None, "offered only where there are feature maps"
        pixels = decode_and_resize_batch(image_bytes, *self._shape)
        return explain.outputs(self._explainer(tf.cast(pixels, tf.float32) / 255.0), self._labels)


def export(
    model: tf_keras.Model,
    labels: Sequence[str],
    settings: ImageSettings,
    raw_examples: Sequence[bytes],
    out_dir: Path | str,
) -> Path:
    """Write the SavedModel.

    Args:
        model: image float32 [N, H, W, C] in [0, 1] to logits float32 [N, K].
        labels: K class names in the order of the class indices.
        settings: the section `transform`; its size and channels are the model's input.
        raw_examples: a few serialized examples, the requests of the warm-up.
        out_dir: folder to write; must not hold a SavedModel yet.

    Returns:
        The folder, with `assets.extra/labels.txt` and `assets.extra/tf_serving_warmup_requests` in it.

    Raises:
        TrainerError: if labels, settings and model do not belong together, or there are no examples.
    """
    out_dir = Path(out_dir)
    _check(model, labels, settings, raw_examples, out_dir)
    autograph.spare_known_code()
    classifier = Classifier(model, labels, settings)
    tf.saved_model.save(classifier, str(out_dir), signatures=classifier.signatures())
    _set_method(out_dir, CLASSIFY, CLASSIFY_METHOD)
    extra = out_dir / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    warmup.write(extra, raw_examples, settings, explains=explain.target_layer(model) is not None)
    return out_dir


def _concrete(function: Any, **specs: tf.TensorSpec) -> Any:
    return tf.function(function).get_concrete_function(**specs)


def _set_method(out_dir: Path, signature: str, method: str) -> None:
    """Rewrite the method of one signature; `tf.saved_model.save` marks all of them for Predict."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(out_dir))
    updater.replace_method_name(signature_key=signature, method_name=method, tags="serve")
    updater.save()


def _check(
    model: tf_keras.Model,
    labels: Sequence[str],
    settings: ImageSettings,
    raw_examples: Sequence[bytes],
    out_dir: Path,
) -> None:
    shape = (*settings.size, settings.channels)
    if model.input_shape[1:] != shape:
        raise TrainerError(f"the model takes images of {model.input_shape[1:]}; expected transform's {shape}")
    if len(labels) != model.output_shape[-1]:
        raise TrainerError(f"got {len(labels)} labels for {model.output_shape[-1]} logits; expected one for each class")
    if any("\n" in label or not label for label in labels) or len(set(labels)) < len(labels):
        raise TrainerError(f"got the labels {list(labels)}; expected different names, none empty or with a line break")
    if not raw_examples:
        raise TrainerError("got no examples for the warm-up; expected at least one serialized tf.Example")
    if (out_dir / "saved_model.pb").exists():
        raise TrainerError(f"{out_dir} already holds a SavedModel; expected a new folder")

"""The tf.Transform `preprocessing_fn`: raw features of a batch in, pixels and label out.

Called by the Transform component by its import path, and so part of the one graph from which training,
evaluation and serving read. There are no analyzers: nothing has to pass over all pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from transform import features
from transform.images import decode_and_resize_batch
from transform.settings import ImageSettings


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Decode and resize the images of a batch.

    Args:
        inputs: raw features by name, each dense [N, 1] or [N], or sparse.
        custom_config: `{"transform": …}`, the config's section `transform` as plain data.

    Returns:
        `features.PIXELS` float32 [N, height, width, channels], whole numbers from 0 to 255, and
        `features.LABEL` int64 [N]. Pixels are uint8 everywhere else; a transform graph can only yield
        float32, int64 and strings.
    """
    settings = ImageSettings.model_validate(dict(custom_config["transform"]))
    height, width = settings.size
    encoded = _column(inputs[features.IMAGE])
    pixels = decode_and_resize_batch(encoded, height, width, settings.channels)
    return {
        features.PIXELS: tf.cast(pixels, tf.float32),
        features.LABEL: tf.cast(_column(inputs[features.LABEL]), tf.int64),
    }


def _column(feature: Any) -> tf.Tensor:
    """Return a feature of one value per example as [N]."""
    dense = tf.sparse.to_dense(feature) if isinstance(feature, tf.SparseTensor) else feature
    return tf.reshape(dense, [-1])

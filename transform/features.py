"""The names of everything that stands in an example, once.

Written by `transform.ingest`, read by `transform.preprocessing`, the trainer, the pipeline's statistics,
evaluation and bulk inference. Nothing is imported here, so that everybody can import it.
"""

from __future__ import annotations

# Raw features of a `tf.train.Example`, each of shape [1].
IMAGE = "image/encoded"
"""bytes: the encoded file."""
FORMAT = "image/format"
"""bytes: one of `FORMATS`."""
HEIGHT = "image/height"
"""int64: pixels."""
WIDTH = "image/width"
"""int64: pixels."""
CHANNELS = "image/channels"
"""int64: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA, as stored in the file."""
LABEL = "label"
"""int64: index into the class names, which stand in the order of the source. The model's target."""
LABEL_NAME = "label_name"
"""bytes: the class name, UTF-8."""
DIGEST = "digest"
"""bytes: 32 hexadecimal digits, the hash of the content by which splits are decided."""
ORIGIN = "origin"
"""bytes: path relative to the source, or for example `train/123`."""

# Output of `transform.preprocessing.preprocessing_fn`.
PIXELS = "image"
"""Whole numbers 0 to 255 as float32 [N, height, width, channels]. The target stays `LABEL`, int64 [N]."""

SPLITS = ("train", "eval", "test")
"""The splits in this order; a split's index is its number in arrays (`-1`: in no split)."""

FORMATS = ("png", "jpeg", "gif", "bmp")
"""What TensorFlow's decoder reads, hence what examples may hold."""

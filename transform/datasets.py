"""tf.data input from example files; the trainer builds its shuffled, augmented input on it."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from transform import features

_BYTES = (features.IMAGE, features.FORMAT, features.LABEL_NAME, features.DIGEST, features.ORIGIN)
_INTEGERS = (features.HEIGHT, features.WIDTH, features.CHANNELS, features.LABEL)


def feature_spec(names: Sequence[str] = _BYTES + _INTEGERS) -> dict[str, tf.io.FixedLenFeature]:
    """Return how to parse the named raw features, each a scalar per example."""
    return {name: tf.io.FixedLenFeature([], tf.int64 if name in _INTEGERS else tf.string) for name in names}


def raw_dataset(
    files: Sequence[str], batch: int, names: Sequence[str] = (features.IMAGE, features.LABEL)
) -> tf.data.Dataset:
    """Read example files in order.

    Args:
        files: gzip TFRecords of `tf.train.Example`, as `transform.ingest` writes them.
        batch: examples per batch; the last one may be smaller.
        names: which raw features to parse; others cost nothing.

    Returns:
        A dataset of dictionaries, raw feature name -> [batch].
    """
    spec = feature_spec(names)
    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP", buffer_size=1 << 20)
    return records.batch(batch).map(lambda examples: tf.io.parse_example(examples, spec))

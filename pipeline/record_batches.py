"""Example files as Arrow record batches, decoded in large steps by tfx_bsl.

In come paths, out come batches. Called by StatisticsGen, in its own process and on Beam's workers. Nothing here imports
TFX, whose import would cost every worker seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

_BATCH = 1024


def record_batches(paths: list[str], sample: int, most_bytes: int | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the first examples of some files as Arrow.

    Examples stand in the files in the order of a hash of their content, so the first ones are a random sample.

    Args:
        paths: gzipped TFRecord files of `tf.Example`s.
        sample: number of examples.
        most_bytes: end after this many bytes of records; None: no limit.
    """
    import tensorflow as tf
    from tfx_bsl.coders import example_coder

    decoder = example_coder.ExamplesToRecordBatchDecoder()
    read = 0
    dataset = tf.data.TFRecordDataset(paths, compression_type="GZIP", buffer_size=1 << 20).take(sample).batch(_BATCH)
    for serialized in dataset.as_numpy_iterator():
        yield decoder.DecodeBatch(list(serialized))
        read += sum(map(len, serialized))
        if most_bytes is not None and read >= most_bytes:
            return


def read_record_batches(path: str, sample: int) -> Iterator[pa.RecordBatch]:
    """Yield the first examples of one file as Arrow, as an element of a Beam pipeline."""
    return record_batches([path], sample)

"""Writes examples as gzip TFRecord shards: the second pass over the data.

A shard says which examples belong into one file; `write_chunk` reads and writes them one by one.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from transform.check import ChunkCheck, storable
from transform.digests import seeded_rank_key
from transform.errors import DataError
from transform.examples import ExampleSerializer
from transform.features import FORMATS, SPLITS
from transform.header import DamagedHeaderError
from transform.reencode import UndecodableError
from transform.settings import DataSettings
from transform.sources.base import Source, Unreadable, content_digest
from transform.sources.refs import printable

_SHARD_EXAMPLES = 8192
_SHARD_BYTES = 64_000_000
_SHUFFLE = 3


@dataclass(frozen=True)
class Shard:
    """One file to write: n examples, in the order of a hash of their content, so that classes are mixed.

    Attributes:
        split: a name of `features.SPLITS`.
        number: of this shard, from 0.
        count: shards of this split.
        indices: int64 [n], positions in the source's listing.
        digests: uint8 [n, 16].
        label_ids: int32 [n].
        formats: int8 [n], index into `features.FORMATS`.
        sizes: int32 [n, 3], height, width, channels.
    """

    split: str
    number: int
    count: int
    indices: np.ndarray
    digests: np.ndarray
    label_ids: np.ndarray
    formats: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def file(self) -> str:
        """Path of the file, relative to the examples' folder."""
        return os.path.join(f"Split-{self.split}", f"data_tfrecord-{self.number:05d}-of-{self.count:05d}.gz")


def plan_shards(check: ChunkCheck, rows: np.ndarray, split: np.ndarray, label_ids: np.ndarray) -> list[Shard]:
    """Divide the examples of each split into shards of bounded size.

    Args:
        check: the merged check.
        rows: int64 [R], rows of `check`.
        split: int8 [R], the split of each row; -1: not written.
        label_ids: int32 [R].
    """
    shards = []
    for number, name in enumerate(SPLITS):
        chosen = np.flatnonzero(split == number)
        if not len(chosen):
            continue
        order = np.argsort(seeded_rank_key(check.digests[rows[chosen]], 0, _SHUFFLE), kind="stable")
        chosen = chosen[order]
        size = int(check.stored_bytes[rows[chosen]].sum())
        count = max(-(-len(chosen) // _SHARD_EXAMPLES), min(-(-size // _SHARD_BYTES), len(chosen)))
        for part, members in enumerate(np.array_split(chosen, count)):
            at = rows[members]
            shards.append(
                Shard(
                    name,
                    part,
                    count,
                    check.indices[at],
                    check.digests[at],
                    label_ids[members],
                    check.formats[at],
                    check.sizes[at],
                )
            )
    return shards


def write_chunk(source: Source, shard: Shard, out_dir: str, settings: DataSettings) -> str:
    """Write one shard; it appears under its name when it is complete, or not at all.

    Args:
        source: where the examples are.
        shard: which of them.
        out_dir: the examples' folder, local or of any file system that TensorFlow knows.
        settings: limits on file size and pixels, as in the check.

    Returns:
        The path of the file.

    Raises:
        DataError: if a file changed since the check.
    """
    import tensorflow as tf

    path = os.path.join(out_dir, shard.file)
    folder, name = os.path.split(path)
    tf.io.gfile.makedirs(folder)
    # JPEG and PNG files from outside are compressed already; our own PNG files are stored.
    level = 1 if source.trusted_encoding else 0
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=level)
    part = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.part")
    try:
        with tf.io.TFRecordWriter(part, options) as writer:
            _write_examples(writer, source, shard, settings)
        tf.io.gfile.rename(part, path, overwrite=True)
    finally:
        if tf.io.gfile.exists(part):
            tf.io.gfile.remove(part)
    return path


def _write_examples(writer: Any, source: Source, shard: Shard, settings: DataSettings) -> None:
    listing = source.listing()
    serializer = ExampleSerializer(listing.labels)
    sizes, labels, formats = shard.sizes.tolist(), shard.label_ids.tolist(), shard.formats.tolist()
    contents = source.read(shard.indices, settings.max_image_bytes)
    for row, content in enumerate(contents):
        origin = printable(listing.refs[int(shard.indices[row])])
        digest = shard.digests[row].tobytes()
        if source.trusted_encoding and isinstance(content, bytes):
            image = content
        else:
            image = _unchanged(content, digest, origin, settings)
        kind = (FORMATS[formats[row]], *sizes[row], labels[row])
        writer.write(serializer.serialize(image, kind, digest, origin))


def _unchanged(content: bytes | Unreadable, digest: bytes, origin: str, settings: DataSettings) -> bytes:
    """Return the bytes to store if the file is still the one that was checked."""
    if isinstance(content, bytes) and content_digest(content) == digest:
        try:
            return storable(content, settings.max_pixels)[0]
        except (UndecodableError, DamagedHeaderError) as error:
            content = Unreadable(str(error))
    reason = content.reason if isinstance(content, Unreadable) else "its content is another one"
    raise DataError(
        f"{origin!r} changed while the data was being read ({reason}). Run again when nothing writes to the folder."
    )

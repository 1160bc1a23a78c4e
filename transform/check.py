"""Checks that images can be used, and digests them: the first pass over the data.

A chunk of indices comes in, columns of what was found go out. `transform.ingest` and the pipeline's
ExampleGen call it, chunk by chunk, and merge the results.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transform.features import FORMATS
from transform.header import DamagedHeaderError, read_header
from transform.reencode import UndecodableError, to_png
from transform.settings import DataSettings
from transform.sources.base import DIGEST_BYTES, Source, Unreadable, content_digest

_BATCH_IMAGES = 64
_BATCH_BYTES = 16_000_000
# Decoded images that are held at a time; each may have data.max_pixels.
_PARALLEL = 4


@dataclass(frozen=True)
class ChunkCheck:
    """What is known about some examples, as columns of n rows.

    Attributes:
        indices: int64 [n], positions in the listing.
        digests: uint8 [n, 16].
        formats: int8 [n], index into `features.FORMATS` of what will be stored; -1: unreadable.
        reencoded: bool [n], whether the file has to be converted to PNG.
        sizes: int32 [n, 3], height, width, channels.
        stored_bytes: int64 [n], size of what will be stored.
        unreadable: index and reason of each unreadable example.
    """

    indices: np.ndarray
    digests: np.ndarray
    formats: np.ndarray
    reencoded: np.ndarray
    sizes: np.ndarray
    stored_bytes: np.ndarray
    unreadable: list[tuple[int, str]]


def merge_checks(checks: Sequence[ChunkCheck]) -> ChunkCheck:
    """Return the results of several chunks as one, in the order of the listing."""
    indices = np.concatenate([check.indices for check in checks])
    order = np.argsort(indices, kind="stable")

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(check, name) for check in checks])[order]

    return ChunkCheck(
        indices[order],
        column("digests"),
        column("formats"),
        column("reencoded"),
        column("sizes"),
        column("stored_bytes"),
        sorted(found for check in checks for found in check.unreadable),
    )


def check_chunk(source: Source, indices: np.ndarray, settings: DataSettings) -> ChunkCheck:
    """Digest some examples and see whether they can be decoded.

    Images that the source encodes itself are only digested. Others are decoded by the decoder that training
    uses; memory is bounded by a batch of files and a few decoded images, whatever the number of indices.

    Args:
        source: where the examples are.
        indices: positions in its listing, int64 [n].
        settings: limits on file size and pixels.
    """
    indices = np.asarray(indices, np.int64)
    count = len(indices)
    out = ChunkCheck(
        indices,
        np.zeros((count, DIGEST_BYTES), np.uint8),
        np.full(count, -1, np.int8),
        np.zeros(count, bool),
        np.zeros((count, 3), np.int32),
        np.zeros(count, np.int64),
        [],
    )
    if (known := source.encoding) is not None:
        out.digests[:] = source.digests(indices)
        out.formats[:] = FORMATS.index(known.format)
        out.sizes[:] = (known.height, known.width, known.channels)
        out.stored_bytes[:] = known.pixels * known.channels
        return out
    for rows, images in _batches(source, indices, settings, out):
        for row, shape in zip(rows, _shapes(images), strict=True):
            if isinstance(shape, str):
                out.formats[row] = -1
                out.unreadable.append((int(indices[row]), shape))
            else:
                out.sizes[row] = shape
    out.unreadable.sort()
    return out


def _batches(
    source: Source, indices: np.ndarray, settings: DataSettings, out: ChunkCheck
) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yield rows and images that are worth decoding; note the others as unreadable."""
    rows: list[int] = []
    images: list[bytes] = []
    held = 0
    for row, content in enumerate(source.read(indices, settings.max_image_bytes)):
        try:
            image = _admit(content, row, settings, out)
        except (UndecodableError, DamagedHeaderError) as error:
            out.unreadable.append((int(indices[row]), str(error)))
            continue
        rows.append(row)
        images.append(image)
        held += len(image)
        if len(images) >= _BATCH_IMAGES or held >= _BATCH_BYTES:
            yield rows, images
            rows, images, held = [], [], 0
    if images:
        yield rows, images


def _admit(content: bytes | Unreadable, row: int, settings: DataSettings, out: ChunkCheck) -> bytes:
    """Return the bytes to store, having noted digest and format; raise where there are none."""
    if isinstance(content, Unreadable):
        raise UndecodableError(content.reason)
    if not content:
        raise UndecodableError("empty file")
    image, image_format, reencoded = storable(content, settings.max_pixels)
    out.digests[row] = np.frombuffer(content_digest(content), np.uint8)
    out.formats[row] = FORMATS.index(image_format)
    out.reencoded[row] = reencoded
    out.stored_bytes[row] = len(image)
    return image


def storable(content: bytes, max_pixels: int) -> tuple[bytes, str, bool]:
    """Return the bytes to store for a file, their format and whether they were converted.

    Raises:
        UndecodableError: if it is no image that can be used; nothing large was decoded to find out.
        DamagedHeaderError: if its header does not hold.
    """
    header = read_header(content)
    if header is not None:
        if header.pixels > max_pixels:
            raise UndecodableError(
                f"{header.width} x {header.height} pixels, more than data.max_pixels ({max_pixels:,})"
            )
        if header.direct:
            return content, header.format, False
    return to_png(content, max_pixels), "png", True


def _shapes(images: list[bytes]) -> list[tuple[int, int, int] | str]:
    """Return height, width and channels of each image, or why it cannot be decoded."""
    import tensorflow as tf

    try:
        return [(int(h), int(w), int(c)) for h, w, c in _decoder()(tf.constant(images)).numpy()]
    except tf.errors.OpError:
        return [_shape(image) for image in images]


def _shape(image: bytes) -> tuple[int, int, int] | str:
    import tensorflow as tf

    try:
        height, width, channels = tf.io.decode_image(image, expand_animations=False).shape
    except tf.errors.OpError:
        header = read_header(image)
        kind = header.format.upper() if header else "image"
        return f"damaged or cut short: the {kind} decoder refuses it"
    return int(height), int(width), int(channels)


@functools.cache
def _decoder() -> Any:
    """The function from a batch of encoded images to their shapes, traced once in a process."""
    import tensorflow as tf

    def shape(encoded: tf.Tensor) -> tf.Tensor:
        return tf.shape(tf.io.decode_image(encoded, expand_animations=False))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def shapes(encoded: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec([3], tf.int32)
        return tf.map_fn(shape, encoded, fn_output_signature=spec, parallel_iterations=_PARALLEL)

    return shapes

"""Batches of small arrays as PNG files, written as fast as numpy copies.

The pixels are stored, not deflated: the gzip layer of the example files around them compresses as well, and
decoding becomes a copy. Measured on Fashion-MNIST: 3 microseconds an image against 100 with a deflating
encoder, example files 6 % smaller. `transform.sources.arrays` encodes here; `transform.images` knows the
layout.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_STORED_MAX = 65535  # bytes in one stored block, RFC 1951 section 3.2.4
_ADLER = 65521


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


_END = _chunk(b"IEND", b"")


def _start(height: int, width: int, channels: int) -> bytes:
    """Everything up to the first chunk of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)


def stored_layout(height: int, width: int, channels: int) -> tuple[bytes, int] | None:
    """Return what every stored PNG of a size starts with, and how long the file is.

    The pixels follow the start, row by row, each row behind a filter byte of 0; the last 20 bytes are
    checksums and the end mark. Files of other encoders may start alike and use other filters.

    Returns:
        The start and the length in bytes, or None for images that are too large to be stored in one block.
    """
    size = height * (width * channels + 1)
    if size > _STORED_MAX:
        return None
    block = b"IDAT\x78\x01\x01" + struct.pack("<HH", size, size ^ 0xFFFF)
    start = _start(height, width, channels) + struct.pack(">I", len(block) - 4 + size + 4) + block
    return start, len(start) + size + 8 + len(_END)


def encode_png(images: np.ndarray) -> Iterator[bytes]:
    """Encode a batch of images as PNG.

    Args:
        images: uint8 [N, height, width, channels] with 1 to 4 channels.

    Yields:
        One PNG file per image, in order.
    """
    count, height, width, channels = images.shape
    # Every row starts with its filter type, 0: none.
    rows = np.zeros((count, height, width * channels + 1), np.uint8)
    rows[:, :, 1:] = images.reshape(count, height, width * channels)
    raw = rows.reshape(count, -1)
    layout = stored_layout(height, width, channels)
    if layout is not None:
        yield from _stored(raw, *layout)
        return
    start = _start(height, width, channels)
    for row in raw:
        yield start + _chunk(b"IDAT", zlib.compress(row, 1)) + _END


def _stored(raw: np.ndarray, start: bytes, length: int) -> Iterator[bytes]:
    """Assemble files whose pixels fit into one stored block, all of the same length."""
    count, size = raw.shape
    at, end = len(start), len(start) + size
    files = np.empty((count, length), np.uint8)
    files[:, :at] = np.frombuffer(start, np.uint8)
    files[:, at:end] = raw
    files[:, end : end + 4] = _adler32(raw)
    files[:, end + 8 :] = np.frombuffer(_END, np.uint8)
    checked = files[:, start.index(b"IDAT") : end + 4]
    sums = np.fromiter((zlib.crc32(row) for row in checked), np.uint32, count)
    files[:, end + 4 : end + 8] = sums.astype(">u4").view(np.uint8).reshape(-1, 4)
    for row in files:
        yield row.tobytes()


def _adler32(raw: np.ndarray) -> np.ndarray:
    """Return the Adler-32 checksum of every row as big-endian bytes, uint8 [N, 4] (RFC 1950, section 8.2)."""
    size = raw.shape[1]
    weights = np.arange(size, 0, -1, dtype=np.uint64)
    low = (1 + raw.sum(axis=1, dtype=np.uint64)) % _ADLER
    high = (size + np.einsum("ij,j->i", raw, weights, dtype=np.uint64)) % _ADLER
    return ((high << np.uint64(16)) | low).astype(">u4").view(np.uint8).reshape(-1, 4)

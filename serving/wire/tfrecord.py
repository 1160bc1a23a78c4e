"""TFRecord files without TensorFlow, also those whose writer was killed.

Comes in: records as bytes, or a file. Goes out: framed bytes, or the records that are whole. Called by the request log
and by readers of it. `serving.records` reads strictly, with TensorFlow; this reader stops at a torn end.

A record is: length (uint64, little-endian), masked CRC of the length, data, masked CRC of the data, where a CRC is the
CRC-32C of RFC 3720. Source: `tensorflow/core/lib/io/record_writer.h`.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_BLOCK = 1024
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """What each byte value at each place of a block, and what the state before the block, add to the state after it.

    The state is linear over XOR, so the bytes of a block need no order: each looks up its part, and the parts are
    XORed. numpy does that for all bytes at once.
    """
    single = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        single = np.where(single & 1, (single >> 1) ^ np.uint32(_POLYNOMIAL), single >> 1).astype(np.uint32)

    def after_zero_byte(state: np.ndarray) -> np.ndarray:
        return (state >> np.uint32(8)) ^ single[state & np.uint32(0xFF)]

    places = np.empty((_BLOCK, 256), np.uint32)
    places[-1] = single
    for place in range(_BLOCK - 2, -1, -1):
        places[place] = after_zero_byte(places[place + 1])
    shifts = np.arange(0, 32, 8, dtype=np.uint32)
    states = np.arange(256, dtype=np.uint32)[None, :] << shifts[:, None]
    for _ in range(_BLOCK):
        states = after_zero_byte(states)
    return places, states


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes."""
    places, states = _tables()
    octets = np.frombuffer(data, np.uint8)
    # Zeros in front change nothing while the state is zero, so the first block may be short: the start value of the
    # state is worked into its first four bytes instead.
    padded = np.zeros(-(-octets.size // _BLOCK) * _BLOCK, np.uint8)
    if octets.size < 4:
        return _crc32c_short(data, places[-1])
    padded[padded.size - octets.size :] = octets
    first = padded.size - octets.size
    padded[first : first + 4] ^= np.uint8(0xFF)
    blocks = padded.reshape(-1, _BLOCK)
    parts = np.bitwise_xor.reduce(places[np.arange(_BLOCK), blocks], axis=1).tolist()
    state = 0
    for part in parts:
        state = part ^ int(
            states[0, state & 0xFF]
            ^ states[1, state >> 8 & 0xFF]
            ^ states[2, state >> 16 & 0xFF]
            ^ states[3, state >> 24]
        )
    return state ^ 0xFFFFFFFF


def _crc32c_short(data: bytes, single: np.ndarray) -> int:
    state = 0xFFFFFFFF
    for octet in data:
        state = state >> 8 ^ int(single[(state ^ octet) & 0xFF])
    return state ^ 0xFFFFFFFF


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """One record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOTER.pack(_masked(length)), record, _FOOTER.pack(_masked(record))))


def read_whole_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the records of a file up to its end or to the first that is torn or damaged."""
    with open(path, "rb") as stream:
        while (record := _next_record(stream)) is not None:
            yield record


def whole_length(path: str | os.PathLike[str]) -> int:
    """Length in bytes of the part of a file that holds whole records."""
    length = 0
    with open(path, "rb") as stream:
        while _next_record(stream) is not None:
            length = stream.tell()
    return length


def _next_record(stream: BinaryIO) -> bytes | None:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, crc = _HEADER.unpack(header)
    if crc != _masked(header[:8]):
        return None
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    if length + _FOOTER.size > left:
        return None
    record = stream.read(length)
    footer = stream.read(_FOOTER.size)
    if len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[0] != _masked(record):
        return None
    return record

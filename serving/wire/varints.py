"""Base-128 integers of protobuf's packed fields, many at once.

Comes in: bytes of a packed field, or an array of integers. Goes out: the other. Called by the tensor codec.
Encoding: https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations

import numpy as np

_MAX_BYTES = 10
_SHIFTS = np.arange(_MAX_BYTES, dtype=np.uint64) * np.uint64(7)


def decode(data: bytes) -> np.ndarray:
    """Read a packed field.

    Returns:
        uint64 [N]; a negative number is there as its two's complement of 64 bits.

    Raises:
        ValueError: The last number is cut off, or one has more than 10 bytes.
    """
    octets = np.frombuffer(data, np.uint8)
    if octets.size == 0:
        return np.empty(0, np.uint64)
    ends = np.flatnonzero(octets < 0x80)
    if ends.size == octets.size:
        return octets.astype(np.uint64)
    if ends.size == 0 or ends[-1] != octets.size - 1:
        raise ValueError(f"received {octets.size} bytes of packed integers, the last of which is cut off.")
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    if lengths.max() > _MAX_BYTES:
        raise ValueError(f"received a packed integer of {lengths.max()} bytes; expected at most {_MAX_BYTES}.")
    places = np.arange(octets.size) - np.repeat(starts, lengths)
    return np.add.reduceat((octets & np.uint8(0x7F)).astype(np.uint64) << _SHIFTS[places], starts)


def encode(values: np.ndarray) -> bytes:
    """Write a packed field.

    Args:
        values: Integers or booleans of any type [N]; negative ones take 10 bytes.
    """
    flat = values.astype(np.int64).view(np.uint64) if values.dtype.kind == "i" else values.astype(np.uint64)
    if flat.size == 0:
        return b""
    highest = int(flat.max())
    if highest < 0x80:
        return flat.astype(np.uint8).tobytes()
    width = -(-highest.bit_length() // 7)
    groups = (flat[:, None] >> _SHIFTS[:width]).astype(np.uint8) & np.uint8(0x7F)
    rest = flat[:, None] >> _SHIFTS[:width]
    needed = rest != 0
    needed[:, 0] = True
    more = np.zeros_like(needed)
    more[:, :-1] = needed[:, 1:]
    return bytes((groups | (more.astype(np.uint8) << np.uint8(7)))[needed].tobytes())

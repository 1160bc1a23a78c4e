"""Size of encoded images, read from their headers alone.

Comes in: bytes that a request wants to feed to a model. Goes out: the number of pixels that decoding would make, so
that a picture of a few kilobytes cannot ask for gigabytes. Called by both transports before a request is queued.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from serving.server.status import Code, StatusError

_MAX_SEGMENTS = 1000
_MAX_FRAMES = 10_000
_ENDLESS = 1 << 62
# Two sizes as the formats store them; GIF and the old BMP have small ones.
_PNG, _JPEG, _BMP, _SMALL = map(struct.Struct, (">II", ">HH", "<ii", "<HH"))
# Start-of-frame markers of JPEG: 0xC0 to 0xCF without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_pixels(values: Iterable[bytes], max_pixels: int) -> None:
    """Refuse encoded images that are too large.

    Args:
        values: Bytes that may be PNG, JPEG, GIF or BMP files; anything else passes.
        max_pixels: Most pixels of one file; 0 for no limit.

    Raises:
        StatusError: INVALID_ARGUMENT, an image has more pixels, or hides its size behind an absurd header.
    """
    if max_pixels <= 0:
        return
    for value in values:
        pixels = pixels_of(value, max_pixels)
        if pixels is not None and pixels > max_pixels:
            found = "an unreasonable number of" if pixels == _ENDLESS else f"at least {pixels}"
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Encoded image has {found} pixels, more than the limit of {max_pixels}. Send a smaller image.",
            )


def pixels_of(data: bytes, enough: int = _ENDLESS) -> int | None:
    """Pixels that decoding an image file makes, all frames together.

    Args:
        data: Start of the file or all of it.
        enough: Counting frames may stop above this many pixels.

    Returns:
        The number of pixels; None if the format is unknown or the header is cut off.
    """
    first = data[:1]
    if first == b"\x89" and data[:8] == b"\x89PNG\r\n\x1a\n":
        return _product(_PNG, data, 16)
    if first == b"\xff" and data[:3] == b"\xff\xd8\xff":
        return _jpeg(data)
    if first == b"G" and data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data, enough)
    if first == b"B" and data[:2] == b"BM":
        return _bmp(data)
    return None


def _product(form: struct.Struct, data: bytes, offset: int) -> int | None:
    if len(data) < offset + form.size:
        return None
    width, height = form.unpack_from(data, offset)
    return abs(width) * abs(height)


def _bmp(data: bytes) -> int | None:
    # The old OS/2 header, 12 bytes long, has 16-bit sizes.
    if data[14:18] == b"\x0c\x00\x00\x00":
        return _product(_SMALL, data, 18)
    return _product(_BMP, data, 18)


def _jpeg(data: bytes) -> int | None:
    position = 2
    for _ in range(_MAX_SEGMENTS):
        position = _after_fill(data, position)
        if position + 2 > len(data):
            return None
        marker = data[position]
        position += 1
        if marker in _JPEG_FRAMES:
            return _product(_JPEG, data, position + 3)
        if marker == 0xD9 or marker == 0xDA:
            return None
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2:
            return None
        position += length
    return _ENDLESS


def _after_fill(data: bytes, position: int) -> int:
    """Position of the code of the next marker; a decoder skips garbage before 0xFF and any number of 0xFF."""
    start = data.find(b"\xff", position)
    if start < 0:
        return len(data)
    while start < len(data) and data[start] == 0xFF:
        following = data[start : start + 4096]
        start += len(following) - len(following.lstrip(b"\xff"))
    return start


def _gif(data: bytes, enough: int) -> int | None:
    screen = _product(_SMALL, data, 6)
    if screen is None or len(data) < 13:
        return None
    position = 13 + _color_table(data[10])
    frames = 0
    pixels = screen
    while position < len(data) and pixels <= enough:
        block = data[position]
        if block == 0x2C and position + 10 <= len(data):
            frames += 1
            if frames > _MAX_FRAMES:
                return _ENDLESS
            # A frame may be larger than the screen that the header promises.
            screen = max(screen, _product(_SMALL, data, position + 5) or 0)
            pixels = screen * frames
            position = _after_blocks(data, position + 11 + _color_table(data[position + 9]))
        elif block == 0x21:
            position = _after_blocks(data, position + 2)
        else:
            break
    return pixels


def _color_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    while position < len(data) and data[position]:
        position += data[position] + 1
    return position + 1

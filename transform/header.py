"""What an encoded image says about itself before anything is decoded.

Encoded bytes come in, format and size go out. `transform.check` asks before it decodes, so that a file of a
few bytes that claims billions of pixels (a decompression bomb) is never unpacked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass


class DamagedHeaderError(ValueError):
    """The file starts like a known format, but its header does not hold."""


@dataclass(frozen=True)
class Header:
    """Format and size of an image.

    Attributes:
        format: one of `features.FORMATS`.
        height: pixels.
        width: pixels.
        channels: as stored where the header says it plainly, else 0.
        pixels: how many pixels the decoder has to hold, over all frames.
        direct: whether TensorFlow's decoder shows the image as it is meant; if not, Pillow has to convert it.
    """

    format: str
    height: int
    width: int
    channels: int = 0
    pixels: int = 0
    direct: bool = True


def read_header(data: bytes) -> Header | None:
    """Return what the first bytes of an image say, or None if it is in no format that TensorFlow reads.

    Raises:
        DamagedHeaderError: if the format is clear but the header is cut short or contradicts itself.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _gif(data)
        if data.startswith(b"BM"):
            return _bmp(data)
    except (struct.error, IndexError):
        raise DamagedHeaderError("cut short within the header") from None
    return None


def _png(data: bytes) -> Header:
    """Read IHDR, which must come first (PNG specification, section 5.6)."""
    chunk, width, height, _, color = struct.unpack_from(">4sIIBB", data, 12)
    if chunk != b"IHDR":
        raise DamagedHeaderError("a PNG whose first chunk is not IHDR")
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(color, 0)
    return Header("png", height, width, channels, height * width)


def _jpeg(data: bytes) -> Header:
    """Walk the markers up to the frame header (ITU-T T.81, annex B)."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise DamagedHeaderError("a JPEG without a frame header")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue
        if marker in (0xD9, 0xDA):
            raise DamagedHeaderError("a JPEG without a frame header")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            return Header("jpeg", height, width, components, height * width)
        at += struct.unpack_from(">H", data, at)[0]


def _gif(data: bytes) -> Header:
    """Walk the blocks and add up the frames, since the decoder holds them all (GIF89a, appendix A)."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette_bytes(flags)
    pixels = 0
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            frame_width, frame_height, flags = struct.unpack_from("<HHB", data, at + 5)
            pixels += frame_width * frame_height
            width, height = max(width, frame_width), max(height, frame_height)
            at += 11 + _palette_bytes(flags)
        elif data[at] == 0x21:
            at += 2
        else:
            raise DamagedHeaderError("a GIF with an unknown block")
        while data[at]:
            at += 1 + data[at]
        at += 1
    return Header("gif", height, width, 3, max(pixels, width * height))


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _bmp(data: bytes) -> Header:
    """Read the bitmap header; TensorFlow shows only uncompressed 24-bit bitmaps as they are meant."""
    size = struct.unpack_from("<I", data, 14)[0]
    if size < 40:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        return Header("bmp", height, width, 0, height * width, direct=False)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    direct = depth == 24 and compression == 0
    return Header("bmp", abs(height), abs(width), 3 if direct else 0, abs(height * width), direct)

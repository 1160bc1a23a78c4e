from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform.header import DamagedHeaderError, Header, read_header


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300)])
def test_sizes_are_read_without_decoding(encode: Callable[..., bytes], kind: str, size: tuple[int, int]) -> None:
    header = read_header(encode(1, kind, size))
    assert header is not None
    assert (header.format, header.width, header.height) == (kind.lower(), *size)
    assert header.pixels == size[0] * size[1]


@pytest.mark.parametrize("options", [{"progressive": True}, {"exif": b"Exif\0\0" + b"\xff" * 300}, {"optimize": True}])
def test_jpeg_segments_before_the_frame_are_skipped(encode: Callable[..., bytes], options: dict) -> None:
    header = read_header(encode(1, "JPEG", (33, 21), **options))
    assert header is not None
    assert (header.width, header.height, header.channels) == (33, 21, 3)


def test_a_bomb_shows_its_size() -> None:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    assert read_header(png) == Header("png", 50_000, 60_000, 3, 3_000_000_000)


def test_gif_counts_the_pixels_of_all_frames_even_where_they_exceed_the_screen() -> None:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 50_000, 40_000, 0) + b"\x02\x01\x00\x00"
    gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"\x21\xf9\x01\x00\x00" + frame * 2 + b"\x3b"
    header = read_header(gif)
    assert header is not None
    assert (header.width, header.height, header.pixels) == (50_000, 40_000, 4_000_000_000)


def test_only_plain_bitmaps_are_direct(encode: Callable[..., bytes]) -> None:
    plain, gray = read_header(encode(1, "BMP")), read_header(encode(1, "BMP", mode="L"))
    assert plain is not None and plain.direct
    assert gray is not None and not gray.direct


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_header_cut_short_is_damaged(encode: Callable[..., bytes], kind: str) -> None:
    with pytest.raises(DamagedHeaderError):
        read_header(encode(1, kind)[:12])


def test_other_formats_are_none(encode: Callable[..., bytes]) -> None:
    assert read_header(encode(1, "WEBP")) is None
    assert read_header(b"<html>") is None
    assert read_header(b"") is None


@given(
    start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b""]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_end_in_a_header_none_or_damage(start: bytes, rest: bytes) -> None:
    try:
        header = read_header(start + rest)
    except DamagedHeaderError:
        return
    assert header is None or header.pixels >= 0

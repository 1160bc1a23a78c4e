from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving.server.pixels import check_pixels, pixels_of
from serving.server.status import Code, StatusError

FORMATS = ("PNG", "JPEG", "GIF", "BMP")


def encoded(form: str, width: int = 7, height: int = 5, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_the_size_is_read_from_the_header(form: str) -> None:
    assert pixels_of(encoded(form)) == 35


@pytest.mark.parametrize("options", [{"progressive": True}, {"exif": b"Exif\0\0" + b"x" * 500}, {"quality": 5}])
def test_jpeg_variants(options: dict[str, object]) -> None:
    assert pixels_of(encoded("JPEG", **options)) == 35


def test_jpeg_with_fill_bytes_and_comments() -> None:
    data = encoded("JPEG")
    assert pixels_of(data[:2] + b"\xff" * 9 + b"\xfe\x00\x06abcd" + data[2:]) == 35


def test_jpeg_with_garbage_between_segments() -> None:
    data = encoded("JPEG")
    assert pixels_of(data[:2] + b"\xff\xfe\x00\x04ab" + b"garbage" + data[2:]) == 35


def test_jpeg_thumbnails_do_not_count() -> None:
    thumbnail = encoded("JPEG", 900, 900)
    data = encoded("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert pixels_of(data[:2] + segment + data[2:]) == 35


def test_jpeg_that_hides_its_frame_is_refused() -> None:
    data = b"\xff\xd8" + b"\xff\xfe\x00\x02" * 5000 + encoded("JPEG")[2:]
    with pytest.raises(StatusError, match="unreasonable") as caught:
        check_pixels([data], 10**9)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_all_frames_of_a_gif_count() -> None:
    frames = [Image.effect_noise((20, 10), 90) for _ in range(6)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert pixels_of(buffer.getvalue()) == 6 * 200


def test_a_gif_frame_may_be_larger_than_its_screen() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x00"
    assert pixels_of(screen + frame) == 3_600_000_000


def test_a_gif_with_endless_frames_is_refused() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x00"
    with pytest.raises(StatusError, match="unreasonable"):
        check_pixels([screen + frame * 20_000], 10**9)


def test_bmp_sizes_may_be_negative_or_of_the_old_kind() -> None:
    data = bytearray(encoded("BMP"))
    struct.pack_into("<i", data, 22, -5)
    assert pixels_of(bytes(data)) == 35
    assert pixels_of(b"BM" + bytes(12) + struct.pack("<IHH", 12, 300, 200)) == 60_000


@pytest.mark.parametrize("form", FORMATS)
def test_a_bomb_is_refused_and_a_fitting_image_passes(form: str) -> None:
    data = encoded(form)
    check_pixels([b"text", data], 35)
    with pytest.raises(StatusError, match="at least 35 pixels, more than the limit of 34") as caught:
        check_pixels([data], 34)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_no_limit_looks_at_nothing() -> None:
    check_pixels([encoded("PNG")], 0)


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off_files_are_left_to_the_decoder(form: str) -> None:
    data = encoded(form)
    for length in range(len(data)):
        assert pixels_of(data[:length]) in (None, 35)


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b""]), st.binary(max_size=400))
def test_any_bytes_give_a_number_or_nothing(head: bytes, data: bytes) -> None:
    pixels = pixels_of(head + data)
    assert pixels is None or pixels >= 0


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(FORMATS))
def test_the_size_agrees_with_pillow(width: int, height: int, form: str) -> None:
    assert pixels_of(encoded(form, width, height)) == width * height

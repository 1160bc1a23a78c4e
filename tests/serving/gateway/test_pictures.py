"""Hostile and odd files: each is refused with the right status, or turned into something harmless."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.gateway.errors import Problem
from serving.gateway.pictures import inspect, without_metadata
from serving.gateway.settings import Images
from tests.serving.gateway.conftest import picture

LIMITS = Images(max_bytes=300_000, max_batch_bytes=300_000, max_pixels=1_000_000)


def refusal(data: bytes, limits: Images = LIMITS) -> Problem:
    with pytest.raises(Problem) as caught:
        inspect(data, limits)
    return caught.value


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, pixels: bytes | None = None, extra: bytes = b"") -> bytes:
    """A PNG written by hand, one bit a pixel, so that its header can claim what it likes."""
    line = b"\0" + bytes((width + 7) // 8)
    content = zlib.compress(line * height, 9) if pixels is None else pixels
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "zero bytes": (b"", 422, "empty"),
    "text": (b"hello", 415, "no picture"),
    "zeros": (bytes(1000), 415, "no picture"),
    "svg": (b'<?xml version="1.0"?><svg onload="alert(1)"/>', 415, "SVG"),
    "html": (b"  <!DOCTYPE html><script>", 415, "web page"),
    "pdf": (b"%PDF-1.7 " + picture(), 415, "PDF"),
    "zip": (b"PK\x03\x04" + bytes(50), 415, "ZIP"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), 415, "HEIC"),
    "avif": (b"\0\0\0\x18ftypavif" + bytes(40), 415, "AVIF"),
    "film": (b"\0\0\0\x18ftypisom" + bytes(40), 415, "film"),
    "tiff": (b"II*\0" + bytes(40), 415, "TIFF"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", 415, "no picture"),
    "only a header": (b"\x89PNG\r\n\x1a\n", 422, "damaged"),
    "half a png": (picture(size=(200, 200))[:-60], 422, "damaged"),
    "half a jpeg": (picture(form="JPEG", size=(200, 200))[:1500], 422, "damaged"),
    "half a webp": (picture(form="WEBP", size=(200, 200), lossless=True)[:-20], 422, "damaged"),
    "png with broken pixels": (png_of(20, 20, b"not deflate"), 422, "damaged"),
    "png with too few pixels": (png_of(200, 200, zlib.compress(bytes(20))), 422, "damaged"),
    "png of no width": (png_of(0, 10), 422, "damaged"),
    "too many bytes": (picture() + bytes(400_000), 413, "bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_good_picture_is_refused_by_its_kind(name: str) -> None:
    data, status, word = REFUSED[name]
    problem = refusal(data)
    assert (problem.status, word in problem.message) == (status, True), problem.message


def test_a_huge_picture_in_a_small_file_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    bomb = png_of(10_000, 10_000)
    assert len(bomb) < 20_000
    assert refusal(bomb).status == 422 and "10000 x 10000" in refusal(bomb).message
    claimed = png_of(2_000_000_000, 2_000_000_000, b"x")
    assert refusal(claimed).status == 422 and refusal(claimed).code == "too_many_pixels"
    ribbon = png_of(400_000, 1)
    assert refusal(ribbon).status == 422 and refusal(ribbon).code == "too_many_pixels"


def test_limits_hold_at_their_edge() -> None:
    limits = Images(max_pixels=24 * 16)
    assert inspect(picture(), limits).width == 24
    assert refusal(picture(size=(25, 16)), limits).code == "too_many_pixels"
    exact = picture()
    small = Images.model_construct(**{**dict(limits), "max_bytes": len(exact)})
    assert inspect(exact, small).content == exact
    assert refusal(exact + b"\0", small).status == 413


def test_compressed_text_in_a_png_does_not_fill_the_memory() -> None:
    zipped = zlib.compress(bytes(100_000_000), 9)
    bomb = png_of(8, 8, extra=chunk(b"zTXt", b"k\0\0" + zipped))
    assert refusal(bomb).status == 422


def test_a_format_that_is_not_wanted_is_named() -> None:
    problem = refusal(picture(form="WEBP"), Images(formats=("PNG",)))
    assert problem.status == 415 and "PNG" in problem.message


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_what_the_model_server_reads_goes_on_unchanged(form: str) -> None:
    data = picture(form=form)
    seen = inspect(data, LIMITS)
    assert seen.content is data and (seen.format, seen.width, seen.height) == (form, 24, 16)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "BMP"])
def test_what_it_does_not_read_becomes_png_with_the_same_pixels(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = picture(form=form, **options)
    seen = inspect(data, LIMITS)
    assert seen.content.startswith(b"\x89PNG") and seen.format == form
    np.testing.assert_array_equal(decoded(seen.content), decoded(data))
    assert inspect(data, LIMITS).digest == seen.digest, "the same file has the same digest each time"


def test_only_the_first_frame_of_a_film_goes_on() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    seen = inspect(out.getvalue(), LIMITS)
    with Image.open(io.BytesIO(seen.content)) as image:
        assert getattr(image, "n_frames", 1) == 1
    assert decoded(seen.content)[0, 0, 0] > 200


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "L", "LA", "RGBA", "I;16"])
def test_every_mode_of_pixels_arrives(mode: str) -> None:
    image = Image.new("L", (12, 10), 90)
    converted = Image.fromarray(np.full((10, 12), 9000, np.uint16)) if mode == "I;16" else image.convert(mode)
    out = io.BytesIO()
    converted.save(out, "JPEG" if mode == "CMYK" else "PNG")
    seen = inspect(out.getvalue(), LIMITS)
    assert (seen.width, seen.height) == (12, 10)
    assert decoded(seen.content).shape == (10, 12, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_taken_sideways_is_turned(form: str) -> None:
    image = Image.fromarray(np.vstack([np.full((8, 40, 3), 250, np.uint8), np.zeros((16, 40, 3), np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its side: turn by 90 degrees clockwise
    out = io.BytesIO()
    image.save(out, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    turned = inspect(out.getvalue(), LIMITS)
    assert (turned.width, turned.height) == (24, 40)
    pixels = decoded(turned.content)
    assert pixels[:, -1].mean() > 200 > 60 > pixels[:, 0].mean(), "what was above is at the right"
    as_stored = inspect(out.getvalue(), LIMITS.model_copy(update={"upright": False}))
    assert (as_stored.width, as_stored.height) == (40, 24)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("payload.html", "<script>alert(1)</script>")
    return out.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_what_hangs_on_a_picture_is_not_kept(form: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET-PLACE"
    options: dict[str, Any] = {"exif": exif} if form in ("JPEG", "PNG", "WEBP") else {}
    if form in ("JPEG", "GIF"):
        options["comment"] = b"SECRET-COMMENT"
    polyglot = picture(form=form, **options) + zipped()
    seen = inspect(polyglot, LIMITS)
    kept, suffix = without_metadata(seen)
    for trace in (b"SECRET", b"payload.html", b"PK\x03\x04", b"Exif"):
        assert trace not in kept
    assert suffix == (".jpg" if form == "JPEG" else ".png")
    np.testing.assert_array_equal(decoded(kept), decoded(seen.content))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_bare_jpeg_has_the_same_pixels(options: dict[str, Any]) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (70, 90, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=95, **options)
    seen = inspect(out.getvalue(), LIMITS)
    kept, _ = without_metadata(seen)
    np.testing.assert_array_equal(decoded(kept), decoded(out.getvalue()))


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_a_refusal(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF\xff\0\0\0WEBP"):
        try:
            inspect(start + data, LIMITS)
        except Problem as problem:
            assert problem.status in (413, 415, 422)


@settings(max_examples=40)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]), st.integers(0, 2**32), st.integers(0, 255))
def test_any_damage_ends_in_an_answer_or_a_refusal(form: str, place: int, value: int) -> None:
    data = bytearray(picture(form=form))
    data[place % len(data)] = value
    try:
        seen = inspect(bytes(data), LIMITS)
        without_metadata(seen)
    except Problem as problem:
        assert problem.status in (413, 415, 422)

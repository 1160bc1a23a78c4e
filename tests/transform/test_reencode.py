from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from transform.reencode import UndecodableError, to_png


def pixels(file: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(file))
    assert image.format == "PNG"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("kind", "mode"), [("WEBP", "RGB"), ("WEBP", "RGBA"), ("TIFF", "L"), ("TIFF", "RGB"), ("PPM", "RGB")]
)
def test_lossless_formats_keep_their_pixels(encode: Callable[..., bytes], kind: str, mode: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    expected = pixels(encode(3, "PNG", mode=mode))
    assert np.array_equal(pixels(to_png(encode(3, kind, mode=mode, **options), 10**6)), expected)


def saved(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def test_sixteen_bits_keep_the_upper_eight() -> None:
    deep = np.array([[0, 255, 256], [32768, 65535, 4095]], np.uint16)
    assert pixels(to_png(saved(Image.fromarray(deep), "TIFF"), 100)).tolist() == [[0, 0, 1], [128, 255, 15]]


def test_palettes_and_bits_become_colors_and_gray() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert pixels(to_png(saved(palette, "BMP"), 100)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pixels(to_png(saved(Image.new("1", (1, 1), 1), "BMP"), 100)).tolist() == [[255]]


def test_what_cannot_be_converted_has_a_reason(encode: Callable[..., bytes]) -> None:
    reasons = {
        b"<html></html>": "not an image",
        b"\0\0\0\x18ftypheic" + bytes(20): "a HEIC photo",
        encode(1, "WEBP")[:40]: "damaged or cut short|not an image",
        encode(1, "TIFF", (50, 50))[:-200]: "damaged or cut short",
        saved(Image.new("F", (2, 2)), "TIFF"): "32 bits a pixel",
    }
    for file, reason in reasons.items():
        with pytest.raises(UndecodableError, match=reason):
            to_png(file, 10**6)


def test_large_images_are_not_decoded(encode: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    file = encode(1, "TIFF", (20, 10))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UndecodableError, match="20 x 10 pixels, more than data"):
        to_png(file, 199)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(UndecodableError, match="far more pixels"):
        to_png(file, 199)

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transform.png import encode_png, stored_layout


@settings(max_examples=30)
@given(
    count=st.integers(1, 3),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_another_decoder_reads_the_same_pixels(count: int, height: int, width: int, channels: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)
    for file, image in zip(encode_png(images), images, strict=True):
        with Image.open(io.BytesIO(file)) as opened:
            assert opened.mode == ("L", "LA", "RGB", "RGBA")[channels - 1]
            assert np.array_equal(np.asarray(opened).reshape(image.shape), image)


def test_images_beyond_one_block_are_deflated() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 150, 160, 3), np.uint8)
    assert stored_layout(150, 160, 3) is None
    (file,) = encode_png(images)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), images[0])


@pytest.mark.parametrize("value", [0, 255])
def test_checksums_hold_for_extreme_pixels(value: int) -> None:
    (file,) = encode_png(np.full((1, 200, 300, 1), value, np.uint8))
    Image.open(io.BytesIO(file)).verify()
    assert (np.asarray(Image.open(io.BytesIO(file))) == value).all()


def test_layout_describes_the_files() -> None:
    (file,) = encode_png(np.zeros((1, 4, 5, 3), np.uint8))
    layout = stored_layout(4, 5, 3)
    assert layout is not None
    assert file.startswith(layout[0])
    assert len(file) == layout[1]

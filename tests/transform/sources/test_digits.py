from __future__ import annotations

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from transform.settings import DataSettings
from transform.sources import build_source


def test_digits_are_gray_png_of_the_original_levels() -> None:
    source, original = build_source(DataSettings(source="digits")), load_digits()
    listing = source.listing()
    assert len(listing) == 1797
    assert listing.labels == tuple("0123456789")
    assert set(listing.given_split) == {-1}
    assert np.array_equal(listing.label_ids, original.target)
    (file,) = source.read(np.array([5]))
    assert isinstance(file, bytes)
    pixels = np.asarray(Image.open(io.BytesIO(file)), np.float64)
    assert np.array_equal(np.rint(pixels * 16 / 255), original.images[5])
    assert pixels.max() == 255


def test_fingerprint_is_stable() -> None:
    first, second = (build_source(DataSettings(source="digits")).fingerprint() for _ in range(2))
    assert first == second
    assert len(first) == 32

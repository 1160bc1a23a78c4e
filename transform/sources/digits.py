"""The source `digits`: 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries with it.

The offline default: nothing to download. Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten
Digits, UCI Machine Learning Repository, 1998 (its test set).
"""

from __future__ import annotations

import numpy as np

from transform.settings import DataSettings
from transform.sources.arrays import Arrays, ArraySource
from transform.sources.base import Source
from transform.sources.registry import register


class DigitsSource(ArraySource):
    """Digits as 8-bit gray; the 17 levels of the original are spread over 0 to 255."""

    def __init__(self) -> None:
        super().__init__("digits", [str(digit) for digit in range(10)], (8, 8, 1))

    def load(self) -> Arrays:
        """Read the array from scikit-learn."""
        from sklearn.datasets import load_digits

        data = load_digits()
        images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
        return Arrays(images, data.target.astype(np.int32), (("digits", len(images), -1),))


@register("digits")
def digits(settings: DataSettings) -> Source:
    """Return the built-in digits; they have no official split."""
    return DigitsSource()

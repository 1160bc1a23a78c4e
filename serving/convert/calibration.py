"""Representative images for quantizers that measure the ranges of activations.

Comes in: the .npz file that a `Conversion` names. Goes out: the pixels, checked against the model. Called by the
TFLite converters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.convert.job import Conversion
from serving.errors import ConversionError, ServingError
from serving.measure import images as image_files


@dataclass(frozen=True)
class Calibration:
    """Representative images.

    Attributes:
        pixels: uint8 [N, H, W, C].
        labels: int64 [N].
        details: For the outcome: number of images, seed of the sample, whether the range was completed.
    """

    pixels: np.ndarray
    labels: np.ndarray
    details: dict[str, Any]

    def batches(self) -> Iterator[list[np.ndarray]]:
        """Yield the images one at a time as TFLite wants them: `[float32 [1, H, W, C] in [0, 1]]`."""
        for image in self.pixels:
            yield [image[np.newaxis].astype(np.float32) / np.float32(255)]


def read(job: Conversion, shape: tuple[int, int, int]) -> Calibration:
    """Read the representative images of a conversion.

    The range of the input decides its quantization, and only if it is exactly 0 to 1 are raw pixels the quantized
    input. Where no image reaches black or white, one pixel of the first image is set to it.

    Args:
        job: The conversion; its option `seed` is the seed that the sample was drawn with.
        shape: Height, width and channels that the model takes.

    Raises:
        ConversionError: There is no file, or it holds no images or images of another shape.
    """
    if job.representative is None:
        raise ConversionError(
            f"{job.form} needs representative images to measure the ranges of activations, and got none. Give some "
            "hundred images of the training data."
        )
    try:
        found = image_files.load(job.representative)
        if found.shape != shape:
            raise ConversionError(
                f"the representative images are {_sizes(found.shape)}; the model takes {_sizes(shape)}. Sample them "
                "from the data that the model was trained on, after its preprocessing."
            )
        parts = list(found.read())
    except ConversionError:
        raise
    except ServingError as error:
        raise ConversionError(f"the representative images cannot be used: {error}") from error
    pixels = np.concatenate([part for part, _ in parts])
    labels = np.concatenate([part for _, part in parts])
    completed = _complete(pixels)
    details = {
        "representative_images": len(pixels),
        "seed": job.options.get("seed"),
        "representative_range_completed": completed,
    }
    return Calibration(pixels, labels, details)


def _complete(pixels: np.ndarray) -> bool:
    """Make sure that 0 and 255 occur; True if something had to be changed."""
    low, high = bool(pixels.min() > 0), bool(pixels.max() < 255)
    if low:
        pixels[0, 0, 0, 0] = 0
    if high:
        pixels[0, -1, -1, -1] = 255
    return low or high


def _sizes(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))

"""What an image is like in a few numbers, for the comparison of many images with many others.

Encoded images or pixels come in, a row of properties goes out. Light, noise, another camera or another crop change
these numbers before they change a model's accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transform.settings import ImageSettings

_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class Properties:
    """Properties of one image.

    Attributes:
        pixels: of the pixels at the model's input size: `brightness`, `contrast` and `sharpness` (shares of the full
            range), and of color images the share of each channel in the light.
        file: of the encoded image: `height`, `width` (pixels) and `aspect` (width by height); empty for pixels that a
            client had scaled already.
    """

    pixels: dict[str, float]
    file: dict[str, float]


def of_pixels(pixels: np.ndarray) -> Properties:
    """Return the properties of an image at the model's input size.

    Args:
        pixels: uint8 [H, W, C].
    """
    values = pixels.astype(np.float32) / 255.0
    steps = [np.abs(np.diff(values, axis=axis)).mean() if values.shape[axis] > 1 else 0.0 for axis in (0, 1)]
    found = {
        "brightness": float(values.mean()),
        "contrast": float(values.std()),
        "sharpness": float(np.mean(steps)),
    }
    if values.shape[-1] == len(_CHANNELS):
        light = values.mean(axis=(0, 1))
        total = float(light.sum())
        found |= {
            f"share of {name}": float(value) / total if total else 1 / len(_CHANNELS)
            for name, value in zip(_CHANNELS, light, strict=True)
        }
    return Properties(found, {})


def of_file(encoded: bytes, settings: ImageSettings) -> Properties | None:
    """Return the properties of an encoded image, or None if it can't be decoded.

    Args:
        encoded: PNG, JPEG, GIF or BMP.
        settings: the section `transform`, whose size and channels are the model's.
    """
    import tensorflow as tf

    from transform.images import decode, resize

    try:
        image = decode(tf.constant(encoded), settings.channels)
        height, width = (int(side) for side in image.shape[:2])
        pixels = resize(image, *settings.size).numpy()
    except (tf.errors.OpError, ValueError):
        return None
    file = {"height": float(height), "width": float(width), "aspect": width / height}
    return Properties(of_pixels(pixels).pixels, file)

"""Random changes of training images: small pure functions on whole batches, by name.

Uint8 images, targets and a key come in, uint8 images and targets go out; the same key gives the same result.
`build` chains functions by name; the trainer applies the chain after batching. Augmentation stands on the
critical path of training on a CPU, so nothing here loops over images.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from transform.errors import DataError, unknown_name

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Images uint8 [N, H, W, C]; targets, labels int [N] or probabilities float32 [N, K]; a key, integers [2]."""

_augmentations: dict[str, Augmentation] = {}


def register(name: str) -> Callable[[Augmentation], Augmentation]:
    """Return a decorator that makes an augmentation available under a name."""

    def keep(function: Augmentation) -> Augmentation:
        _augmentations[name] = function
        return function

    return keep


def names() -> tuple[str, ...]:
    """Return the names of all augmentations."""
    return tuple(sorted(_augmentations))


def build(wanted: Sequence[str]) -> Augmentation:
    """Return one function that applies the named augmentations in order.

    Args:
        wanted: names; each gets randomness of its own from the key.

    Raises:
        DataError: for a name that does not exist.
    """
    for name in wanted:
        if name not in _augmentations:
            raise unknown_name("augmentation", name, _augmentations)

    def apply(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for name in wanted:
            own = tf.random.experimental.stateless_fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
            images, targets = _augmentations[name](images, targets, own)
        return images, targets

    return apply


def _uniform(key: tf.Tensor, purpose: int, shape: Sequence[tf.Tensor | int], low: float, high: float) -> tf.Tensor:
    own = tf.random.experimental.stateless_fold_in(key, purpose)
    return tf.random.stateless_uniform(shape, own, low, high)


def _size(images: tf.Tensor) -> tuple[tf.Tensor, int, int]:
    """Return the batch size (a tensor), height and width (known to the graph)."""
    return tf.shape(images)[0], int(images.shape[1]), int(images.shape[2])


def _as_uint8(images: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(images), tf.uint8)


def _choose(mask: tf.Tensor, chosen: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Take pixels from one of two batches by a mask, bool [N, H, W]; faster than `tf.where`."""
    channels = images.shape[3]
    pixels = tf.raw_ops.Select(
        condition=tf.reshape(mask, [-1]),
        x=tf.reshape(chosen, [-1, channels]),
        y=tf.reshape(images, [-1, channels]),
    )
    return tf.reshape(pixels, tf.shape(images))


def _each(values: tf.Tensor) -> tf.Tensor:
    """Give one value per image the shape [N, 1, 1, 1]."""
    return values[:, None, None, None]


@register("flip")
def flip(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirror every other image, left to right (A. Krizhevsky et al., NIPS 2012, section 4.1)."""
    count, _, _ = _size(images)
    chosen = _uniform(key, 0, [count], 0.0, 1.0) < 0.5
    return tf.raw_ops.Select(condition=chosen, x=tf.reverse(images, [2]), y=images), targets


@register("shift")
def shift(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, share: float = 0.08) -> tuple[tf.Tensor, tf.Tensor]:
    """Move images by up to a share of their size (P. Simard et al., ICDAR 2003).

    By one pixel at least; what comes in repeats the border.
    """
    return _moved(images, key, share, lambda index, size: tf.clip_by_value(index, 0, size - 1)), targets


@register("random_crop")
def random_crop(
    images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, share: float = 0.125
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut images out of themselves, padded by reflection (K. He et al., CVPR 2016, section 4.2)."""

    def reflect(index: tf.Tensor, size: int) -> tf.Tensor:
        return (size - 1) - tf.abs((size - 1) - tf.abs(index))

    return _moved(images, key, share, reflect), targets


def _moved(images: tf.Tensor, key: tf.Tensor, share: float, inside: Callable[[tf.Tensor, int], tf.Tensor]) -> tf.Tensor:
    count, height, width = _size(images)
    for axis, size in ((1, height), (2, width)):
        reach = min(max(1, round(share * size)), size - 1)
        own = tf.random.experimental.stateless_fold_in(key, axis)
        by = tf.random.stateless_uniform([count, 1], own, -reach, reach + 1, tf.int32)
        images = tf.gather(images, inside(tf.range(size)[None] + by, size), axis=axis, batch_dims=1)
    return tf.ensure_shape(images, [None, height, width, images.shape[3]])


@register("rotate")
def rotate(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, degrees: float = 10.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Turn images about their center, bilinear, the border repeated (P. Simard et al., ICDAR 2003)."""
    count, height, width = _size(images)
    angle = _uniform(key, 0, [count], -degrees, degrees) * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    zero = tf.zeros_like(angle)
    matrix = [
        cos, -sin, middle_x - cos * middle_x + sin * middle_y,
        sin, cos, middle_y - sin * middle_x - cos * middle_y,
        zero, zero,
    ]  # fmt: skip
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack(matrix, axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    return _as_uint8(turned), targets


@register("cutout")
def cutout(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, share: float = 0.375) -> tuple[tf.Tensor, tf.Tensor]:
    """Cover a square of each image with the mean of the batch (T. DeVries, G. Taylor, arXiv:1708.04552).

    The square's center lies anywhere, so it may stick out.
    """
    count, height, width = _size(images)
    side = tf.fill([count], share * min(height, width))
    covered, _ = _boxes(count, height, width, side, side, key)
    mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[0, 1, 2], keepdims=True)
    return _choose(covered, tf.broadcast_to(_as_uint8(mean), tf.shape(images)), images), targets


def _boxes(
    count: tf.Tensor, height: int, width: int, tall: tf.Tensor, wide: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return one box per image as mask, bool [N, H, W], and the share of pixels in it, float32 [N]."""
    rows = _within(height, _uniform(key, 1, [count], 0.0, float(height)), tall)
    columns = _within(width, _uniform(key, 2, [count], 0.0, float(width)), wide)
    area = tf.reduce_mean(tf.cast(rows, tf.float32), 1) * tf.reduce_mean(tf.cast(columns, tf.float32), 1)
    return rows[:, :, None] & columns[:, None, :], area


def _within(size: int, middle: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Return which pixels of a side lie within half a length of a point, bool [N, size]."""
    return tf.abs(tf.range(size, dtype=tf.float32)[None] + 0.5 - middle[:, None]) < length[:, None] / 2


@register("mixup")
def mixup(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, alpha: float = 0.2) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend each image with its neighbor (H. Zhang et al., mixup, arXiv:1710.09412).

    The weight comes from Beta(alpha, alpha).     Batches are shuffled, so the neighbor is a random partner.
    Needs targets as probabilities [N, K].
    """
    _require_soft(targets, "mixup")
    count, _, _ = _size(images)
    gammas = tf.random.stateless_gamma([2, count], key, alpha=alpha) + 1e-12
    weight = gammas[0] / (gammas[0] + gammas[1])
    floats = tf.cast(images, tf.float32)
    blended = floats * _each(weight) + tf.roll(floats, 1, axis=0) * _each(1 - weight)
    return _as_uint8(blended), _blend(targets, weight)


@register("cutmix")
def cutmix(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace a box of each image by its neighbor's (S. Yun et al., ICCV 2019, arXiv:1905.04899; alpha = 1).

    Needs targets as probabilities [N, K].
    """
    _require_soft(targets, "cutmix")
    count, height, width = _size(images)
    side = tf.sqrt(1 - _uniform(key, 0, [count], 0.0, 1.0))
    replaced, area = _boxes(count, height, width, side * height, side * width, key)
    return _choose(replaced, tf.roll(images, 1, axis=0), images), _blend(targets, 1 - area)


def _blend(targets: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return targets * weight[:, None] + tf.roll(targets, 1, axis=0) * (1 - weight)[:, None]


def _require_soft(targets: tf.Tensor, name: str) -> None:
    if targets.shape.rank != 2 or not targets.dtype.is_floating:
        raise DataError(
            f"{name} got targets of type {targets.dtype.name} and shape {targets.shape}; expected "
            "probabilities, float32 [N, K]. Turn labels into one-hot targets first."
        )


@register("brightness")
def brightness(
    images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor, amount: float = 0.2
) -> tuple[tf.Tensor, tf.Tensor]:
    """Change brightness and contrast by up to an amount (A. Howard, arXiv:1312.5402, section 2)."""
    count, _, _ = _size(images)
    floats = tf.cast(images, tf.float32)
    mean = tf.reduce_mean(floats, axis=[1, 2, 3])
    contrast = _uniform(key, 0, [count], 1 - amount, 1 + amount)
    bright = _uniform(key, 1, [count], 1 - amount, 1 + amount)
    factor = _each(contrast * bright)
    return _as_uint8(floats * factor + _each(mean * bright * (1 - contrast))), targets

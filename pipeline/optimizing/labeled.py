"""Labeled images of any source for `slipway export` and `slipway benchmark`, without a pipeline run.

Comes in: a folder per class or a built-in name. Goes out: decoded images of a model's input size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from serving.measure.images import ImageBatches

TEST, TRAIN = "test", "train"


def read_images(
    source: str,
    shape: tuple[int, int, int],
    count: int,
    seed: int,
    split: str,
    labels: Sequence[str] | None = None,
) -> ImageBatches:
    """Draw labeled images from a source.

    Args:
        source: a folder per class, such folders below `train` and `test`, or a built-in name.
        shape: height, width and channels that the images are brought to.
        count: how many at most.
        seed: draws them.
        split: of a source that is split already, the split to draw from; others are drawn from as a whole.
        labels: class names in the order of the model's outputs; None: in the order of the source.

    Raises:
        DataError: there is no such source.
        ConfigError: it holds no image that can be read, or its classes are not those of the model.
    """
    import numpy as np

    from serving.measure.images import ImageBatches
    from transform import features
    from transform.settings import DataSettings
    from transform.sources.registry import build_source

    origin = build_source(DataSettings(source=source))
    listing = origin.listing()
    index_of = _indices(listing.labels, labels)
    rows = np.arange(len(listing))
    given = features.SPLITS.index(split)
    if (listing.given_split == given).any():
        rows = rows[listing.given_split == given]
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    pixels: list[np.ndarray] = []
    kept: list[int] = []
    for row, content in zip(drawn, origin.read(drawn), strict=True):
        image = _decoded(content, shape) if isinstance(content, bytes) else None
        if image is not None:
            pixels.append(image)
            kept.append(index_of[int(listing.label_ids[row])])
    if not pixels:
        raise ConfigError(f"{source}: none of {len(drawn):,} images can be read; expected PNG, JPEG, GIF or BMP files")
    return ImageBatches.of_arrays(np.stack(pixels), np.array(kept, np.int64))


def _indices(found: Sequence[str], labels: Sequence[str] | None) -> list[int]:
    """Return the model's output index of each of the source's classes."""
    if labels is None:
        return list(range(len(found)))
    unknown = sorted(set(found) - set(labels))
    if unknown:
        raise ConfigError(
            f"the images have the classes {', '.join(unknown[:5])}, which the model doesn't know; it knows "
            f"{', '.join(list(labels)[:10])}"
        )
    return [list(labels).index(name) for name in found]


def _decoded(content: bytes, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Return an image as the pipeline's own preprocessing decodes it, or None if it can't be decoded."""
    import tensorflow as tf

    from transform.images import decode_and_resize

    try:
        image: np.ndarray = decode_and_resize(tf.constant(content), *shape).numpy()
    except tf.errors.OpError:
        return None
    return image

"""The source `fashion_mnist`: 70,000 pieces of clothing, 28 x 28 gray, ten classes.

Taken from the folder in `data.path`, from the Debian package's files, from tf_keras's cache, or by tf_keras's
download, in this order. Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747.
"""

from __future__ import annotations

import os

import numpy as np

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources.arrays import Arrays, ArraySource
from transform.sources.base import Source
from transform.sources.idx import read_idx
from transform.sources.registry import register

LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PACKAGE_DIR = "/usr/share/datasets/fashion-mnist"
_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


class FashionMnistSource(ArraySource):
    """Four IDX files; the official test set is kept.

    Args:
        files: images and labels of train, then images and labels of test.
    """

    def __init__(self, files: list[str]) -> None:
        super().__init__("fashion_mnist", LABELS, (28, 28, 1), files)

    def load(self) -> Arrays:
        """Read the four files into one array."""
        images, labels = [read_idx(self.files[0]), read_idx(self.files[2])], []
        for file, pictures in zip((self.files[1], self.files[3]), images, strict=True):
            numbers = read_idx(file)
            if pictures.shape[1:] != (28, 28) or numbers.shape != pictures.shape[:1]:
                raise DataError(
                    f"{file!r} has the shape {numbers.shape} beside images of {pictures.shape}; "
                    "expected one label for each image of 28 x 28. Fetch the four files again."
                )
            if numbers.size and numbers.max() >= len(LABELS):
                raise DataError(f"{file!r} holds the label {numbers.max()}; expected 0 to 9. Fetch it again.")
            labels.append(numbers)
        parts = (("train", len(images[0]), 0), ("test", len(images[1]), 2))
        joined = np.concatenate(images)[..., None]
        return Arrays(joined, np.concatenate(labels).astype(np.int32), parts)


def _find(folder: str) -> list[str] | None:
    """Return the four files in a folder, packed or not, or None if one is missing."""
    found = []
    for name in _FILES:
        candidates = (os.path.join(folder, name + ".gz"), os.path.join(folder, name))
        path = next((path for path in candidates if os.path.isfile(path)), None)
        if path is None:
            return None
        found.append(path)
    return found


def keras_cache() -> str:
    """Return the folder in which tf_keras keeps data sets."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return os.path.join(home, "datasets")


def find_files() -> list[str] | None:
    """Return the four files where they are at hand without a download, else None."""
    cache = os.path.join(keras_cache(), "fashion-mnist")
    return _find(PACKAGE_DIR) or _find(cache)


def _download() -> list[str]:
    cache = os.path.join(keras_cache(), "fashion-mnist")
    try:
        import tf_keras

        tf_keras.datasets.fashion_mnist.load_data()
    except Exception as error:
        raise DataError(
            f"fashion_mnist is neither in {PACKAGE_DIR!r} nor in {cache!r}, and the download failed: "
            f"{error}. Install the Debian package dataset-fashion-mnist, or put the four *-ubyte.gz files "
            "into a folder and name it in data.path."
        ) from error
    found = _find(cache)
    if found is None:
        raise DataError(f"tf_keras did not leave the four files in {cache!r}; name their folder in data.path.")
    return found


@register("fashion_mnist")
def fashion_mnist(settings: DataSettings) -> Source:
    """Return Fashion-MNIST from `data.path`, the Debian package, the cache or a download."""
    if settings.path is not None:
        found = _find(settings.path)
        if found is None:
            expected = ", ".join(f"{name}.gz" for name in _FILES)
            raise DataError(f"data.path is {settings.path!r}; expected a folder that holds {expected}.")
        return FashionMnistSource(found)
    return FashionMnistSource(find_files() or _download())

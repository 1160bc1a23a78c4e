"""The source `cifar10`: 60,000 photos, 32 x 32 RGB, ten classes.

Taken from the folder in `data.path` (class folders of image files below `train` and `test`, or the binary
version), from tf_keras's cache, or by tf_keras's download. The Python version of the data set is a pickle,
that is, a program; it is never loaded. Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny
Images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import os
import tarfile

import numpy as np

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources.arrays import Arrays, ArraySource
from transform.sources.base import Source
from transform.sources.fashion_mnist import keras_cache
from transform.sources.folder import FolderSource
from transform.sources.registry import register

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FOLDER = "cifar-10-batches-bin"
_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_RECORD = 1 + 3 * 32 * 32
_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as its page gives it


class Cifar10Source(ArraySource):
    """The binary version: records of a label byte and three planes of 32 x 32; the official test set is kept.

    Args:
        files: the batches of train, then the batch of test.
    """

    def __init__(self, files: list[str]) -> None:
        super().__init__("cifar10", LABELS, (32, 32, 3), files)

    def load(self) -> Arrays:
        """Read the batches into one array."""
        batches = [_read_batch(file) for file in self.files]
        test = len(batches[-1])
        train = sum(map(len, batches)) - test
        images = np.empty((train + test, 32, 32, 3), np.uint8)
        labels = np.empty(train + test, np.int32)
        at = 0
        for batch in batches:
            labels[at : at + len(batch)] = batch[:, 0]
            images[at : at + len(batch)] = batch[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            at += len(batch)
        return Arrays(images, labels, (("train", train, 0), ("test", test, 2)))


def _read_batch(path: str) -> np.ndarray:
    try:
        flat = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path!r} cannot be read: {error.strerror or error}.") from error
    if not flat.size or flat.size % _RECORD:
        raise DataError(f"{path!r} has {flat.size:,} bytes; expected records of {_RECORD} bytes. Fetch it again.")
    batch = flat.reshape(-1, _RECORD)
    if batch[:, 0].max() >= len(LABELS):
        raise DataError(f"{path!r} holds the label {batch[:, 0].max()}; expected 0 to 9. Fetch it again.")
    return batch


def _find(folder: str) -> list[str] | None:
    """Return the six batches in a folder or in the one that the archive makes there, or None."""
    for place in (folder, os.path.join(folder, _FOLDER)):
        files = [os.path.join(place, name) for name in _FILES]
        if all(os.path.isfile(file) for file in files):
            return files
    return None


def _holds_pickles(folder: str) -> bool:
    places = (folder, os.path.join(folder, "cifar-10-batches-py"))
    return any(os.path.isfile(os.path.join(place, "data_batch_1")) for place in places)


def _from_folder(path: str) -> Source:
    if not os.path.isdir(path):
        raise DataError(f"data.path is {path!r}; there is no such folder.")
    if found := _find(path):
        return Cifar10Source(found)
    if _holds_pickles(path):
        raise DataError(
            f"{path!r} holds the Python version of CIFAR-10. It is a pickle, which can run any program when "
            f"it is loaded, so it is not. Fetch the binary version ({_URL}) and name its folder in data.path."
        )
    return FolderSource(path, "cifar10")


def _download() -> list[str]:
    cache = keras_cache()
    try:
        import tf_keras

        archive = tf_keras.utils.get_file("cifar-10-binary.tar.gz", _URL, file_hash=_MD5, hash_algorithm="md5")
        os.makedirs(os.path.join(cache, _FOLDER), exist_ok=True)
        with tarfile.open(archive) as tar:
            for name in _FILES:
                _unpack(tar, f"{_FOLDER}/{name}", os.path.join(cache, _FOLDER, name))
    except Exception as error:
        raise DataError(
            f"cifar10 is not in {cache!r}, and the download failed: {error}. Fetch {_URL} elsewhere, unpack "
            "it and name its folder in data.path; class folders of JPEG or PNG files below train and test "
            "do as well."
        ) from error
    return [os.path.join(cache, _FOLDER, name) for name in _FILES]


def _unpack(tar: tarfile.TarFile, member: str, target: str) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ValueError(f"the archive holds no file {member!r}")
    with open(target + ".part", "wb") as file:
        file.write(content.read())
    os.replace(target + ".part", target)


@register("cifar10")
def cifar10(settings: DataSettings) -> Source:
    """Return CIFAR-10 from `data.path`, the cache or a download."""
    if settings.path is not None:
        return _from_folder(settings.path)
    return Cifar10Source(_find(keras_cache()) or _download())

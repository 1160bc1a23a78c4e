"""Labeled images, batch by batch, for measuring and for calibrating.

Comes in: arrays, or an .npz file that `ImageBatches.save` wrote. Goes out: batches of uint8 pixels with their
labels. Called by everything that runs a converted model: quantizers (representative images), the measurement
and the edge bundle. Images travel to subprocesses as such a file, which is written and read in a stream.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from serving.errors import ServingError

Batch = tuple[np.ndarray, np.ndarray]

_BATCH = 256
# The same bytes for the same images, whenever they are written.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ImageBatches:
    """A set of labeled images that can be read again and again.

    Attributes:
        shape: Height, width and channels of every image.
        size: Number of images.
        read: Starts a fresh pass over the set: (pixels uint8 [n, H, W, C], labels int64 [n]) per batch.
    """

    shape: tuple[int, int, int]
    size: int
    read: Callable[[], Iterator[Batch]]

    @classmethod
    def of_arrays(cls, pixels: np.ndarray, labels: np.ndarray, batch: int = _BATCH) -> ImageBatches:
        """Wrap images that are in memory.

        Args:
            pixels: uint8 [N, H, W, C], values 0 to 255.
            labels: Integers [N].
            batch: Images per batch; the last batch may be smaller.

        Raises:
            ServingError: Another dtype or shape, no images at all, or not one label per image.
        """
        pixels, labels = np.asarray(pixels), np.asarray(labels)
        _check_arrays("the images", pixels.dtype, pixels.shape, labels.dtype, labels.shape)
        if batch < 1:
            raise ServingError(f"A batch of {batch} images was asked for; expected 1 or more.")
        whole = labels.astype(np.int64)

        def read() -> Iterator[Batch]:
            for start in range(0, len(whole), batch):
                yield pixels[start : start + batch], whole[start : start + batch]

        return cls(shape=(pixels.shape[1], pixels.shape[2], pixels.shape[3]), size=len(whole), read=read)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an .npz file with `pixels` uint8 [N, H, W, C] and `labels` int64 [N], as a whole or not at all.

        Holds one batch in memory. The same images give the same bytes.

        Raises:
            ServingError: A batch has another dtype or shape than the set, or there are more or fewer images.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.new")
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                labels = self._write_pixels(archive)
                with archive.open(zipfile.ZipInfo("labels.npy", _TIMESTAMP), "w") as stream:
                    np.lib.format.write_array(stream, labels, allow_pickle=False)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _write_pixels(self, archive: zipfile.ZipFile) -> np.ndarray:
        labels = np.empty(self.size, np.int64)
        done = 0
        with archive.open(zipfile.ZipInfo("pixels.npy", _TIMESTAMP), "w", force_zip64=True) as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (self.size, *self.shape)}
            np.lib.format.write_array_header_1_0(stream, header)
            for pixels, batch_labels in self.read():
                count = len(batch_labels)
                _check_batch(pixels, batch_labels, self.shape)
                if done + count > self.size:
                    raise ServingError(f"The set announced {self.size:,} images, but gives more.")
                labels[done : done + count] = batch_labels
                stream.write(np.ascontiguousarray(pixels).data)
                done += count
        if done != self.size or not done:
            raise ServingError(f"The set announced {self.size:,} images and gave {done:,}; expected one or more.")
        return labels


def load(path: str | os.PathLike[str], batch: int = _BATCH) -> ImageBatches:
    """Open a file that `ImageBatches.save` wrote; the pixels stay on disk until they are read.

    Args:
        path: The .npz file.
        batch: Images per batch.

    Returns:
        The images. Reading them raises ServingError if the content does not match its checksum.

    Raises:
        ServingError: The file is missing, empty, truncated, no .npz file, lacks an array, or an array has another
            dtype or shape.
    """
    file = Path(path)
    if batch < 1:
        raise ServingError(f"A batch of {batch} images was asked for; expected 1 or more.")
    with _archive(file) as archive:
        shape, dtype = _header(file, archive, "pixels")
        label_shape, label_dtype = _header(file, archive, "labels")
        _check_arrays(str(file), dtype, shape, label_dtype, label_shape)
        with _member(file, archive, "labels") as stream:
            labels = np.lib.format.read_array(stream, allow_pickle=False).astype(np.int64)

    def read() -> Iterator[Batch]:
        with _archive(file) as archive, _member(file, archive, "pixels") as stream:
            _read_header(stream)
            for start in range(0, len(labels), batch):
                part = labels[start : start + batch]
                yield _read_pixels(file, stream, (len(part), *shape[1:])), part

    return ImageBatches(shape=(shape[1], shape[2], shape[3]), size=len(labels), read=read)


def representative(images: ImageBatches, count: int, seed: int) -> ImageBatches:
    """Draw a seeded sample in which the labels are as evenly present as the set allows.

    Reads the set twice and holds only the images drawn. The labels take turns; one that has run out is passed
    over.

    Args:
        images: The set to draw from, without replacement.
        count: How many images; the whole set, shuffled, if it has no more.
        seed: The same seed draws the same images in the same order.

    Raises:
        ServingError: `count` is below 1, or the set has no images.
    """
    if count < 1:
        raise ServingError(f"A representative set of {count} images was asked for; expected 1 or more.")
    labels = np.concatenate([np.zeros(0, np.int64), *(batch_labels for _, batch_labels in images.read())])
    if not len(labels):
        raise ServingError("The set to draw representative images from is empty; expected one image or more.")
    chosen = _stratified(labels, count, np.random.default_rng(seed))
    places = {int(index): place for place, index in enumerate(chosen)}
    pixels = np.empty((len(chosen), *images.shape), np.uint8)
    start = 0
    for batch, batch_labels in images.read():
        for row in range(len(batch_labels)):
            place = places.get(start + row)
            if place is not None:
                pixels[place] = batch[row]
        start += len(batch_labels)
    return ImageBatches.of_arrays(pixels, labels[chosen])


def _stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Indices of the sample: sorted by turn, so that label 1's second image comes after everyone's first."""
    order = generator.permutation(len(labels))
    _, inverse = np.unique(labels[order], return_inverse=True)
    turn = np.empty(len(order), np.int64)
    for label in range(int(inverse.max()) + 1):
        members = np.flatnonzero(inverse == label)
        turn[members] = np.arange(len(members))
    # The sort is stable: within a turn the shuffled order stays, so no label is always first.
    return order[np.argsort(turn, kind="stable")[:count]]


def _check_arrays(
    what: str, dtype: Any, shape: tuple[int, ...], label_dtype: Any, label_shape: tuple[int, ...]
) -> None:
    if dtype != np.uint8 or len(shape) != 4:
        raise ServingError(f"{what}: pixels are {dtype} {list(shape)}, expected uint8 [N, H, W, C].")
    if 0 in shape[1:]:
        raise ServingError(f"{what}: pixels have the shape {list(shape)}, expected no dimension of 0.")
    if np.dtype(label_dtype).kind not in "iu" or len(label_shape) != 1:
        raise ServingError(f"{what}: labels are {label_dtype} {list(label_shape)}, expected int64 [N].")
    if label_shape[0] != shape[0]:
        raise ServingError(f"{what}: {shape[0]:,} images and {label_shape[0]:,} labels, expected one label each.")
    if not shape[0]:
        raise ServingError(f"{what}: the set is empty, expected one image or more.")


def _check_batch(pixels: np.ndarray, labels: np.ndarray, shape: tuple[int, int, int]) -> None:
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), *shape):
        expected = f"uint8 {[len(labels), *shape]}"
        raise ServingError(f"A batch of the set is {pixels.dtype} {list(pixels.shape)}, expected {expected}.")


def _archive(file: Path) -> zipfile.ZipFile:
    if not file.is_file():
        raise ServingError(f"{file} does not exist; expected an .npz file with the arrays pixels and labels.")
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError) as error:
        size = file.stat().st_size
        raise ServingError(
            f"{file} ({size:,} bytes) is no complete .npz file: {error}. It is empty or truncated; write it again."
        ) from error


def _member(file: Path, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    try:
        return archive.open(f"{name}.npy")
    except KeyError as error:
        found = ", ".join(archive.namelist()) or "nothing"
        raise ServingError(f"{file} holds {found}; expected the arrays pixels and labels.") from error
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise ServingError(f"{file}: {name} cannot be read: {error}. Write the file again.") from error


def _header(file: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, whose data must be exactly as long as they say."""
    with _member(file, archive, name) as stream:
        try:
            shape, fortran, dtype = _read_header(stream)
        except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise ServingError(f"{file}: {name} is no plain array: {error}. Write the file again.") from error
        if fortran:
            raise ServingError(f"{file}: {name} is stored column by column; expected rows (C order).")
        if dtype.hasobject:
            raise ServingError(f"{file}: {name} holds Python objects; expected plain numbers.")
        length = archive.getinfo(f"{name}.npy").file_size - stream.tell()
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if length != expected:
        raise ServingError(f"{file}: {name} {list(shape)} has {length:,} bytes, expected {expected:,}; truncated?")
    return shape, dtype


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(stream)


def _read_pixels(file: Path, stream: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    length = int(np.prod(shape, dtype=np.int64))
    try:
        data = stream.read(length)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise ServingError(f"{file}: pixels are damaged: {error}. Write the file again.") from error
    if len(data) != length:
        raise ServingError(f"{file}: pixels end after {len(data):,} of {length:,} bytes of a batch. Write it again.")
    return np.frombuffer(data, np.uint8).reshape(shape)

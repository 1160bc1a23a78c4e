"""The base of sources whose images lie in one array: built-in data sets of small images of one size.

Subclasses load the array; this class digests pixels without encoding them, encodes PNG in batches and shares
the array between all copies of a source in a process.
"""

from __future__ import annotations

import abc
import hashlib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transform.header import Header
from transform.png import encode_png
from transform.sources.base import DIGEST_BYTES, Listing, Source, Unreadable, content_digest
from transform.sources.refs import NumberColumn
from transform.sources.stat_cache import StatCache

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Arrays:
    """A loaded data set.

    Attributes:
        images: uint8 [N, height, width, channels].
        label_ids: int32 [N].
        parts: name, number of examples and given split (-1: none) of each part, in order.
    """

    images: np.ndarray
    label_ids: np.ndarray
    parts: tuple[tuple[str, int, int], ...]


# A pickled source travels to workers without its array; all copies in a process share one while any lives.
_loaded: weakref.WeakValueDictionary[str, Arrays] = weakref.WeakValueDictionary()


class ArraySource(Source):
    """Labeled images in one array.

    Args:
        name: how reports call the source.
        labels: class names.
        shape: height, width and channels of every image.
        files: the files behind it; their content is the fingerprint.
    """

    def __init__(
        self, name: str, labels: Sequence[str], shape: tuple[int, int, int], files: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.files = tuple(files)
        height, width, channels = shape
        self.encoding = Header("png", height, width, channels, height * width)
        self._arrays: Arrays | None = None
        self._listing: Listing | None = None

    @abc.abstractmethod
    def load(self) -> Arrays:
        """Read the array; called once in a process."""

    @property
    def arrays(self) -> Arrays:
        """The loaded array."""
        if self._arrays is None:
            key = "\0".join((type(self).__qualname__, *self.files))
            self._arrays = _loaded.get(key) or self.load()
            _loaded[key] = self._arrays
        return self._arrays

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_arrays": None, "_listing": None}

    def listing(self) -> Listing:
        """Return all examples; see `Source.listing`."""
        if self._listing is None:
            parts = self.arrays.parts
            given = np.repeat(np.array([split for *_, split in parts], np.int8), [count for _, count, _ in parts])
            refs = NumberColumn([(name, count) for name, count, _ in parts])
            self._listing = Listing(refs, self.arrays.label_ids, given, self.labels)
        return self._listing

    def read(self, indices: np.ndarray, max_bytes: int | None = None) -> Iterator[bytes | Unreadable]:
        """Yield PNG files; see `Source.read`. `max_bytes` does not apply to images encoded here."""
        images = self.arrays.images
        for start in range(0, len(indices), _BATCH):
            yield from encode_png(images[indices[start : start + _BATCH]])

    def digests(self, indices: np.ndarray) -> np.ndarray:
        """Return digests of the pixels, uint8 [n, 16], without encoding anything."""
        rows = self.arrays.images.reshape(len(self.arrays.images), -1)
        joined = b"".join(content_digest(rows[index].data) for index in indices)
        return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES)

    def fingerprint(self, cache: StatCache | None = None) -> str:
        """Return a hash of the files or, where there are none, of the array; see `Source.fingerprint`."""
        digest = hashlib.blake2b(repr((self.labels, self.encoding)).encode(), digest_size=DIGEST_BYTES)
        if self.files:
            cache = cache or StatCache()
            for file in self.files:
                digest.update(cache.digest(file))
        else:
            digest.update(np.ascontiguousarray(self.arrays.images).data)
            digest.update(np.ascontiguousarray(self.arrays.label_ids).data)
        return digest.hexdigest()

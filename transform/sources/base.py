"""What a source is: the one interface between raw data and everything behind it.

A source lists its examples, hands out their encoded bytes and digests by index and fingerprints its content.
`transform.ingest` plans with the listing in the driver and reads chunks of indices in Beam workers, so a
source must be picklable and must never hold all encoded bytes at once.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transform.header import Header
    from transform.sources.stat_cache import StatCache

DIGEST_BYTES = 16


def content_digest(content: bytes | memoryview) -> bytes:
    """Return the 16-byte BLAKE2b digest by which two contents count as the same."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class Unreadable:
    """What `Source.read` yields in place of bytes that could not be had.

    Attributes:
        reason: half a sentence for the user, for example `"permission denied"`.
    """

    reason: str


@dataclass(frozen=True)
class Listing:
    """All examples of a source as columns.

    Attributes:
        refs: names of the examples, relative to the source; N of them.
        label_ids: int32 [N], indices into `labels`.
        given_split: int8 [N], index into `features.SPLITS`, or -1 where the data gives none.
        labels: class names in the order of their ids.
        ignored: how many files were passed over, by reason.
    """

    refs: Sequence[str]
    label_ids: np.ndarray
    given_split: np.ndarray
    labels: tuple[str, ...]
    ignored: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.refs)


class Source(abc.ABC):
    """A set of labeled images that can be listed, read by index and fingerprinted.

    Attributes:
        name: how reports call the source.
        encoding: format and shape of every image where the source encodes the images itself; None where they
            are files from outside, which have to be checked before they are used.
    """

    name: str = ""
    encoding: Header | None = None

    @property
    def trusted_encoding(self) -> bool:
        """Whether the bytes need no check because this project encoded them."""
        return self.encoding is not None

    @abc.abstractmethod
    def listing(self) -> Listing:
        """Return all examples; the same object at every call."""

    @abc.abstractmethod
    def read(self, indices: np.ndarray, max_bytes: int | None = None) -> Iterator[bytes | Unreadable]:
        """Yield the encoded image of each index, in the order of `indices`.

        Args:
            indices: positions in the listing, int64 [n].
            max_bytes: larger files are not read but yielded as `Unreadable`.

        Yields:
            The encoded bytes, or why there are none. Memory is bounded whatever n is.
        """

    def digests(self, indices: np.ndarray) -> np.ndarray:
        """Return the content digests of some examples as uint8 [n, 16]; zeros for what cannot be read."""
        out = np.zeros((len(indices), DIGEST_BYTES), np.uint8)
        for row, content in enumerate(self.read(indices)):
            if isinstance(content, bytes):
                out[row] = np.frombuffer(content_digest(content), np.uint8)
        return out

    def provenance(self) -> dict[str, Any]:
        """Return which spans the examples are from, as plain data for the report; empty where there are none.

        The keys are `from` and `to` (numbers of the first and last span), `used` (span, version, folder and images of
        each) and `passed_over` (folder and reason).
        """
        return {}

    @abc.abstractmethod
    def fingerprint(self, cache: StatCache | None = None) -> str:
        """Return a hash of the content: pixels or files, class names and given splits, nothing else.

        Where the data lies, what files are called below their class and when they were written makes no
        difference.

        Args:
            cache: remembers digests of files, so that unchanged files are not read again.

        Returns:
            32 hexadecimal digits.
        """

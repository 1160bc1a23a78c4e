"""The source `folder`: a folder per class, or such folders below `train`, `val` and `test`.

The layout is told by the names; `transform.sources.scan` walks it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources.base import DIGEST_BYTES, Listing, Source, Unreadable
from transform.sources.registry import LAYOUT, register
from transform.sources.scan import scan_folder
from transform.sources.stat_cache import StatCache


class FolderSource(Source):
    """Image files below a root.

    Args:
        root: the folder; relative names are taken from the current folder, once.
        name: how reports call the source.
    """

    def __init__(self, root: str, name: str = "folder") -> None:
        self.root = os.path.realpath(root)
        self.name = name
        self._listing: Listing | None = None

    def listing(self) -> Listing:
        """Return all images; see `Source.listing`. The folder is walked once, copies carry the result."""
        if self._listing is None:
            self._listing = scan_folder(self.root)
        return self._listing

    def path(self, index: int) -> str:
        """Return the path of a file."""
        return os.path.join(self.root, self.listing().refs[index])

    def read(self, indices: np.ndarray, max_bytes: int | None = None) -> Iterator[bytes | Unreadable]:
        """Yield the files' bytes; see `Source.read`."""
        for index in indices:
            yield _read(self.path(int(index)), max_bytes)

    def fingerprint(self, cache: StatCache | None = None) -> str:
        """Return a hash of contents, class names and splits; see `Source.fingerprint`."""
        listing = self.listing()
        digests = (cache or StatCache()).digests(self.path(index) for index in range(len(listing)))
        classes: dict[tuple[int, int], list[bytes]] = {}
        for split, label, digest in zip(listing.given_split, listing.label_ids, digests, strict=True):
            classes.setdefault((int(split), int(label)), []).append(digest)
        out = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for (split, label), members in sorted(classes.items()):
            out.update(f"{split} {len(members)} {listing.labels[label]}\n".encode())
            out.update(b"".join(sorted(members)))
        return out.hexdigest()


def _read(path: str, max_bytes: int | None) -> bytes | Unreadable:
    try:
        with open(path, "rb") as file:
            if max_bytes is None:
                return file.read()
            content = file.read(max_bytes + 1)
            if len(content) <= max_bytes:
                return content
            size = os.fstat(file.fileno()).st_size
            return Unreadable(f"{size:,} bytes, more than data.max_image_bytes ({max_bytes:,})")
    except OSError as error:
        return Unreadable(f"cannot be read: {error.strerror}")


@register("folder")
def folder(settings: DataSettings) -> Source:
    """Return the folder that `data.path` names."""
    if settings.path is None:
        raise DataError(f"data.source is 'folder' without data.path; name a folder that looks like this:\n{LAYOUT}")
    if not os.path.isdir(settings.path):
        raise DataError(
            f"data.path is {settings.path!r}; there is no such folder (looked for "
            f"{os.path.abspath(settings.path)!r}). Expected one that looks like this:\n{LAYOUT}"
        )
    return FolderSource(settings.path)

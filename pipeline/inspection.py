"""What a folder of images holds, told from names and headers without decoding a pixel.

A path comes in, `FolderFacts` go out. `pipeline.initialize` chooses the settings of a config by them.
"""

from __future__ import annotations

import os
import random
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from transform.errors import DataError
from transform.features import SPLITS
from transform.progress import report

if TYPE_CHECKING:
    from transform.sources import Listing

SAMPLE = 1000
"""Headers that are read; the median size of a thousand images is that of the folder."""

SECONDS = 30.0
"""After this time the headers read so far must do; network folders can be slow."""

_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L"})
_SEED = 7


@dataclass(frozen=True)
class FolderFacts:
    """What a folder of images holds.

    Attributes:
        path: the folder, absolute.
        counts: images per class, in the order of the labels.
        splits: images per split that the folder gives itself; empty for a folder per class.
        ignored: files that were passed over, by reason.
        sampled: images whose header was read.
        formats: sampled images by format, most frequent first.
        size: median height and width in pixels of the sample.
        smallest: height and width of the smallest sampled image.
        largest: height and width of the largest sampled image.
        gray: sampled images that are stored without color.
        unreadable: sampled files whose header could not be read, with the reason.
        hurried: whether the time ran out before the sample was complete.
    """

    path: Path
    counts: dict[str, int]
    splits: dict[str, int]
    ignored: dict[str, int]
    sampled: int
    formats: dict[str, int]
    size: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    gray: int
    unreadable: tuple[tuple[str, str], ...]
    hurried: bool

    @property
    def images(self) -> int:
        """Number of images in all classes."""
        return sum(self.counts.values())

    @property
    def majority(self) -> float:
        """Share of the largest class: the accuracy of a model that always answers it."""
        return max(self.counts.values()) / self.images

    @property
    def imbalance(self) -> float:
        """How many times the largest class outnumbers the smallest."""
        return max(self.counts.values()) / max(min(self.counts.values()), 1)

    @property
    def one_size(self) -> bool:
        """Whether all sampled images have the same size."""
        return self.smallest == self.largest


def inspect_folder(path: str | os.PathLike[str], sample: int = SAMPLE, seconds: float = SECONDS) -> FolderFacts:
    """Look at a folder of images.

    All files are counted; sizes, formats and colors come from the headers of a random sample. Progress is
    reported to `transform.progress`.

    Args:
        path: a folder per class, or such folders below `train`, `val` and `test`.
        sample: how many headers to read at most.
        seconds: how long to read headers at most.

    Returns:
        The facts; equal folders give equal facts unless the time runs out.

    Raises:
        ConfigError: if the path is no such folder, or no image in it can be read.
    """
    folder = Path(os.path.abspath(path))
    _require_folder(folder)
    listing = _listing(folder)
    header = _Headers(folder, seconds)
    chosen = sorted(random.Random(_SEED).sample(range(len(listing)), min(sample, len(listing))))
    for done, index in enumerate(chosen, 1):
        header.read(listing.refs[index])
        if done % 100 == 0 or done == len(chosen):
            report(done, len(chosen), "images")
        if header.late():
            break
    if not header.sizes:
        file, reason = header.unreadable[0]
        raise ConfigError(
            f"None of the {len(header.unreadable)} images tried in {folder} can be read; {file}: {reason}"
        )
    return _facts(folder, listing, header, hurried=len(header.unreadable) + len(header.sizes) < len(chosen))


def _require_folder(folder: Path) -> None:
    from transform.sources.registry import LAYOUT

    if not folder.exists():
        raise ConfigError(f"{folder} does not exist; expected a folder that looks like this:\n{LAYOUT}")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file; expected a folder that looks like this:\n{LAYOUT}")
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{str(folder)!a}: the name is not UTF-8, so a config cannot hold it; rename it") from None


def _listing(folder: Path) -> Listing:
    from transform.sources.registry import LAYOUT
    from transform.sources.scan import EXTENSIONS, scan_folder

    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from None
    if not entries:
        raise ConfigError(f"{folder} is empty; expected a folder that looks like this:\n{LAYOUT}")
    if not any(entry.is_dir() for entry in entries):
        loose = sum(os.path.splitext(entry.name)[1].lower() in EXTENSIONS for entry in entries)
        what = f"{loose} images lie directly in {folder}" if loose else f"{folder} holds no folders and no images"
        raise ConfigError(f"{what}, so there are no labels; sort the images into one folder per class:\n{LAYOUT}")
    try:
        return scan_folder(str(folder))
    except DataError as error:
        raise ConfigError(str(error)) from None


class _Headers:
    """What the headers read so far say."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._end = time.monotonic() + seconds
        self.sizes: list[tuple[int, int]] = []
        self.formats: Counter[str] = Counter()
        self.gray = 0
        self.unreadable: list[tuple[str, str]] = []

    def late(self) -> bool:
        """Return whether the time is over; at least one header is always read."""
        return bool(self.sizes) and time.monotonic() > self._end

    def read(self, ref: str) -> None:
        """Read the header of one file, given relative to the folder."""
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a large image is no reason to warn: nothing is decoded
                with Image.open(self._folder / ref) as image:
                    mode, size, kind = image.mode, image.size, image.format
        except UnidentifiedImageError:
            self.unreadable.append((ref, "empty" if self._is_empty(ref) else "not an image that Pillow knows"))
        except Exception as error:  # decoders fail in many ways on damaged files
            self.unreadable.append((ref, f"{type(error).__name__}: {error}"))
        else:
            self.sizes.append((size[1], size[0]))
            self.formats[str(kind).lower()] += 1
            self.gray += mode in _GRAY_MODES

    def _is_empty(self, ref: str) -> bool:
        return (self._folder / ref).stat().st_size == 0


def _facts(folder: Path, listing: Listing, header: _Headers, hurried: bool) -> FolderFacts:
    by_area = sorted(header.sizes, key=lambda size: (size[0] * size[1], size))
    return FolderFacts(
        path=folder,
        counts=dict(_counted(listing)),
        splits={
            name: int((listing.given_split == number).sum())
            for number, name in enumerate(SPLITS)
            if (listing.given_split == number).any()
        },
        ignored=dict(listing.ignored),
        sampled=len(header.sizes) + len(header.unreadable),
        formats=dict(header.formats.most_common()),
        size=(
            round(statistics.median(height for height, _ in header.sizes)),
            round(statistics.median(width for _, width in header.sizes)),
        ),
        smallest=by_area[0],
        largest=by_area[-1],
        gray=header.gray,
        unreadable=tuple(header.unreadable),
        hurried=hurried,
    )


def _counted(listing: Listing) -> Iterator[tuple[str, int]]:
    import numpy as np

    counts = np.bincount(listing.label_ids, minlength=len(listing.labels))
    for label, count in zip(listing.labels, counts, strict=True):
        yield label, int(count)

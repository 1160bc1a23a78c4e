"""Walks folders of images: which files count, in which class and split they lie.

A folder comes in, the columns of a listing go out. `transform.sources.folder` is the caller.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from transform.errors import DataError
from transform.features import SPLITS
from transform.sources.base import Listing
from transform.sources.refs import PathColumn, printable
from transform.sources.registry import LAYOUT

# Formats that nothing here reads (HEIC) count all the same: better a clear refusal than a silent gap.
EXTENSIONS = frozenset(
    {
        ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
        ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
SPLIT_FOLDERS = {
    "train": 0, "training": 0,
    "val": 1, "eval": 1, "valid": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key that puts `10` after `9` and ignores case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


@dataclass
class _Scan:
    """One walk: where it started and what it passed over."""

    root: str
    ignored: Counter[str] = field(default_factory=Counter)

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Return what lies in a folder, hidden things left out, links checked, in byte order."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise DataError(f"The folder {printable(folder)!r} cannot be read: {error.strerror}.") from error
        visible = [entry for entry in entries if not _is_hidden(entry.name)]
        self.ignored["hidden"] += len(entries) - len(visible)
        for entry in visible:
            if entry.is_symlink():
                self._refuse_stray_link(entry)
        return visible

    def _refuse_stray_link(self, entry: os.DirEntry[str]) -> None:
        target = os.path.realpath(entry.path)
        if os.path.commonpath([self.root, target]) != self.root:
            raise DataError(
                f"{printable(entry.path)!r} is a link to {printable(target)!r}, outside of the data folder "
                f"{printable(self.root)!r}. Links must stay inside it: copy the files, or name the folder "
                "that holds them all."
            )
        if entry.is_dir():
            raise DataError(
                f"{printable(entry.path)!r} is a link to the folder {printable(target)!r} of the same data; "
                "its images would count twice. Remove the link."
            )

    def folders(self, folder: str) -> dict[str, str]:
        """Return the folders in a folder, name to path; images beside them belong to no class."""
        entries = self.entries(folder)
        self.ignored["outside of a class folder"] += sum(not entry.is_dir() for entry in entries)
        return {entry.name: entry.path for entry in entries if entry.is_dir()}

    def images(self, folder: str) -> Iterator[str]:
        """Yield the images below a folder, at any depth, as paths relative to the root."""
        for entry in self.entries(folder):
            if entry.is_dir():
                yield from self.images(entry.path)
            elif not _is_image(entry.name):
                self.ignored["not an image by its extension"] += 1
            elif entry.is_file() or entry.is_symlink():
                yield os.path.relpath(entry.path, self.root)
            else:
                self.ignored["not a regular file"] += 1


def holds_images(folder: str) -> bool:
    """Return whether there is a file with the name of an image at any depth below a folder."""
    return any(
        _is_image(name) and not _is_hidden(name) for _, _, names in os.walk(folder, followlinks=False) for name in names
    )


def scan_folder(path: str, least_classes: int = 2) -> Listing:
    """List a folder per class, or such folders below `train`, `val` and `test`.

    Args:
        path: the root.
        least_classes: how many classes there have to be; a part of a larger set may have fewer than two.

    Returns:
        The listing; classes in natural order, files in byte order of their paths.

    Raises:
        DataError: if the layout cannot be understood, a class name cannot be used, a class lies only in eval
            or test, or a link leaves the root.
    """
    root = os.path.realpath(path)
    scan = _Scan(root)
    folders = scan.folders(root)
    if _is_split(root, folders):
        by_split = _split_folders(folders)
        classes = {split: _classes(scan, folder) for split, folder in by_split.items()}
    else:
        classes = {-1: _classes(scan, root, folders)}
    return _listing(root, scan, classes, least_classes)


def _is_split(root: str, folders: dict[str, str]) -> bool:
    """Decide whether the top folders are splits or classes; say so where that is not clear."""
    train = next((path for name, path in folders.items() if SPLIT_FOLDERS.get(name.lower()) == 0), None)
    if train is None:
        return False
    foreign = [name for name in folders if name.lower() not in SPLIT_FOLDERS]
    inside = [entry for entry in os.scandir(train) if not _is_hidden(entry.name)]
    has_classes = any(entry.is_dir() for entry in inside)
    if not foreign and not has_classes:
        raise DataError(
            f"{printable(train)!r} holds no class folders, so there are no labels. A folder should look like "
            f"this:\n{LAYOUT}"
        )
    if foreign and has_classes and len(folders) - len(foreign) > 1:
        names = ", ".join(repr(printable(name)) for name in sorted(foreign, key=natural_key)[:5])
        raise DataError(
            f"{printable(root)!r} holds both split folders (train, …) and others ({names}). Move the others "
            f"away, or all classes into one level. A folder should look like this:\n{LAYOUT}"
        )
    return not foreign


def _split_folders(folders: dict[str, str]) -> dict[int, str]:
    out: dict[int, str] = {}
    for name, path in folders.items():
        split = SPLIT_FOLDERS[name.lower()]
        if split in out:
            raise DataError(
                f"{printable(out[split])!r} and {printable(path)!r} are both the {SPLITS[split]} split; keep one."
            )
        out[split] = path
    return out


def _classes(scan: _Scan, folder: str, folders: dict[str, str] | None = None) -> dict[str, list[str]]:
    """Return label -> paths of the images for the class folders in a folder."""
    out: dict[str, list[str]] = {}
    for name, path in (scan.folders(folder) if folders is None else folders).items():
        label = _label(name, path)
        if label in out:
            raise DataError(
                f"Two class folders of {printable(folder)!r} have the same name {label!r} in different "
                "Unicode spellings (NFC and NFD). Merge them."
            )
        images = list(scan.images(path))
        if images:
            out[label] = images
        else:
            scan.ignored["class folder without images"] += 1
    return out


def _label(name: str, path: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"The name of the class folder {printable(path)!r} is not valid UTF-8; class names become "
            "labels. Rename the folder."
        ) from None
    if not name.isprintable():
        raise DataError(
            f"The name of the class folder {printable(path)!r} holds a line break or another control "
            "character; class names become labels, one a line. Rename the folder."
        )
    return unicodedata.normalize("NFC", name)


def _listing(root: str, scan: _Scan, classes: dict[int, dict[str, list[str]]], least_classes: int) -> Listing:
    base = min(classes)
    known = classes.get(0, classes[base])
    for split in (1, 2):
        foreign = sorted(set(classes.get(split, ())) - set(known), key=natural_key)
        if foreign:
            raise DataError(
                f"Only the {SPLITS[split]} split of {printable(root)!r} holds the class(es) "
                f"{', '.join(map(repr, foreign[:5]))}; a model cannot learn what train does not show. Add "
                "images of them to train, correct the name, or remove the folder."
            )
    labels = tuple(sorted(known, key=natural_key))
    if len(labels) < least_classes:
        found = f"one class with images, {labels[0]!r}" if labels else "no class folder with images"
        raise DataError(
            f"{printable(root)!r} holds {found}; expected at least two. A folder should look like this:\n{LAYOUT}"
        )
    ids = {label: index for index, label in enumerate(labels)}
    rows = [(split, ids[label], paths) for split in sorted(classes) for label, paths in sorted(classes[split].items())]
    sizes = [len(paths) for *_, paths in rows]
    ignored = {reason: count for reason, count in scan.ignored.items() if count}
    return Listing(
        PathColumn(path for *_, paths in rows for path in paths),
        np.repeat(np.array([label for _, label, _ in rows], np.int32), sizes),
        np.repeat(np.array([split for split, *_ in rows], np.int8), sizes),
        labels,
        ignored,
    )

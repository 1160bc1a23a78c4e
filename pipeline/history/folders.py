"""Folders of artifacts: which may be removed, how large they are, and removing them.

Comes in: the folder of all artifacts and what stays in it. Goes out: where an artifact lies, or why it is left alone.
Called by the garbage collection; nothing outside of the folder is ever touched, and no symbolic link below it followed.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

TRASH = ".removed"
"""Folder below the artifacts into which folders are renamed before they are removed."""


class Places:
    """What lies where below the folder of all artifacts."""

    def __init__(self, root: Path, staying: Iterable[str]):
        """Initialize.

        Args:
            root: the folder of all artifacts; its own name may hold symbolic links, names below it may not.
            staying: folders that stay.
        """
        self._root = root
        self._known: dict[str, str] = {}
        self._real_root = self.real(str(root))
        self._inside = {self.real(folder) for folder in staying if os.path.isabs(folder)}
        self._above = set(_ancestors(self._inside))

    def real(self, path: str) -> str:
        """Return a path without symbolic links; each folder on the way is looked at once."""
        folder, name = os.path.split(os.path.normpath(path))
        if not name:
            return folder
        if folder not in self._known:
            self._known[folder] = os.path.realpath(folder)
        whole = os.path.join(self._known[folder], name)
        return os.path.realpath(whole) if os.path.islink(whole) else whole

    def locate(self, uri: str) -> Path | str:
        """Return where below the root an artifact lies, or, as text, why it is left alone."""
        real = self.real(uri) if os.path.isabs(uri) else ""
        spelled = next((p for p in _ancestors([uri]) if self.real(p) == self._real_root), None) if real else None
        if spelled is None or ".." in Path(uri).parts:
            return f"it lies outside of {self._root}"
        place = os.path.relpath(uri, spelled)
        if real != os.path.join(self._real_root, place):
            return "a symbolic link leads to it or is in its place"
        if real in self._inside or real in self._above:
            return "something that stays lies in the same folder"
        if not self._inside.isdisjoint(_ancestors([real])):
            return "it lies in the folder of something that stays"
        return Path(place)

    def execution_folders(self) -> Iterator[tuple[Path, int]]:
        """Yield the folders that TFX made for executions (`<stage>/<output>/<execution>`), and hold nothing staying."""
        for stage in _folders(self._root):
            for output in _folders(stage):
                for folder in _folders(output):
                    real = self.real(str(folder))
                    number = folder.name.isascii() and folder.name.isdigit()
                    if number and real not in self._inside and real not in self._above:
                        yield folder, int(folder.name)


def tree_size(path: Path) -> int:
    """Return the bytes of all files below a path, without following links; 0 if there is nothing."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, files in os.walk(path) for name in files)


def remove(path: Path, trash: Path) -> str:
    """Remove a folder or file in one step for whoever looks; return what went wrong, or an empty text."""
    try:
        if not os.path.lexists(path):
            return ""
        trash.mkdir(exist_ok=True)
        away = trash / uuid.uuid4().hex
        os.rename(path, away)
        if stat.S_ISDIR(os.lstat(away).st_mode):
            shutil.rmtree(away)
        else:
            away.unlink()
    except OSError as error:
        return _explain(error)
    return ""


def empty(trash: Path) -> str:
    """Remove what a collection that was killed left in the trash; return what went wrong, or an empty text."""
    try:
        if trash.is_symlink():
            trash.unlink()
        elif trash.is_dir():
            shutil.rmtree(trash)
    except OSError as error:
        return _explain(error)
    return ""


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    try:
        folder.rmdir()
    except OSError:
        return


def _ancestors(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        while (folder := os.path.dirname(path)) != path:
            yield folder
            path = folder


def _folders(path: Path) -> list[Path]:
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        return []
    return [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def _explain(error: OSError) -> str:
    return f"{error.filename} could not be removed: {error.strerror}; change its owner or mode and collect again"

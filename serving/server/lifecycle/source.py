"""Which versions stand below a base path, and which of them are complete enough to be loaded.

Comes in: a base path. Goes out: `Found` by version number. Called by the manager at every poll; it reads directory
entries only, never the content of files.

A version is a child directory whose name parses as an integer. One that somebody is still copying must not be taken
up: without a graph file it is passed over, and while anything in it is younger than `SETTLE_SECONDS` it waits. A
version that carries a manifest with all its files in their sizes was published whole and waits for nothing.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from serving import manifest as manifests
from serving.errors import ManifestError, ServingError
from serving.versions import version_directories

SETTLE_SECONDS = 1.0
GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")

Fingerprint = tuple[tuple[str, int, int], ...]
"""Relative path, size and time of the last change (ns) of everything in a version directory."""


class SourceError(ServingError):
    """A base path cannot be looked at; what is served stays."""


@dataclass(frozen=True)
class Found:
    """One version directory.

    Attributes:
        version: Number.
        path: The directory.
        fingerprint: What tells one state of its files from another.
        problem: Why it may not be loaded now, in words; empty if it may.
        changing: Whether another look in a second may find it ready.
    """

    version: int
    path: Path
    fingerprint: Fingerprint
    problem: str = ""
    changing: bool = False

    @property
    def ready(self) -> bool:
        """Whether it may be loaded now."""
        return not self.problem


class VersionSource:
    """Looks below one base path, again and again, and remembers what it saw the last time.

    Args:
        base_path: Directory that holds the versions.
        servable: Name of the model, for messages.
    """

    def __init__(self, base_path: Path, servable: str) -> None:
        self.base_path = base_path
        self._servable = servable
        self._seen: dict[Path, _Look] = {}

    def scan(self) -> dict[int, Found]:
        """Look at every version directory.

        Returns:
            What was found, by number. Of two directories with one number (`7` and `007`) the last in the order of
            names counts, as in TensorFlow Serving.

        Raises:
            SourceError: The base path does not exist or cannot be listed.
        """
        if not self.base_path.exists():
            raise SourceError(f"Could not find base path {self.base_path} for servable {self._servable}")
        try:
            entries = version_directories(self.base_path)
        except OSError as error:
            raise SourceError(f"base path {self.base_path} of {self._servable}: {error.strerror}.") from error
        found = {number: self._look(number, path) for number, path in entries if path.is_dir()}
        kept = {version.path for version in found.values()}
        self._seen = {path: seen for path, seen in self._seen.items() if path in kept}
        return found

    def _look(self, number: int, path: Path) -> Found:
        try:
            fingerprint, newest = _stat_tree(path)
        except OSError as error:
            return Found(number, path, (), f"{path} cannot be read: {error.strerror}")
        look = self._seen.get(path)
        if look is None or look.fingerprint != fingerprint:
            look = self._seen[path] = _Look(fingerprint, time.monotonic())
        sizes = {name: size for name, size, _ in fingerprint}
        if not any(name in sizes for name in GRAPH_FILES):
            return Found(number, path, fingerprint, f"{path} holds none of {', '.join(GRAPH_FILES)}")
        # The age of the files needs no second look; the second look helps where their clock is not ours.
        old = time.time() - newest >= SETTLE_SECONDS or time.monotonic() - look.since >= SETTLE_SECONDS
        look.settled = look.settled or old or _published_whole(path, sizes)
        if look.settled:
            return Found(number, path, fingerprint)
        return Found(number, path, fingerprint, f"{path} is still changing", changing=True)


@dataclass
class _Look:
    """What was seen of a directory, since when (monotonic seconds), and whether it was complete."""

    fingerprint: Fingerprint
    since: float
    settled: bool = False


def _stat_tree(root: Path) -> tuple[Fingerprint, float]:
    """Fingerprint of a directory, and the time of the newest change in seconds since the epoch."""
    entries: list[tuple[str, int, int]] = []
    newest = 0
    for folder, directories, names in os.walk(root, onerror=_raise):
        directories.sort()
        # Renaming a directory into place changes its ctime; entries that come and go change its mtime.
        newest = max(newest, os.stat(folder).st_mtime_ns)
        for name in sorted(names):
            file = os.path.join(folder, name)
            status = os.stat(file)
            changed = max(status.st_ctime_ns, status.st_mtime_ns)
            size = status.st_size if stat.S_ISREG(status.st_mode) else -1
            entries.append((os.path.relpath(file, root), size, changed))
            newest = max(newest, changed)
    return tuple(entries), newest / 1e9


def _raise(error: OSError) -> None:
    raise error


def _published_whole(path: Path, sizes: dict[str, int]) -> bool:
    """Whether a manifest is there and lists exactly these files with these sizes."""
    if manifests.MANIFEST_FILE not in sizes:
        return False
    try:
        listed = manifests.read(path).everything
    except ManifestError:
        return False
    there = {name: size for name, size in sizes.items() if name != manifests.MANIFEST_FILE}
    return there == {entry.path: entry.size for entry in listed}


def verify(path: Path) -> None:
    """Compare a version with its manifest, if it carries one; reads every byte.

    Raises:
        ManifestError: The manifest is damaged, or files are missing, changed or added.
    """
    if not os.path.lexists(path / manifests.MANIFEST_FILE):
        return
    problems = manifests.verify(path)
    if problems:
        raise ManifestError(
            f"{path} is not what its manifest says: {'; '.join(problems)}. Copy or publish the version again."
        )

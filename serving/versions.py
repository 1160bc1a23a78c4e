"""What stands below a base path of TensorFlow Serving: versions, which are intact, which one is served.

Comes in: a base directory that `serving.publish` writes. Goes out: `PublishedVersion`s. Called by
`serving.publish`, the command line and whoever needs the model in service.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving import manifest as manifests
from serving.errors import ManifestError
from serving.manifest import Manifest

_MAX_VERSION = 2**63 - 1  # TensorFlow Serving parses an int64 and passes over what does not fit.


@dataclass(frozen=True)
class PublishedVersion:
    """One version directory.

    Attributes:
        number: The number TensorFlow Serving sees.
        path: The directory.
        manifest: What was published; None if it cannot be read.
        problems: Why the version must not be used, one sentence each; empty if it is intact.
        served: Whether it is the largest intact version.
        already_published: Whether a publication or rollback found its content in service and did nothing.
    """

    number: int
    path: Path
    manifest: Manifest | None
    problems: tuple[str, ...] = ()
    served: bool = False
    already_published: bool = False

    @property
    def ok(self) -> bool:
        """Whether every file is as it was published."""
        return not self.problems

    @property
    def created(self) -> str | None:
        """UTC time of publication, ISO 8601."""
        return self.manifest.created if self.manifest else None

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Metrics of the model at publication."""
        return self.manifest.metrics if self.manifest else {}

    @property
    def restores(self) -> int | None:
        """Version whose content this one brings back, if it is a rollback."""
        return self.manifest.restores if self.manifest else None

    @property
    def origin(self) -> int:
        """Version that first brought this content: itself, unless it is a rollback."""
        return self.number if self.restores is None else self.restores


def parse_version(name: str) -> int | None:
    """Number that TensorFlow Serving reads from a directory's name (`007` is 7); None if it reads none."""
    if not name.isascii() or not name.isdigit():
        return None
    # int() refuses thousands of digits; those cannot fit an int64 either.
    digits = name.lstrip("0") or "0"
    return int(digits) if len(digits) <= 19 and int(digits) <= _MAX_VERSION else None


def version_directories(base_dir: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """Every entry with the name of a version, sorted by number; an empty list if the base does not exist."""
    base = Path(base_dir)
    try:
        names = os.listdir(base)
    except FileNotFoundError:
        return []
    numbered = ((parse_version(name), base / name) for name in names)
    return sorted((number, path) for number, path in numbered if number is not None)


def versions(base_dir: str | os.PathLike[str]) -> list[PublishedVersion]:
    """All versions of a base directory, sorted by number, each verified against its manifest.

    Args:
        base_dir: The base path of the model.

    Returns:
        The versions. Damaged and foreign ones are among them with their `problems`; they are never `served`.
    """
    inspected = [_inspect(number, path) for number, path in version_directories(base_dir)]
    found = [version for version in inspected if version is not None]
    best = max((version.number for version in found if version.ok), default=None)
    return [PublishedVersion(v.number, v.path, v.manifest, v.problems, served=v.ok and v.number == best) for v in found]


def served(base_dir: str | os.PathLike[str]) -> PublishedVersion | None:
    """The largest intact version, which TensorFlow Serving picks by default; None if there is none."""
    for number, path in reversed(version_directories(base_dir)):
        version = _inspect(number, path)
        if version is not None and version.ok:
            return PublishedVersion(number, path, version.manifest, served=True)
    return None


def _inspect(number: int, path: Path) -> PublishedVersion | None:
    """Verify one version; None if it was removed meanwhile, as a publication with `keep` does."""
    version = _verified(number, path)
    return version if version.ok or os.path.lexists(path) else None


def _verified(number: int, path: Path) -> PublishedVersion:
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return PublishedVersion(number, path, None, ("is no directory or a symbolic link",))
        manifest = manifests.read(path)
        problems = manifests.verify(path, manifest)
    except (ManifestError, OSError) as error:
        return PublishedVersion(number, path, None, (str(error),))
    if manifest.version != number or path.name != str(number):
        problems.append(f"the manifest is of version {manifest.version}")
    return PublishedVersion(number, path, manifest, tuple(problems))

"""The manifest of a published model: what is in it, where it comes from, and how to prove that it is intact.

Comes in: a directory of model files. Goes out: `manifest.json` beside them, with size and SHA-256 of every
file, and later a verification. Called by `serving.publish`, by whoever loads a published model, and by users
of an edge bundle, so it needs the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from serving.errors import ManifestError

MANIFEST_FILE = "manifest.json"
FORMAT = 1
_MAX_BYTES = 16 * 1024 * 1024  # A hostile manifest must not fill the memory of whoever verifies it.
_HEX_64 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file: relative path with `/` between parts, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse unsafe paths and malformed values."""
        check_path(self.path)
        if type(self.size) is not int or self.size < 0:
            raise ManifestError(f"file {self.path!r}: size is {self.size!r}, expected bytes as an integer.")
        if not isinstance(self.sha256, str) or not _HEX_64.match(self.sha256):
            raise ManifestError(f"file {self.path!r}: sha256 is {self.sha256!r}, expected 64 hex digits.")


@dataclass(frozen=True)
class Manifest:
    """What a published version consists of and where it comes from.

    Attributes:
        name: Name of the model.
        version: Number of the version, 1 or more.
        created: When it was published, UTC, ISO 8601 such as `2026-11-22T05:18:06Z`.
        files: Every file of the model but the manifest, sorted by path.
        model_digest: SHA-256 over the sorted entries of `files`: equal digests mean equal models.
        slipway_version: Version of the software that published it.
        metrics: Value by name; None stands for a value that is not finite.
        labels: Names of the classes in the order of the outputs.
        config_hash: Hash of the effective config.
        data_fingerprint: Fingerprint of the data it was trained on.
        git_commit: Commit of the code that trained it.
        previous: Version that was served before; None for the first.
        restores: Version whose content this one brings back, if it is a rollback.
        rolled_back_from: Version that was served when the rollback was asked for.
        documents: What people should read about the model, such as its card; checked as `files` are, but no part of
            the model: `model_digest` leaves them out.
    """

    name: str
    version: int
    created: str
    files: tuple[FileEntry, ...]
    model_digest: str
    slipway_version: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    config_hash: str | None = None
    data_fingerprint: str | None = None
    git_commit: str | None = None
    previous: int | None = None
    restores: int | None = None
    rolled_back_from: int | None = None
    documents: tuple[FileEntry, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values of wrong types, and a digest that is not that of the files."""
        for key, kind in _SCALARS.items():
            value = getattr(self, key)
            # bool is an int to isinstance, and no version is True.
            if type(value) not in kind:
                raise ManifestError(f"{key} is {value!r}, expected {' or '.join(k.__name__ for k in kind)}.")
        for key in ("version", "previous", "restores", "rolled_back_from"):
            value = getattr(self, key)
            least = 1 if key == "version" else 0
            if value is not None and value < least:
                raise ManifestError(f"{key} is {value}, expected {least} or more.")
        object.__setattr__(self, "metrics", {k: _finite(k, v) for k, v in sorted(self.metrics.items())})
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "files", tuple(sorted(self.files)))
        object.__setattr__(self, "documents", tuple(sorted(self.documents)))
        if not all(isinstance(label, str) for label in self.labels):
            raise ManifestError(f"labels are {self.labels!r}, expected names.")
        paths = [entry.path for entry in self.everything]
        if len(set(paths)) != len(paths):
            raise ManifestError("a path stands twice among the files.")
        if self.model_digest != model_digest(self.files):
            raise ManifestError("model_digest does not belong to the files listed; the manifest was changed.")

    @property
    def everything(self) -> tuple[FileEntry, ...]:
        """Every file of the version but the manifest: those of the model, then the documents."""
        return (*self.files, *self.documents)

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal manifest."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read JSON text strictly.

        Raises:
            ManifestError: The text is no JSON object, has unknown, missing or repeated keys, values of a
                wrong type, unsafe paths, or another format number.
        """
        try:
            data = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"not valid JSON: {error}.") from error
        if not isinstance(data, dict):
            raise ManifestError(f"received a {type(data).__name__}, expected a JSON object.")
        if data.pop("format", None) != FORMAT:
            raise ManifestError(f"the format is not {FORMAT}; a newer slipway may have written it.")
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ManifestError(f"unknown keys {unknown}; expected {sorted(known)}.")
        if missing := sorted({"name", "version", "created", "files", "model_digest", "slipway_version"} - set(data)):
            raise ManifestError(f"keys {missing} are missing.")
        for key, kind in (("files", list), ("documents", list), ("metrics", dict), ("labels", list)):
            if not isinstance(data.get(key, kind()), kind):
                raise ManifestError(f"{key} is {data[key]!r}, expected a JSON {kind.__name__}.")
        entries = {key: tuple(_entry(item) for item in data.pop(key, ())) for key in ("files", "documents")}
        return cls(**{**data, **entries, "labels": tuple(data.get("labels", ()))})


_SCALARS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "created", "model_digest", "slipway_version"), (str,)),
    **dict.fromkeys(("config_hash", "data_fingerprint", "git_commit"), (str, type(None))),
    **dict.fromkeys(("previous", "restores", "rolled_back_from"), (int, type(None))),
    "version": (int,),
}


def _entry(item: Any) -> FileEntry:
    if not isinstance(item, dict) or set(item) != {"path", "size", "sha256"}:
        raise ManifestError(f"file entry {item!r}: expected exactly path, size and sha256.")
    return FileEntry(**item)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ManifestError("a key stands twice in one object.")
    return result


def _finite(name: Any, value: Any) -> float | None:
    if not isinstance(name, str):
        raise ManifestError(f"metric name is {name!r}, expected a text.")
    if value is None:
        return None
    if isinstance(value, (bool, str, bytes)):
        raise ManifestError(f"metric {name!r} is {value!r}, expected a number.")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ManifestError(f"metric {name!r} is {value!r}, expected a number.") from error
    return number if math.isfinite(number) else None


def check_path(path: Any) -> None:
    """Refuse a path that could leave the model directory or that other systems read differently.

    Raises:
        ManifestError: The path is absolute, empty, has empty, `.` or `..` parts, backslashes, a drive letter,
            control characters or bytes that are no UTF-8, or names the manifest itself.
    """
    if not isinstance(path, str):
        raise ManifestError(f"path {path!r} is no text.")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestError(f"path {path!r} is not valid UTF-8; rename the file.") from error
    parts = path.split("/")
    unsafe = any(part in ("", ".", "..") for part in parts) or ":" in parts[0] or "\\" in path
    if unsafe or any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ManifestError(f"path {path!r} is unsafe; expected a relative path inside the model directory.")
    if path == MANIFEST_FILE:
        raise ManifestError(f"path {path!r} is the manifest itself.")


def model_digest(files: tuple[FileEntry, ...] | list[FileEntry]) -> str:
    """SHA-256 in hex over path, size and hash of every file, independent of the order given."""
    digest = hashlib.sha256()
    for entry in sorted(files):
        digest.update(f"{entry.sha256} {entry.size} {entry.path}\n".encode())
    return digest.hexdigest()


def describe_files(directory: str | os.PathLike[str]) -> tuple[FileEntry, ...]:
    """Hash every file below a directory except the manifest at its top.

    Raises:
        ManifestError: Something below is a symbolic link or no regular file, has an unsafe name, or cannot be
            read.
    """
    root = Path(directory)
    entries = []
    for path, problem in walk(root):
        if problem:
            raise ManifestError(f"{root / path} {problem}; a model consists of plain files only.")
        entries.append(_describe(root, path))
    return tuple(sorted(entries))


def _describe(root: Path, path: str) -> FileEntry:
    check_path(path)
    digest, size = hashlib.sha256(), 0
    try:
        # O_NOFOLLOW closes the gap between looking at a file and opening it.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(root / path, flags)
        with open(descriptor, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise ManifestError(f"{root / path} cannot be read: {error.strerror}.") from error
    return FileEntry(path, size, digest.hexdigest())


def walk(root: Path) -> Iterator[tuple[str, str]]:
    """Relative path of everything below that is no directory, and why it is refused, or an empty text.

    Raises:
        ManifestError: A directory cannot be listed.
    """

    def failed(error: OSError) -> None:
        raise ManifestError(f"{error.filename} cannot be listed: {error.strerror}.") from error

    for folder, directories, files in os.walk(root, onerror=failed, followlinks=False):
        for name in sorted([*directories, *files]):
            path = Path(folder, name).relative_to(root).as_posix()
            mode = os.lstat(Path(folder, name)).st_mode
            if stat.S_ISLNK(mode):
                yield path, "is a symbolic link"
            elif stat.S_ISREG(mode):
                if path != MANIFEST_FILE:
                    yield path, ""
            elif not stat.S_ISDIR(mode):
                yield path, "is no regular file"


def write(directory: str | os.PathLike[str], manifest: Manifest) -> Path:
    """Write `manifest.json` into the directory and flush it to disk; the file must not exist yet."""
    path = Path(directory) / MANIFEST_FILE
    with path.open("x", encoding="utf-8") as stream:
        stream.write(manifest.to_json())
        stream.flush()
        os.fsync(stream.fileno())
    return path


def read(directory: str | os.PathLike[str]) -> Manifest:
    """Read `manifest.json` of a directory.

    Raises:
        ManifestError: It is missing, a link, too large, unreadable or malformed.
    """
    path = Path(directory) / MANIFEST_FILE
    try:
        mode = os.lstat(path)
        if not stat.S_ISREG(mode.st_mode) or mode.st_size > _MAX_BYTES:
            raise ManifestError("it is a link, too large or no regular file; expected a small plain file.")
        return Manifest.from_json(path.read_text("utf-8"))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}; expected a published model.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8: {error}.") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def verify(directory: str | os.PathLike[str], manifest: Manifest | None = None) -> list[str]:
    """Compare the files of a directory with its manifest.

    Args:
        directory: The published model.
        manifest: What to compare with; by default the manifest in the directory.

    Returns:
        One sentence for each file that is missing, changed, added, or not a plain file; empty if all is
        intact.

    Raises:
        ManifestError: The manifest cannot be read, or the directory cannot be listed.
    """
    root = Path(directory)
    manifest = manifest or read(root)
    listed = {entry.path: entry for entry in manifest.everything}
    problems, seen = [], set()
    for path, problem in walk(root):
        seen.add(path)
        entry = listed.get(path)
        if problem:
            problems.append(f"{path} {problem}")
        elif entry is None:
            problems.append(f"{path} was added")
        elif os.lstat(root / path).st_size != entry.size or _describe(root, path) != entry:
            problems.append(f"{path} was changed")
    problems += [f"{path} is missing" for path in listed if path not in seen]
    return sorted(problems)

"""What a form takes: bytes, bytes after gzip, and a checksum.

Comes in: the file or directory of a variant. Goes out: a `Size`. Called by `serving.measure.worker`. An OpenVINO
`.xml` stands for itself and the `.bin` with its weights.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ServingError

_CHUNK = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Size:
    """Size and identity of a variant.

    Attributes:
        bytes: Sum of the sizes of its files.
        gz_bytes: Size of the gzip stream (level 9, no name, no time) of its files, one after the other by name.
        sha256: Of the file, as `sha256sum` prints it; of several files, of the lines `sha256sum` would print.
    """

    bytes: int
    gz_bytes: int
    sha256: str


def measure_size(path: str | os.PathLike[str]) -> Size:
    """Measure a file or a directory; the order in which the disk lists files and their times don't matter.

    Raises:
        ServingError: It does not exist, holds no file, or cannot be read.
    """
    root = Path(path)
    try:
        files = files_of(root)
        return Size(
            bytes=sum(file.stat().st_size for _, file in files),
            gz_bytes=_gz_bytes([file for _, file in files]),
            sha256=_sha256(files),
        )
    except OSError as error:
        raise ServingError(f"{root} cannot be read: {error.strerror}. Check its permissions.") from error


def files_of(path: str | os.PathLike[str]) -> list[tuple[str, Path]]:
    """The files that make up a variant, as (name relative to it with `/`, path), sorted by name.

    Raises:
        ServingError: It does not exist or holds no file.
    """
    root = Path(path)
    if root.is_dir():
        found = [(file.relative_to(root).as_posix(), file) for file in root.rglob("*") if file.is_file()]
    elif root.is_file():
        weights = root.with_suffix(".bin")
        found = [(root.name, root)]
        if root.suffix == ".xml" and weights.is_file():
            found.append((weights.name, weights))
    else:
        raise ServingError(f"{root} does not exist; expected the file or directory of a model.")
    if not found:
        raise ServingError(f"{root} holds no file; expected the files of a model.")
    return sorted(found)


def _gz_bytes(files: list[Path]) -> int:
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    return sum(len(packer.compress(chunk)) for file in files for chunk in _chunks(file)) + len(packer.flush())


def _sha256(files: list[tuple[str, Path]]) -> str:
    digests = [(name, _digest(file)) for name, file in files]
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests).encode()).hexdigest()


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk

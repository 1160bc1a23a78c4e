"""A cache of file digests by what `stat` says, so that unchanged files are not read again.

One row per file: a hash of (path, size, modification time, change time, inode), and the digest of the
content. Sources use it for their fingerprint; whoever asks for the fingerprint says where the cache lies.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from transform.sources.base import DIGEST_BYTES

_MAGIC = b"slipway file digests 1\n"
_BLOCK = 1 << 20
# A file may be written twice within one tick of the file system's clock: younger stamps prove nothing.
_SETTLED_NS = 2_000_000_000


def file_digest(path: str | os.PathLike[str]) -> bytes:
    """Return the 16-byte digest of a file's content, read in blocks."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()


class StatCache:
    """Digests of files that were seen before.

    Args:
        path: where the cache is kept; None keeps it in memory only. An unreadable cache counts as empty.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._known: dict[bytes, bytes] = {}
        self._seen: dict[bytes, bytes] = {}
        self.hashed = 0
        """How many files had to be read."""
        if self._path is not None:
            self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            block = path.read_bytes()
        except OSError:
            return
        rows = block[len(_MAGIC) :]
        if not block.startswith(_MAGIC) or len(rows) % (2 * DIGEST_BYTES):
            return
        for start in range(0, len(rows), 2 * DIGEST_BYTES):
            middle = start + DIGEST_BYTES
            self._known[rows[start:middle]] = rows[middle : middle + DIGEST_BYTES]

    def digest(self, path: str) -> bytes:
        """Return the digest of a file's content, from the cache if the file is as it was.

        Raises:
            OSError: if the file cannot be read.
        """
        stat = os.stat(path)
        stamp = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}\0".encode()
        key = hashlib.blake2b(stamp + os.fsencode(os.path.abspath(path)), digest_size=DIGEST_BYTES).digest()
        found = self._known.get(key)
        if found is None:
            started = time.time_ns()
            found = file_digest(path)
            self.hashed += 1
            if max(stat.st_mtime_ns, stat.st_ctime_ns) > started - _SETTLED_NS:
                return found
            self._known[key] = found
        self._seen[key] = found
        return found

    def digests(self, paths: Iterable[str]) -> list[bytes]:
        """Return the digests of several files; zeros stand for a file that cannot be read."""
        out = []
        for path in paths:
            try:
                out.append(self.digest(path))
            except OSError:
                out.append(bytes(DIGEST_BYTES))
        return out

    def save(self) -> None:
        """Write what was asked for since the cache was opened, atomically; older entries are dropped."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC)
                file.writelines(key + digest for key, digest in self._seen.items())
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise

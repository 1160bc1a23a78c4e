"""Has data come to rest? Copying takes time, and a run must not start on half of what is on its way.

Folders come in, the time of their last change and a signature go out. The times are those at which names and contents
changed on this machine (`ctime`), since copies keep the times of modification of their originals.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator


def last_change(folder: str) -> float:
    """Return the Unix time of the newest change below a folder, 0 if it cannot be read."""
    return max((stat.st_ctime_ns for _, stat in _entries(folder)), default=0) / 1e9


def signature(folders: Iterable[str]) -> str:
    """Return a hash of names, sizes and times of everything below some folders; equal ones mean unchanged data."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in folders:
        for path, stat in _entries(folder):
            digest.update(
                f"{path}\0{stat.st_size} {stat.st_ctime_ns} {stat.st_ino}\n".encode("utf-8", "surrogateescape")
            )
    return digest.hexdigest()


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all folders and files at any depth, in the order of their names; what vanishes meanwhile is left out."""
    try:
        stat = os.stat(folder)
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    yield folder, stat
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False)
        except OSError:
            continue

"""File operations that survive a crash: an exclusive lock, durable writes, copies and renames.

Comes in: paths on one file system. Goes out: files of which a power cut leaves either the old or the new
state. Called by `serving.publish`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.errors import PublishError

_POLL_SECONDS = 0.05

_NO_FOLDER_RENAMES = {errno.EMFILE, errno.ENOTSUP, errno.ENOSYS}
"""What mounted buckets answer to the renaming of a folder: Cloud Storage FUSE says that too many files are open."""


@contextlib.contextmanager
def exclusive_lock(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel frees it when the holder dies, however that happens.

    Args:
        path: The lock file; created if missing, never removed.
        timeout_seconds: How long to wait for another holder.

    Raises:
        PublishError: Another process still holds the lock when the time is up.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # flock belongs to the open file, so it also keeps threads of one process apart; lockf would not.
        deadline = time.monotonic() + timeout_seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise PublishError(
                    f"{path} is still locked after {timeout_seconds:g} seconds by process {holder}, "
                    "which publishes there. Wait for it, or end it if it hangs."
                )
            time.sleep(_POLL_SECONDS)
        with contextlib.suppress(OSError):
            # The number only helps the message above; a full disk must not keep a rollback from working.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            # Explicitly, because a forked child may have inherited the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def sync_directory(directory: Path) -> None:
    """Flush the entries of a directory to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flush every file and directory below `root`, and `root` itself, deepest first."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            descriptor = os.open(Path(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))


def write_durably(path: Path, text: str) -> None:
    """Replace a file as a whole; a crash leaves the old or the new content."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def copy_tree(source: Path, target: Path, *, skip: str, link: bool = False) -> None:
    """Copy a tree of plain files into a new directory.

    Args:
        source: What to copy.
        target: New directory; modes follow the umask, so that another user's model server can read it.
        skip: Name of a file at the top of `source` to leave out.
        link: Make hard links where the file system allows it, which takes no space.
    """
    for folder, directories, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir()
        directories.sort()
        for name in sorted(files):
            if name == skip and place == target:
                continue
            if not (link and _link(Path(folder, name), place / name)):
                shutil.copyfile(Path(folder, name), place / name, follow_symlinks=False)


def move_folder(source: Path, target: Path, *, last: Sequence[str]) -> None:
    """Rename a folder; where the file system can't (a mounted bucket), move its files one by one.

    Args:
        source: a folder, gone afterwards.
        target: its new name, which nothing has yet.
        last: names of files at its top that come last, in this order: without them the folder is not taken for
            complete.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in _NO_FOLDER_RENAMES:
            raise
        files = [path for path in source.rglob("*") if path.is_file()]
        top = {source / name: place for place, name in enumerate(last, 1)}
        for path in sorted(files, key=lambda path: (top.get(path, 0), path)):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        shutil.rmtree(source)


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True

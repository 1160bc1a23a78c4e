"""Files of the request log that survive a crash and a full disk.

Comes in: serialized records. Goes out: TFRecord files. Called by the thread of the request log.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

_log = logging.getLogger("slipway.serving")

SUFFIX = ".tfrecord"
OPEN_SUFFIX = ".tfrecord.open"
_RETRY_SECONDS = 5.0  # After the disk refused a record, how long the next ones are dropped untried.


@dataclass(frozen=True)
class LogLimits:
    """Bounds of the log.

    Attributes:
        file_bytes: Size at which a file is finished and the next one begun.
        file_seconds: Age at which a file is finished even if it is small, so that readers see what is in it.
        buffer_records: Most requests that wait for the writer.
        buffer_bytes: Most bytes of their arrays.
    """

    file_bytes: int = 64 * 2**20
    file_seconds: float = 600.0
    buffer_records: int = 1000
    buffer_bytes: int = 64 * 2**20


class LogFiles:
    """The file in work; used by one thread only.

    Args:
        directory: Where the files go.
        limits: Sizes.
    """

    def __init__(self, directory: Path, limits: LogLimits) -> None:
        """Open nothing yet."""
        self._directory = directory
        self._limits = limits
        self._descriptor: int | None = None
        self._path = directory
        self._size = 0
        self._opened = 0.0
        self._retry_at = 0.0

    def seconds_left(self) -> float | None:
        """Time until the file is old enough to be finished; None if there is none."""
        if self._descriptor is None:
            return None
        return max(0.0, self._opened + self._limits.file_seconds - time.monotonic())

    def write(self, record: bytes) -> bool:
        """Append a record as a whole; False if the disk does not take it."""
        from serving.wire.tfrecord import frame

        if time.monotonic() < self._retry_at:
            return False
        data = frame(record)
        if self._descriptor is not None and (
            self._size + len(data) > self._limits.file_bytes or not self.seconds_left()
        ):
            self.finish()
        try:
            if self._descriptor is None:
                self._open()
            self._append(data)
        except OSError as error:
            _log.warning("the request log in %s drops requests: %s", self._directory, error.strerror)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._cut()
            return False
        self._size += len(data)
        return True

    def finish(self) -> None:
        """Give the file in work its final name."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            if self._size:
                os.fsync(descriptor)
                os.rename(self._path, self._path.with_name(self._path.name.removesuffix(".open")))
            else:
                self._path.unlink()
        except OSError as error:
            _log.warning("%s could not be finished: %s", self._path, error.strerror)
        finally:
            os.close(descriptor)

    def _open(self) -> None:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._directory / f"requests-{stamp}-{os.getpid()}{OPEN_SUFFIX}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._path, self._size, self._opened = path, 0, time.monotonic()
        # Held until the process ends, so that another server's recovery leaves the file alone.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _cut(self) -> None:
        """Take back what a failed write left of its record."""
        if self._descriptor is None:
            return
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self.finish()


def recover(directory: Path) -> list[Path]:
    """Finish the files that a killed server left; those of servers that live are left alone.

    Returns:
        The finished files.
    """
    from serving.wire.tfrecord import whole_length

    found = []
    for path in sorted(directory.glob(f"*{OPEN_SUFFIX}")):
        with contextlib.suppress(OSError), path.open("r+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            length = whole_length(path)
            if not length:
                path.unlink()
                continue
            stream.truncate(length)
            target = path.with_name(path.name.removesuffix(".open"))
            path.rename(target)
            found.append(target)
    return found

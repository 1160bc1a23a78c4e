"""The audit log: JSON lines in a file that is rotated by size, written by a thread of its own.

A request hands over a line and goes on; a full disk or a slow one costs lines, which are counted, never an answer.
Called by `edge` for every request.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.gateway.settings import Audit

_log = logging.getLogger("slipway.serving")
_WAITING = 10_000


class AuditLog:
    """Writes lines in the order in which they were handed over.

    Args:
        path: the file; older ones are called `NAME.1` (newest) to `NAME.K`.
        settings: the section `audit`.
        dropped: called for each line that is lost.
    """

    def __init__(self, path: Path, settings: Audit, dropped: Callable[[], None]) -> None:
        """Start the thread; the file is opened with the first line."""
        self._path = path
        self._settings = settings
        self._dropped = dropped
        self._failing = False
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def write(self, entry: dict[str, Any]) -> None:
        """Hand over one entry; returns at once."""
        line = json.dumps(entry, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped()

    def close(self) -> None:
        """Write what is waiting and end."""
        self._lines.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._append(line.encode("ascii") + b"\n")
                self._failing = False
            except OSError as error:
                self._dropped()
                if not self._failing:
                    _log.error("the audit log %s cannot be written (%s); lines are lost", self._path, error.strerror)
                self._failing = True

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(line) > self._settings.max_bytes:
                self._rotate()
                self._append(line)
                return
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash or a full disk cut the last line off; do not glue this one to it
            if os.write(descriptor, line) < len(line):
                raise OSError(28, "No space left on device")
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        for number in range(self._settings.keep, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self._path
            if newer.exists():
                os.replace(newer, older)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

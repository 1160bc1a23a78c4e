"""A sample of the answered requests, as `PredictionLog` records.

Comes in: answered requests, through `RequestLog.answered`. Goes out: TFRecord files, which TensorFlow,
`serving.records` and TensorFlow Serving's warm-up read. The model server puts a `RequestLog` among the observers of
its data plane.

Logging never delays or fails a request: a thread writes, the buffer before it is bounded, and what does not fit into
the buffer or onto the disk is dropped and counted. A file in work ends in `.open` and gets its final name when it is
full or the log is closed. After a crash the next log in the directory cuts off a torn record and gives the file its
name, so files with a final name always hold whole records.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving.errors import ServingError
from serving.server.request_log_files import LogFiles, LogLimits, recover
from serving.server.request_log_records import Entry, to_record
from serving.server.status import Code

if TYPE_CHECKING:
    from serving.server.metrics import ServerMetrics
    from serving.server.servable import Handle

_log = logging.getLogger("slipway.serving")

_CLOSE_SECONDS = 10.0


class RequestLog:
    """Writes a share of the requests to files; an observer of the data plane.

    Args:
        directory: Where the files go; made if missing.
        sampling_rate: Share of the requests that is picked, 0 to 1.
        limits: Sizes.
        metrics: Where picked requests are counted, with OK or with the reason why they were dropped.
        chance: Gives a number below 1 for each request.

    Attributes:
        written: Requests written so far.
        dropped: Requests picked but not written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        sampling_rate: float,
        limits: LogLimits | None = None,
        metrics: ServerMetrics | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Recover what a crash left, and start the writer."""
        if not 0.0 <= sampling_rate <= 1.0:
            raise ServingError(f"received a sampling rate of {sampling_rate}; expected a share of 0 to 1.")
        self._directory = Path(directory)
        self._rate = sampling_rate
        self._limits = limits or LogLimits()
        self._metrics = metrics
        self._chance = chance
        self._ready = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._buffered = 0
        self._closing = False
        self.written = 0
        self.dropped = 0
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServingError(
                f"{directory} cannot be made: {error.strerror}. Name a directory for the log."
            ) from error
        recover(self._directory)
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def answered(
        self,
        handle: Handle,
        kind: str,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        """Pick a request or pass it over; a microsecond if it is passed over."""
        if self._chance() >= self._rate:
            return
        size = sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
        size += sum(_string_bytes(array) for array in inputs.values())
        entry = Entry(handle.name, handle.version, kind, signature, inputs, outputs, int(time.time()), size)
        with self._ready:
            full = (
                self._closing
                or len(self._entries) >= self._limits.buffer_records
                or self._buffered + size > self._limits.buffer_bytes
            )
            if not full:
                self._entries.append(entry)
                self._buffered += size
                self._ready.notify()
        if full:
            self._drop(entry.model, Code.RESOURCE_EXHAUSTED)

    def close(self) -> None:
        """Write what is in the buffer and give the last file its name; closing twice is allowed."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(_CLOSE_SECONDS)

    def _drop(self, model: str, code: Code) -> None:
        with self._ready:
            self.dropped += 1
        if self._metrics is not None:
            self._metrics.logged(model, code)

    def _work(self) -> None:
        files = LogFiles(self._directory, self._limits)
        while True:
            with self._ready:
                while not self._entries and not self._closing:
                    if not self._ready.wait(files.seconds_left()):
                        break
                entry = self._entries.popleft() if self._entries else None
                if entry is not None:
                    self._buffered -= entry.size
                finished = entry is None and self._closing
            if entry is None:
                files.finish()
                if finished:
                    return
                continue
            self._write(files, entry)

    def _write(self, files: LogFiles, entry: Entry) -> None:
        try:
            done = files.write(to_record(entry, self._rate))
        except Exception:
            _log.exception("a request of model %s could not be logged", entry.model)
            self._drop(entry.model, Code.INTERNAL)
            return
        if not done:
            self._drop(entry.model, Code.UNAVAILABLE)
            return
        self.written += 1
        if self._metrics is not None:
            self._metrics.logged(entry.model, Code.OK)


def _string_bytes(array: np.ndarray) -> int:
    return sum(len(item) for item in array.flat) if array.dtype == object else 0

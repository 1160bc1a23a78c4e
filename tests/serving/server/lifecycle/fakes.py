"""A loader whose servables are no models, and a base path to load them from."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.signature import Signature


class FakeServable:
    """A servable that only knows its version."""

    signatures: Mapping[str, Signature]
    batchable: Mapping[str, bool]
    one_core_rows: Mapping[str, int]

    def __init__(self, version: int) -> None:
        self.signatures, self.batchable, self.one_core_rows = {}, {}, {}
        self.version = version
        self.closed = False

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        assert not self.closed, "a closed model was run"
        return {"version": np.array([self.version])}

    def signature_defs(self) -> Any:
        return None

    def close(self) -> None:
        self.closed = True


class FakeLoader:
    """Loads on command.

    Attributes:
        calls: `(model, version)` of every attempt, in order.
        servables: What was loaded, by model and version; the last one of each.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.servables: dict[tuple[str, int], FakeServable] = {}
        self._gates: dict[int, threading.Event] = {}
        self._failures: dict[int, list[BaseException]] = {}
        self._lock = threading.Lock()

    def hold(self, version: int) -> threading.Event:
        """Let a version hang while it loads, until the event is set."""
        return self._gates.setdefault(version, threading.Event())

    def fail(self, version: int, *errors: BaseException) -> None:
        """Let the next attempts at a version fail."""
        self._failures[version] = list(errors)

    def attempts(self, version: int) -> int:
        """How often a version was tried."""
        with self._lock:
            return sum(number == version for _, number in self.calls)

    def __call__(self, model: str, version: int, path: Path) -> FakeServable:
        # Before the attempt is counted: whoever waits for the attempt may take the files away.
        assert (path / "saved_model.pb").exists(), "loaded without a graph"
        with self._lock:
            self.calls.append((model, version))
            failures = self._failures.get(version)
            error = failures.pop(0) if failures else None
        if version in self._gates:
            assert self._gates[version].wait(60), f"version {version} was never let go"
        if error is not None:
            raise error
        servable = self.servables[model, version] = FakeServable(version)
        return servable


def add_version(base: Path, number: int | str, content: bytes = b"graph") -> Path:
    """Put a version in place that looks long finished."""
    path = base / str(number)
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(content)
    os.utime(path, (1, 1))
    return path


def remove_version(base: Path, number: int | str) -> None:
    """Take a version away at once, as a rename does."""
    gone = base / f"gone-{number}"
    (base / str(number)).rename(gone)
    shutil.rmtree(gone)

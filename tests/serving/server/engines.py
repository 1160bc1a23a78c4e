"""Stand-ins for loaded models, for tests that need no TensorFlow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from serving.server.status import Code, StatusError
from serving.signature import Signature, TensorSpec

BAD = -1.0  # A row with this value makes a whole run fail.


def spec(name: str, shape: tuple[int | None, ...] | None, dtype: str = "float32") -> TensorSpec:
    """A tensor of a signature."""
    numpy_dtype = np.dtype(object) if dtype == "string" else np.dtype(dtype)
    return TensorSpec(name, f"{name}:0", dtype, shape, numpy_dtype)


def signature(
    name: str = "serving_default",
    inputs: Sequence[TensorSpec] = (spec("x", (None, None)),),
    outputs: Sequence[TensorSpec] = (spec("y", (None, None)),),
    method: str = "tensorflow/serving/predict",
    defaults: Mapping[str, np.ndarray] | None = None,
) -> Signature:
    """A signature with the given tensors."""
    return Signature(name, method, {t.name: t for t in inputs}, {t.name: t for t in outputs}, defaults or {})


class Engine:
    """A servable that gives back twice its input `x` as `y`, and keeps what it was asked.

    Attributes:
        runs: Signature, inputs and output filter of each run, in order.
        gate: Runs wait until it is set.
        running: Set as soon as a run has begun.
        answer: Replaces what a run gives.
    """

    def __init__(self, *signatures: Signature, batchable: bool = True) -> None:
        self.signatures = {item.name: item for item in signatures or (signature(),)}
        self.batchable = dict.fromkeys(self.signatures, batchable)
        self.one_core_rows: dict[str, int] = {}
        self.runs: list[tuple[str, dict[str, np.ndarray], tuple[str, ...] | None]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.answer: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] = lambda inputs: {"y": 2 * inputs["x"]}
        self.closed = False

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        self.runs.append((signature, dict(inputs), None if outputs is None else tuple(outputs)))
        self.running.set()
        assert self.gate.wait(60)
        for array in inputs.values():
            if array.dtype != object and (array == BAD).any():
                raise StatusError(Code.INVALID_ARGUMENT, "a bad row")
        return self.answer(inputs)

    def signature_defs(self) -> Any:
        return None

    def close(self) -> None:
        self.closed = True

    def rows(self) -> list[int]:
        """Rows of each run, in order."""
        return [len(next(iter(inputs.values()))) for _, inputs, _ in self.runs]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let runs wait inside the block."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()


class FakeHandle:
    """A handle on an engine that counts its releases."""

    def __init__(self, servable: Any, name: str = "pets", version: int = 1) -> None:
        self.servable = servable
        self.name = name
        self.version = version
        self.released = 0

    def release(self) -> None:
        self.released += 1

    def __enter__(self) -> FakeHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

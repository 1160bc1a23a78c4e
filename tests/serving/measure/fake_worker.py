"""The worker with fake forms, whose behavior is the name of their file; run by test_running in a subprocess."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from serving.errors import ServingError
from serving.measure import worker
from serving.measure.operations import Operations


class FakeForm:
    def __init__(self, behavior: str) -> None:
        self.input_dtype = np.dtype(np.uint8)
        self.behavior = behavior
        self.calls = 0

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.calls += 1
        timed = self.calls > 4
        if self.behavior == "crash" or (self.behavior == "crash_late" and timed):
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.behavior == "abort":
            print("F stub.cc:49] symbol not found", file=sys.stderr, flush=True)
            os.abort()
        if self.behavior == "hang":
            signal.pause()
        if self.behavior == "raise_32" and len(images) == 32:
            raise MemoryError("no room for 32 images")
        answer = np.eye(3, dtype=np.float32)[images[:, 0, 0, 0] % 3]
        if self.behavior == "wrong":
            answer = np.roll(answer, 1, axis=1)
        return answer * np.nan if self.behavior == "nan" else answer

    def close(self) -> None: ...


def load_fake(form: str, path: Path, threads: int = 1) -> FakeForm:
    behavior = Path(path).stem
    if behavior == "truncated":
        raise ServingError(f"{form} is truncated.")
    if behavior == "exit":
        sys.exit(7)
    return FakeForm(behavior)


def count_fake(path: Path) -> Operations:
    if path.stem == "uncounted":
        raise ServingError("The graph is a riddle.")
    return Operations(parameters=10, multiply_adds=20, sparsity=0.0, operations=3, gpu_delegate_ok=True)


if __name__ == "__main__":
    worker.load_form = load_fake
    worker.count_operations = count_fake
    sys.exit(worker.main(sys.argv[1:]))

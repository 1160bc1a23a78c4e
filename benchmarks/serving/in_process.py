"""The bare Session call that servers are measured against, in a process of its own.

    python benchmarks/serving/in_process.py MODEL_DIR

Reads lines `PAYLOAD BATCH SECONDS` (payload `image` or `float`) from standard input, calls the model for that long and
writes one line of JSON for each: images, wall and CPU seconds, and the latencies of the calls in milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path


def cpu_seconds() -> float:
    """CPU time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(directory: Path) -> None:
    """Load the model and answer the lines."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from serving import lean_tensorflow

    lean_tensorflow.install()
    import numpy as np

    from benchmarks.serving.model import FLOATS, SIZE
    from serving.saved_model import SessionModel

    model = SessionModel.load(directory)
    files = sorted((directory / "assets.extra" / "pictures").iterdir())
    images = np.array([file.read_bytes() for file in files], dtype=object)
    pixels = np.random.default_rng(7).random((len(files), *SIZE), dtype=np.float32)
    calls = {
        "image": (model.prepare("serving_default")[1], images),
        "float": (model.prepare(FLOATS)[1], pixels),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        payload, batch, seconds = line.split()
        call, inputs = calls[payload]
        inputs = inputs[: int(batch)]
        call([inputs])
        latencies, start, cpu = [], time.perf_counter(), cpu_seconds()
        while time.perf_counter() - start < float(seconds):
            begun = time.perf_counter()
            call([inputs])
            latencies.append(1000 * (time.perf_counter() - begun))
        wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        done = {"requests": len(latencies) * int(batch), "wall": wall, "cpu": cpu, "latencies": latencies}
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

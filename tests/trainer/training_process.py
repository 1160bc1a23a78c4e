"""One process of a distributed training, started by the tests: `python -m tests.trainer.training_process FOLDER`.

Calls what TFX calls, on records that the test has written. The transform graph is a plain function. `JOB` in the
environment holds `train` (settings), `model`, `devices` (logical CPUs) and `die_after`: the epoch in which this process
kills itself before it is stored.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from trainer import distribution, inputs, run, training
from trainer.errors import TrainerError
from transform import features
from transform.images import decode_and_resize_batch


def graph(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What the Transform component would have made."""
    encoded = tf.reshape(raw[features.IMAGE], [-1])
    return {features.PIXELS: decode_and_resize_batch(encoded, 8, 8, 1), features.LABEL: raw[features.LABEL]}


class Tell(logging.Handler):
    """Prints the number of each finished epoch, and dies when it is told to."""

    def __init__(self, die_after: int | None) -> None:
        super().__init__()
        self._die_after = die_after

    def emit(self, record: logging.LogRecord) -> None:
        progress = record.__dict__["progress"]
        if progress["unit"] == "epochs":
            print("epoch", progress["done"], flush=True)
            if progress["done"] == self._die_after:
                os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> int:
    """Train; returns the exit code."""
    job = json.loads(os.environ["JOB"])
    distribution.HEARTBEAT_SECONDS = 10
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * job["devices"])
    logger = logging.getLogger("slipway.progress")
    logger.addHandler(Tell(job["die_after"]))
    logger.setLevel(logging.INFO)
    run.decoder = lambda transform_output: inputs.parser(graph)
    results, train = [], training.train

    def kept(*arguments: object, **more: object) -> training.TrainResult:
        results.append(train(*arguments, **more))  # type: ignore[arg-type]
        return results[0]

    training.train = kept
    settings = {"train": job["train"], "model": job["model"], "transform": {"size": [8, 8], "channels": 1}}
    own = folder / job["name"]
    fn_args = SimpleNamespace(
        train_files=[f"{folder}/examples/Split-train/*"],
        eval_files=[f"{folder}/examples/Split-eval/*"],
        transform_output=None,
        transform_graph_path="",
        hyperparameters=None,
        base_model=None,
        # Only what comes out is shared: a process has no use for the unfinished state of the chief.
        custom_config={"settings": settings, "resume": str(own / "unfinished")},
        serving_model_dir=str(folder / "model" / "Format-Serving"),
        model_run_dir=str(folder / "model_run"),
    )
    try:
        run.run_fn(fn_args)
    except TrainerError as error:
        print("error", error, flush=True)
        return type(error).exit_code
    (result,) = results
    own.mkdir(exist_ok=True)
    np.savez(own / "weights.npz", *result.model.get_weights())
    outcome = {"history": result.history, "resumed_after": result.resumed_after}
    (own / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

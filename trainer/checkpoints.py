"""The state of an unfinished training, so that it goes on after an interruption.

One file holds everything (weights, optimizer, best weights, history) and replaces its predecessor in one
step; whenever the process dies, the file is whole. It is not forced to the disk: that would stall every epoch for
seconds while the disk is busy, and a file that a power cut has damaged only means to begin anew.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from trainer.callbacks import Best

FILE = "training.npz"


@dataclass(frozen=True)
class Checkpoint:
    """What stood in the file.

    Attributes:
        history: rows of the finished epochs.
        arrays: lists of arrays by name: `model`, `optimizer`, `initial`, `best`.
    """

    history: list[dict[str, float]]
    arrays: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def restore(self, model: tf_keras.Model, best: Best | None) -> None:
        """Put the state into a model that was built and compiled in the same way."""
        model.set_weights(self.arrays["model"])
        for variable, value in zip(model.optimizer.variables, self.arrays["optimizer"], strict=True):
            variable.assign(value)
        if best is not None and self.history:
            row = min(self.history, key=lambda row: row["eval_loss"])
            best.weights, best.epoch, best.loss = self.arrays["best"], int(row["epoch"]), row["eval_loss"]


class Keeper(tf_keras.callbacks.Callback):
    """Writes the state at the end of every epoch; without a folder it only takes part in reading it.

    Where several processes train, some variables are an average over all of them, so that all have to read them.
    """

    def __init__(
        self,
        folder: Path | None,
        key: str,
        history: list[dict[str, float]],
        initial: list[np.ndarray],
        best: Best | None,
    ) -> None:
        """Write to `folder`, marked with the `key` of this training."""
        super().__init__()
        self._folder, self._key, self._history, self._initial, self._best = (
            folder,
            key,
            history,
            initial,
            best,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the state, whole or not at all."""
        lists = {
            "model": self.model.get_weights(),
            "optimizer": [variable.numpy() for variable in self.model.optimizer.variables],
            "initial": self._initial,
            "best": (self._best.weights if self._best else None) or [],
        }
        arrays = {f"{name}/{index}": value for name, values in lists.items() for index, value in enumerate(values)}
        if self._folder is None:
            return
        arrays["state"] = np.array(json.dumps({"key": self._key, "history": self._history}))
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f"{FILE}.{os.getpid()}"
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
        unfinished.replace(self._folder / FILE)


def read(folder: Path) -> bytes:
    """Return the content of the folder's file; empty if there is none."""
    try:
        return (folder / FILE).read_bytes()
    except FileNotFoundError:
        return b""


def parse(content: bytes, key: str) -> Checkpoint | None:
    """Return the state of the training with this key; None if there is none or it belongs to another one."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            state = json.loads(str(stored["state"]))
            if state["key"] != key:
                return None
            arrays: dict[str, list[np.ndarray]] = {"model": [], "optimizer": [], "initial": [], "best": []}
            for name in stored.files:
                if name != "state":
                    arrays[name.partition("/")[0]].append(stored[name])
    except (EOFError, zipfile.BadZipFile, KeyError, ValueError):
        return None
    return Checkpoint(state["history"], arrays)


def forget(folder: Path) -> None:
    """Delete what the trainings of this folder left behind."""
    for path in folder.glob(f"{FILE}*"):
        path.unlink(missing_ok=True)

"""The Keras model from the Trainer to later stages: what it was built from, and its weights.

The exported SavedModel holds no Keras object, and techniques that train on (pruning, quantization-aware training,
distillation) need one. `trainer.run` saves it beside the SavedModel; the stage that compresses loads it. The model
is built anew from its settings, so nothing that is stored is executed.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.errors import TrainerError
from trainer.settings import ModelSettings, TrainSettings

if TYPE_CHECKING:
    import tf_keras

FOLDER = "Format-Keras"
"""Where it lies in the Trainer's model artifact, beside TFX's `Format-Serving`."""

_DESCRIPTION = "model.json"
_WEIGHTS = "weights.npz"


class Handover(NamedTuple):
    """A trained model with what it was made from."""

    model: tf_keras.Model
    model_settings: ModelSettings
    train_settings: TrainSettings


def save(model: tf_keras.Model, model_settings: ModelSettings, train_settings: TrainSettings, folder: Path) -> None:
    """Write a trained model's settings and weights.

    Args:
        model: image float32 [N, H, W, C] to logits float32 [N, K].
        model_settings: what it was built from, hyperparameters that a search found included.
        train_settings: how it was trained, the same.
        folder: is created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{index:04d}": value for index, value in enumerate(model.get_weights())}
    np.savez(folder / _WEIGHTS, **arrays)
    description = {
        "model": model_settings.model_dump(mode="json"),
        "train": train_settings.model_dump(mode="json"),
        "input_shape": list(model.input_shape[1:]),
        "classes": model.output_shape[-1],
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Handover:
    """Build a saved model anew, with its weights.

    Args:
        folder: that of `save`.

    Returns:
        The model, not compiled, and its settings.

    Raises:
        TrainerError: if a file is missing or damaged, or the code that built the model has changed since.
    """
    from trainer import models

    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        model_settings = ModelSettings.model_validate(description["model"])
        train_settings = TrainSettings.model_validate(description["train"])
        height, width, channels = description["input_shape"]
        classes = description["classes"]
        with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
            weights = [arrays[name] for name in sorted(arrays.files)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise TrainerError(
            f"the Keras model in {folder} can't be read ({type(error).__name__}: {error}); expected {_DESCRIPTION} and "
            f"{_WEIGHTS} as the Trainer leaves them; train again with `--no-cache Trainer`"
        ) from error
    model = models.build(model_settings, (height, width, channels), classes)
    expected = [value.shape for value in model.get_weights()]
    received = [value.shape for value in weights]
    if received != expected:
        raise TrainerError(
            f"the weights in {folder} don't fit the model {model_settings.name!r} as it is built now: received "
            f"{len(received)} arrays, expected {len(expected)} of the model's shapes; train again with "
            "`--no-cache Trainer`"
        )
    model.set_weights(weights)
    return Handover(model, model_settings, train_settings)

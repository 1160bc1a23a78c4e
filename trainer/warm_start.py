"""Starting a training with the weights of an earlier model instead of random ones.

The folder of a finished model and the settings of the training at hand come in; the weights to start with go out,
with the settings that hold for such a start, or the reason why the training starts from random weights after all.
Called by `trainer.run`. A model of another architecture, input or set of classes is no start: its weights would mean
something else, so it is left alone and the record says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer import handover
from trainer.errors import TrainerError
from trainer.export import LABELS_FILE
from trainer.settings import ModelSettings, TrainSettings

FILE = "start.json"
"""Where the run folder of a model says what its training started with."""


@dataclass(frozen=True)
class Start:
    """What a training starts with.

    Attributes:
        settings: the section `train` as it holds for this start.
        sentence: for the record; empty where no warm start was asked for.
        weights: arrays in the order of the model's own; None: random ones.
        base: folder of the model that they are from.
    """

    settings: TrainSettings
    sentence: str = ""
    weights: list[np.ndarray] | None = None
    base: str = ""

    def write(self, folder: Path) -> None:
        """Write `start.json` into the run folder of the model."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"warm": self.weights is not None, "base": self.base, "sentence": self.sentence}, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def prepare(
    base: str | None,
    settings: TrainSettings,
    model_settings: ModelSettings,
    labels: list[str],
    input_shape: tuple[int, int, int],
) -> Start:
    """Decide what a training starts with.

    Args:
        base: folder of the SavedModel of an earlier model, beside which its Keras weights lie; None if there is none.
        settings: the section `train`.
        model_settings: the section `model`, hyperparameters that a search found included.
        labels: the classes, in the order of their ids.
        input_shape: height, width and channels.
    """
    if not settings.warm_start:
        return Start(settings)
    if base is None:
        return Start(settings, "no model was blessed before, so the weights start from random values")
    artifact = Path(base).parent
    try:
        found = handover.load(artifact / handover.FOLDER)
        known = _labels(Path(base))
    except TrainerError as error:
        return Start(settings, f"the weights start from random values, since {error}")
    reason = _mismatch(found, known, model_settings, labels, input_shape)
    if reason:
        return Start(settings, f"the weights start from random values, since the last blessed model {reason}")
    changes = {"epochs": settings.warm_epochs, "learning_rate": settings.warm_learning_rate}
    warm = settings.model_copy(update={name: value for name, value in changes.items() if value is not None})
    return Start(warm, f"the weights start from those of {artifact}", found.model.get_weights(), str(artifact))


def _labels(saved_model: Path) -> list[str]:
    path = saved_model / "assets.extra" / LABELS_FILE
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise TrainerError(f"{path} can't be read ({error.strerror})") from error


def _mismatch(
    found: handover.Handover,
    known: list[str],
    model_settings: ModelSettings,
    labels: list[str],
    input_shape: tuple[int, int, int],
) -> str:
    """Return half a sentence about what keeps the weights from being used, or nothing."""
    if known != labels:
        gone, new = ([repr(n) for n in a if n not in b] for a, b in ((known, labels), (labels, known)))
        changes = [f"knows {', '.join(gone[:5])}, which the data lacks"] if gone else []
        changes += [f"lacks {', '.join(new[:5])}, which the data has"] if new else []
        return " and ".join(changes) or "has the same classes in another order"
    shape = tuple(found.model.input_shape[1:])
    if shape != input_shape:
        return f"takes images of {_by(shape)}, and this one of {_by(input_shape)}"
    for name in ("name", "width"):
        old, now = getattr(found.model_settings, name), getattr(model_settings, name)
        if old != now:
            return f"has model.{name} {old}, and this one {now}"
    from trainer import models

    wanted = [value.shape for value in models.build(model_settings, input_shape, len(labels)).get_weights()]
    if wanted != [value.shape for value in found.model.get_weights()]:
        return f"is a {model_settings.name} of other layers"
    return ""


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

"""The training loop: two splits and the settings in, a fitted model and its history out.

Called by `trainer.run` (the Trainer component), by the tuner for each trial, and by tests and notebooks.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from trainer import autograph, checkpoints, inputs, losses, models, optimizers
from trainer.callbacks import Agree, Best, Watch, WeightAverage
from trainer.distribution import Distribution
from trainer.errors import TrainerError
from trainer.settings import ModelSettings, TrainSettings

# Steps in one call of the compiled function: fewer trips through Python, and still about one report a second.
STEPS_PER_CALL = 8
# Augmentations that blend the targets too, which must then be probabilities.
BLENDS = {"mixup", "cutmix"}


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        model: the fitted model, compiled with log loss and accuracy.
        history: one row per epoch, see `trainer.callbacks.Watch`.
        best_epoch: number (from 1) of the epoch with the lowest loss on the eval split. The model has its
            weights if early stopping is on, else those of the last epoch.
        resumed_after: epochs that an interrupted training had finished before.
    """

    model: tf_keras.Model
    history: list[dict[str, float]]
    best_epoch: int
    resumed_after: int


def train(
    settings: TrainSettings,
    model_settings: ModelSettings,
    train_split: inputs.Split,
    eval_split: inputs.Split,
    classes: int,
    workdir: Path | None = None,
    initial_weights: list[np.ndarray] | None = None,
    distribution: Distribution | None = None,
) -> TrainResult:
    """Fit a model.

    Args:
        settings: the section `train`.
        model_settings: the section `model`.
        train_split: examples to learn from.
        eval_split: examples to evaluate after each epoch.
        classes: number of classes K.
        workdir: folder for `history.csv`, `history.json` and, while the training runs, its state; an interrupted
            training with the same settings and data goes on after its last finished epoch. None writes nothing.
        initial_weights: what the model starts with, in the order of its weights; None: random values.
        distribution: devices and processes, all of which call this function with the same arguments; only the
            chief's `workdir` is read and written. None: one device.

    Returns:
        The model and its history, the same in every process; the model is on one device again. The same seed gives
        the same history on the same machine and devices.

    Raises:
        TrainerError: if the data does not fit the classes, or the model cannot be built.
        DivergedError: if the loss becomes infinite or not a number.
    """
    _check_labels(train_split, eval_split, classes)
    autograph.spare_known_code()
    distribution = distribution or Distribution()
    # Weights come from the chief; dropout should not leave out the same units everywhere.
    tf_keras.utils.set_random_seed(settings.seed + distribution.rank)
    steps = inputs.steps_per_epoch(train_split, distribution.batch_size(settings.batch_size, train_split.size))

    def build() -> tf_keras.Model:
        return compiled(models.build(model_settings, train_split.shape, classes), settings, steps)

    with distribution.scope():
        model = build()

    start = []
    if initial_weights is not None:
        model.set_weights(initial_weights)
        start = [hashlib.sha256(b"".join(value.tobytes() for value in initial_weights)).hexdigest()]

    best = Best(settings.early_stopping) if settings.early_stopping else None
    digest = key(settings, model_settings, train_split, eval_split, classes, *start)
    found = _found(distribution, workdir, digest)
    history = found.history if found else []
    initial = found.arrays["initial"] if found else [variable.numpy() for variable in model.trainable_variables]
    if found:
        found.restore(model, best)
    resumed_after = len(history)

    average = WeightAverage(initial) if settings.ema is not None else None
    watch = Watch(settings, steps, history)
    folder = workdir if distribution.chief else None
    keeper = checkpoints.Keeper(folder, digest, history, initial, best) if workdir is not None else None
    agree = Agree() if distribution.strategy is not None else None
    # Best looks at the averaged weights, the keeper stores the others: the order matters.
    callbacks = [callback for callback in (agree, best, average, watch, keeper) if callback is not None]
    if not _stopped(history, settings):
        _fit(model, settings, train_split, eval_split, classes, steps, resumed_after, callbacks, distribution)
    _settle(model, average, best)
    if distribution.strategy is not None:
        weights, model = model.get_weights(), build()
        model.set_weights(weights)
    if workdir is not None and distribution.chief:
        write_history(history, workdir)
        checkpoints.forget(workdir)
    best_epoch = int(min(history, key=lambda row: row["eval_loss"])["epoch"])
    return TrainResult(model, history, best_epoch, resumed_after)


def compiled(model: tf_keras.Model, settings: TrainSettings, steps: int) -> tf_keras.Model:
    """Compile a model with log loss, accuracy and its optimizer, whose state can then be restored."""
    optimizer = optimizers.build(settings, steps)
    model.compile(
        optimizer=optimizer,
        loss=losses.CrossEntropy(),
        metrics=[losses.Accuracy()],
        steps_per_execution=min(steps, STEPS_PER_CALL),
    )
    optimizer.build(model.trainable_variables)
    return model


def write_history(history: list[dict[str, float]], folder: Path) -> None:
    """Write `history.csv` and `history.json`, one row per epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    with (folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def key(train_settings: TrainSettings, *others: Any) -> str:
    """Return a digest of everything that decides what a training computes.

    Args:
        train_settings: the section `train`; how much is kept in memory and on how many devices it runs does not
            count, so that a training goes on where another number of machines is at hand.
        *others: other sections, splits and plain values. Of a section `model` the user's module counts with its
            content.
    """
    parts = [train_settings.model_dump_json(exclude={"cache_mb", "distribute", "distribute_timeout"})]
    for other in others:
        if isinstance(other, inputs.Split):
            parts.append(str(other.fingerprint))
        elif isinstance(other, ModelSettings) and other.module is not None:
            parts += [other.model_dump_json(), Path(other.module).expanduser().read_text(encoding="utf-8")]
        else:
            parts.append(repr(other))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _fit(
    model: tf_keras.Model,
    settings: TrainSettings,
    train_split: inputs.Split,
    eval_split: inputs.Split,
    classes: int,
    steps: int,
    first_epoch: int,
    callbacks: list[Any],
    distribution: Distribution,
) -> None:
    augment, soften = changes(settings, classes)
    epochs = range(first_epoch, settings.epochs)
    batch_size = distribution.batch_size(settings.batch_size, train_split.size)
    replicas = distribution.share.replicas
    model.fit(
        distribution.batches(
            lambda share: inputs.training(train_split, batch_size, epochs, settings.seed, augment, soften, share)
        ),
        validation_data=distribution.batches(lambda share: inputs.evaluation(eval_split, share=share)),
        validation_steps=inputs.evaluation_steps(eval_split, replicas) if replicas > 1 else None,
        initial_epoch=first_epoch,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        verbose=0,
    )


def changes(settings: TrainSettings, classes: int) -> tuple[inputs.Augment | None, Any]:
    """Return the augmentation and the softening of targets that the settings ask for."""
    soft = settings.label_smoothing > 0 or bool(BLENDS & set(settings.augment))
    soften = partial(losses.soft_targets, classes=classes, smoothing=settings.label_smoothing) if soft else None
    if not settings.augment:
        return None, soften
    from transform import augment

    return augment.build(settings.augment), soften


def _found(distribution: Distribution, workdir: Path | None, digest: str) -> checkpoints.Checkpoint | None:
    """Return the state of an interrupted training: the chief's, in every process."""
    stored = checkpoints.read(workdir) if workdir is not None and distribution.chief else b""
    found = checkpoints.parse(stored, digest)
    own = digest.encode()
    received = distribution.from_chief(own + (stored if found else b""))
    if not received.startswith(own):
        raise TrainerError(
            "this process has other settings, data or code of the model than the chief; expected the same in all "
            "processes; give all of them the same config and the same examples"
        )
    return found if distribution.chief else checkpoints.parse(received[len(own) :], digest)


def _settle(model: tf_keras.Model, average: WeightAverage | None, best: Best | None) -> None:
    """Give the model the weights that the settings promise."""
    if best is not None and best.weights is not None:
        model.set_weights(best.weights)
    elif average is not None:
        average.set_model(model)
        average.put()


def _stopped(history: list[dict[str, float]], settings: TrainSettings) -> bool:
    """Return whether a restored training had already come to its end."""
    if not history or len(history) >= settings.epochs:
        return bool(history)
    best_epoch = min(history, key=lambda row: row["eval_loss"])["epoch"]
    return settings.early_stopping is not None and len(history) - best_epoch >= settings.early_stopping


def _check_labels(train_split: inputs.Split, eval_split: inputs.Split, classes: int) -> None:
    for name, split in (("train", train_split), ("eval", eval_split)):
        if split.labels is not None and not 0 <= split.labels.min() <= split.labels.max() < classes:
            raise TrainerError(
                f"the {name} split has labels from {split.labels.min()} to {split.labels.max()}; expected 0 "
                f"to {classes - 1} for {classes} classes; the examples and labels.txt do not belong together"
            )

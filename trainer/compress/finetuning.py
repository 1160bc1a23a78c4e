"""The one loop that trains a model on: batches, augmentation, loss and metric are those of `trainer.training`.

Called by every technique, with the wrappers of TF-MOT around the layers or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras

from trainer import inputs, training
from trainer.callbacks import Watch
from trainer.compress.settings import FinetuneSettings
from trainer.settings import TrainSettings

WARMUP = 0.05


def stage_settings(
    settings: FinetuneSettings, train_settings: TrainSettings, epochs: int | None = None
) -> TrainSettings:
    """Return the settings of one stage.

    The learning rate falls to zero, so the last weights are the ones to keep. Nothing decays, because decay
    also pulls at weights that stand for zeros, clusters or ranges; no average and no early stop, because both
    would bring back weights from before the end of pruning.

    Args:
        settings: the section `compress.finetune`.
        train_settings: the section `train` that fitted the float model.
        epochs: epochs of this stage if they differ from the settings'.
    """
    return train_settings.model_copy(
        update={
            "epochs": epochs or settings.epochs,
            "batch_size": settings.batch_size or train_settings.batch_size,
            "learning_rate": settings.learning_rate * train_settings.learning_rate,
            "schedule": "cosine",
            "warmup": WARMUP,
            "weight_decay": 0.0,
            "ema": None,
            "early_stopping": None,
            "seed": settings.seed,
        }
    )


def finetune(
    model: tf_keras.Model,
    train: inputs.Split,
    evaluation: inputs.Split,
    wanted: TrainSettings,
    callbacks: Sequence[Any] = (),
) -> list[dict[str, float]]:
    """Train a model on, in place.

    Args:
        model: image [N, H, W, C] to logits [N, K]; it is compiled anew.
        train: examples to learn from.
        evaluation: examples to evaluate after each epoch.
        wanted: see `stage_settings`.
        callbacks: further callbacks, such as the one that moves pruning on.

    Returns:
        One row per epoch, as `trainer.training.train` has it.

    Raises:
        DivergedError: if the loss becomes infinite or not a number.
    """
    tf_keras.utils.set_random_seed(wanted.seed)
    steps = inputs.steps_per_epoch(train, wanted.batch_size)
    training.compiled(model, wanted, steps)
    history: list[dict[str, float]] = []
    fit(model, train, evaluation, wanted, history, model.output_shape[-1], callbacks)
    return history


def fit(
    model: tf_keras.Model,
    train: inputs.Split,
    evaluation: inputs.Split,
    wanted: TrainSettings,
    history: list[dict[str, float]],
    classes: int,
    callbacks: Sequence[Any] = (),
) -> None:
    """Fit a compiled model and append one row per epoch to `history`; see `finetune`."""
    augment, soften = training.changes(wanted, classes)
    steps = inputs.steps_per_epoch(train, wanted.batch_size)
    model.fit(
        inputs.training(train, wanted.batch_size, range(wanted.epochs), wanted.seed, augment, soften),
        validation_data=inputs.evaluation(evaluation),
        epochs=wanted.epochs,
        steps_per_epoch=steps,
        callbacks=[*callbacks, Watch(wanted, steps, history)],
        verbose=0,
    )

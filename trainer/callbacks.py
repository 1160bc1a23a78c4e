"""What happens around the steps of a training: progress, divergence, averaged and best weights."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import tf_keras

from trainer.errors import DivergedError
from trainer.settings import TrainSettings
from transform import progress

SECONDS_BETWEEN_REPORTS = 1.0


class Watch(tf_keras.callbacks.Callback):
    """Reports steps and epochs, and stops a training whose loss is no longer a number.

    Attributes:
        history: one row per finished epoch: `epoch` (from 1), `loss`, `accuracy`, `eval_loss`,
        `eval_accuracy`,
            `learning_rate` and `seconds`.
    """

    # Logs stay tensors; converting them after every step would cost more than the report.
    _supports_tf_logs = True

    def __init__(self, settings: TrainSettings, steps_per_epoch: int, history: list[dict[str, float]]) -> None:
        """Go on from the epochs in `history`."""
        super().__init__()
        self.history = history
        self._settings = settings
        self._steps = steps_per_epoch
        self._epoch_began = self._reported = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock of the epoch."""
        self._epoch_began = self._reported = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Report, at most once a second."""
        now = time.monotonic()
        if now - self._reported < SECONDS_BETWEEN_REPORTS or logs is None:
            return
        self._reported = now
        figures = {name: round(float(value), 4) for name, value in logs.items()}
        self._refuse_nan(figures["loss"], len(self.history) + 1)
        progress.report(batch + 1, self._steps, "steps", epoch=len(self.history) + 1, **figures)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep and report the figures of the epoch."""
        figures = {name.replace("val_", "eval_"): float(value) for name, value in (logs or {}).items()}
        self._refuse_nan(figures["loss"], epoch + 1)
        rate = float(self.model.optimizer.learning_rate.numpy())
        seconds = round(time.monotonic() - self._epoch_began, 2)
        self.history.append({"epoch": epoch + 1, **figures, "learning_rate": rate, "seconds": seconds})
        shown = {name: round(value, 4) for name, value in figures.items()}
        progress.report(epoch + 1, self._settings.epochs, "epochs", **shown)

    def _refuse_nan(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            settings = self._settings
            raise DivergedError(
                f"the loss became {loss} in epoch {epoch} with {settings.optimizer} and train.learning_rate "
                f"{settings.learning_rate:g}; expected a finite number; set a learning rate such as "
                f"{settings.learning_rate / 10:g} or a longer train.warmup"
            )


class Agree(tf_keras.callbacks.Callback):
    """Gives all devices the same statistics before each evaluation.

    Each device has its own moving averages of batch normalization, and what is stored is their mean. Evaluated is then
    exactly the model that is stored, and an interrupted training goes on as if nothing had happened.
    """

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Replace the statistics of every device by their mean; all processes take part."""
        for variable in self.model.non_trainable_variables:
            variable.assign(variable.numpy())


class WeightAverage(tf_keras.callbacks.Callback):
    """Evaluates and finally keeps the moving average of the weights instead of the last ones.

    The optimizer's average starts from the initial weights; their share is taken out, as Adam (Kingma and Ba,
    2015, arXiv:1412.6980) does for its moments.
    """

    def __init__(self, initial: list[np.ndarray]) -> None:
        """Take the trainable weights from before the first step."""
        super().__init__()
        self._initial = initial
        self._raw: list[np.ndarray] | None = None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put the average into the model."""
        self.put()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the weights back with which training goes on."""
        if self._raw is not None:
            for variable, value in zip(self.model.trainable_variables, self._raw, strict=True):
                variable.assign(value)
            self._raw = None

    def put(self) -> None:
        """Replace the model's trainable weights by their average."""
        optimizer, variables = self.model.optimizer, self.model.trainable_variables
        left = optimizer.ema_momentum ** int(optimizer.iterations.numpy())
        self._raw = [variable.numpy() for variable in variables]
        averages = optimizer._model_variables_moving_average
        for variable, average, initial in zip(variables, averages, self._initial, strict=True):
            variable.assign((average.numpy() - left * initial) / (1.0 - left))


class Best(tf_keras.callbacks.Callback):
    """Remembers the weights with the lowest loss on the eval split, and stops when they lie far back.

    Attributes:
        weights: of the best epoch; None before the first one ends.
        epoch: number of the best epoch, from 1; 0 before the first one ends.
        loss: its loss on the eval split.
    """

    def __init__(self, patience: int) -> None:
        """Stop after `patience` epochs without a lower loss."""
        super().__init__()
        self._patience = patience
        self.weights: list[np.ndarray] | None = None
        self.epoch = 0
        self.loss = math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare with the best so far."""
        loss = float((logs or {})["val_loss"])
        if loss < self.loss:
            self.weights, self.epoch, self.loss = self.model.get_weights(), epoch + 1, loss
        elif epoch + 1 - self.epoch >= self._patience:
            self.model.stop_training = True

"""The search for hyperparameters: a space from the section `tune`, trials, and the best of them.

`make_tuner` is the plain function; `trainer.run.tuner_fn` is what the Tuner component calls. The Trainer puts
what was found into its settings by `apply`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from trainer import autograph, inputs, training
from trainer.errors import DivergedError, TrainerError
from trainer.settings import ModelSettings, TrainSettings, TuneSettings
from transform import progress

OBJECTIVE = "eval_accuracy"
# Which section each hyperparameter belongs to.
MODEL_FIELDS = ("dropout", "width")


class BrokenTrialError(TrainerError, keras_tuner.errors.FatalError):
    """A trial that fails in a way in which every other one would fail too; ends the search."""


class Search(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs the trials that an oracle proposes, each by `trainer.training.train`.

    Of KerasTuner only the oracles and the bookkeeping are used: its own tuners want Keras models of one Keras
    generation. A search that was interrupted goes on in its directory with the trial that was running.
    """

    def __init__(
        self,
        oracle: Any,
        settings: TuneSettings,
        train_settings: TrainSettings,
        model_settings: ModelSettings,
        directory: Path,
        project: str,
        overwrite: bool = False,
    ) -> None:
        """Prepare the search, or take up the one in `directory/project`."""
        self._settings = settings
        self._train_settings = train_settings
        self._model_settings = model_settings
        super().__init__(oracle=oracle, directory=str(directory), project_name=project, overwrite=overwrite)
        self._display.verbose = 0

    def run_trial(
        self, trial: Any, train_split: inputs.Split, eval_split: inputs.Split, classes: int
    ) -> dict[str, float]:
        """Train with the values of a trial and return its figures on the eval split."""
        import tf_keras

        began = time.monotonic()
        values = chosen(trial.hyperparameters)
        # Hyperband decides itself how long a trial may run.
        epochs = trial.hyperparameters.values.get("tuner/epochs", self._settings.epochs)
        train_settings, model_settings = apply(values, self._train_settings, self._model_settings)
        train_settings = train_settings.model_copy(
            update={"epochs": epochs, "seed": self._settings.seed, "early_stopping": None}
        )
        tf_keras.backend.clear_session()
        try:
            result = training.train(train_settings, model_settings, train_split, eval_split, classes)
        except DivergedError as error:
            self._report(values, failed=str(error))
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except TrainerError as error:
            raise BrokenTrialError(str(error)) from error
        except Exception as error:
            # KerasTuner would swallow it and try the next.
            raise BrokenTrialError(f"a trial failed with {type(error).__name__}: {error}") from error
        last = result.history[-1]
        figures = {name: last[name] for name in ("eval_accuracy", "eval_loss", "accuracy", "loss")}
        del result
        gc.collect()
        seconds = round(time.monotonic() - began, 1)
        self._report(values, score=round(figures[OBJECTIVE], 4), seconds=seconds)
        return figures

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of the best trials, best first.

        Raises:
            TrainerError: if no trial came to an end.
        """
        # The oracle fills the list up with failed trials.
        finished = [trial for trial in self.oracle.get_best_trials(num_trials) if trial.score is not None]
        if not finished:
            raise TrainerError(
                f"none of {len(self.oracle.trials)} trials came to an end; expected at least one; lower the range "
                "of tune.learning_rate"
            )
        return [trial.hyperparameters for trial in finished]

    def search_space_summary(self, extended: bool = False) -> None:
        """Print nothing; the command line shows progress reports."""

    def results_summary(self, num_trials: int = 10) -> None:
        """Print nothing; the command line shows progress reports."""

    def _report(self, values: Mapping[str, Any], **figures: Any) -> None:
        shown = {name: float(f"{value:.4g}") for name, value in values.items()}
        progress.report(len(self.oracle.start_order), self.oracle.max_trials, "trials", **shown, **figures)


def make_tuner(
    settings: TuneSettings,
    train_settings: TrainSettings,
    model_settings: ModelSettings,
    directory: Path,
    key: str = "search",
) -> Search:
    """Return a tuner for the space that the settings span.

    Args:
        settings: the section `tune`.
        train_settings: the section `train`; what is not searched stays as it is.
        model_settings: the section `model`.
        directory: where searches keep their state.
        key: names the search within the directory; an unfinished one of the same key goes on.

    Returns:
        The tuner; call `search(train_split=..., eval_split=..., classes=...)`, then
        `get_best_hyperparameters()[0]`.
    """
    autograph.spare_known_code()

    def build(overwrite: bool) -> Search:
        oracle = _oracle(settings, space(settings, train_settings))
        return Search(oracle, settings, train_settings, model_settings, directory, key, overwrite)

    try:
        return build(overwrite=False)
    except (ValueError, KeyError, RuntimeError):
        # KerasTuner does not write its state in one step; what a killed search left may not be readable.
        return build(overwrite=True)


def space(settings: TuneSettings, train_settings: TrainSettings) -> keras_tuner.HyperParameters:
    """Return the search space: learning rate and dropout, and what else the settings name."""
    found = keras_tuner.HyperParameters()
    found.Float("learning_rate", *settings.learning_rate, sampling="log")
    found.Float("dropout", *settings.dropout)
    if train_settings.optimizer != "adam":
        found.Float("weight_decay", *settings.weight_decay, sampling="log")
    if settings.batch_size:
        found.Choice("batch_size", list(settings.batch_size))
    if settings.width:
        found.Choice("width", list(settings.width))
    return found


def chosen(hyperparameters: keras_tuner.HyperParameters) -> dict[str, Any]:
    """Return the values by name, without the oracle's own entries."""
    return {name: value for name, value in hyperparameters.values.items() if not name.startswith("tuner/")}


def apply(
    values: Mapping[str, Any], train_settings: TrainSettings, model_settings: ModelSettings
) -> tuple[TrainSettings, ModelSettings]:
    """Return the settings with hyperparameters put in.

    Args:
        values: fields of either section by name, as `chosen` gives them.
        train_settings: the section `train`.
        model_settings: the section `model`.

    Returns:
        Both sections, validated.
    """
    for_model = {name: value for name, value in values.items() if name in MODEL_FIELDS}
    for_train = {name: value for name, value in values.items() if name not in MODEL_FIELDS}
    return (
        TrainSettings.model_validate(train_settings.model_dump() | for_train),
        ModelSettings.model_validate(model_settings.model_dump() | for_model),
    )


def _oracle(settings: TuneSettings, hyperparameters: keras_tuner.HyperParameters) -> Any:
    # KerasTuner takes a seed of zero for none.
    options = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": hyperparameters,
        "seed": settings.seed + 1,
        "max_consecutive_failed_trials": settings.trials + 1,
    }
    if settings.oracle == "random":
        return keras_tuner.oracles.RandomSearchOracle(max_trials=settings.trials, **options)
    if settings.oracle == "bayesian":
        first = max(2, settings.trials // 3)
        return keras_tuner.oracles.BayesianOptimizationOracle(
            max_trials=settings.trials, num_initial_points=first, **options
        )
    return Brackets(settings.trials, max_epochs=max(2, settings.epochs), **options)


class Brackets(keras_tuner.oracles.HyperbandOracle):
    """Hyperband (L. Li et al., 2018, arXiv:1603.06560) that ends after a number of trials."""

    def __init__(self, trials: int, **options: Any) -> None:
        """Stop after `trials`, however many brackets they fill."""
        super().__init__(hyperband_iterations=None, **options)
        self.max_trials = trials

"""Magnitude pruning: a fitted model and a sparsity for each layer in, the model with zeros in its kernels out.

TF-MOT's wrappers set the smallest weights to zero while training goes on (Zhu and Gupta, 2017,
arXiv:1710.01878). Heads and first convolutions stay dense: they hold few weights and cost most accuracy.
Called by `compressing`, alone or as the first stage of a collaborative technique.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import tf_keras

from trainer import inputs
from trainer.compress import batch_norm, finetuning, network, schedule, scoring
from trainer.compress.settings import FinetuneSettings
from trainer.compress.technique import Schedule
from trainer.settings import TrainSettings

INITIAL_SHARE = 0.25
# Two zeros among four neighbours along the input channels, what sparse tensor cores read.
TWO_BY_FOUR = (2, 4)

log = logging.getLogger(__name__)


def prune(
    model: tf_keras.Model,
    sparsities: Mapping[str, float],
    course: Schedule,
    train: inputs.Split,
    evaluation: inputs.Split,
    settings: FinetuneSettings,
    train_settings: TrainSettings,
) -> tuple[tf_keras.Model, dict[str, Any]]:
    """Prune the kernels of some layers while training the model on.

    Args:
        model: the float model; not changed.
        sparsities: share of zeros wanted, by layer; all other layers stay dense.
        course: `polynomial` (or `scan`, which only chose the sparsities), `constant` or `2by4`.
        train: examples to learn from.
        evaluation: examples that decide about batch norm statistics.
        settings: the section `compress.finetune`.
        train_settings: the section `train`.

    Returns:
        The pruned model without wrappers, and what was done.
    """
    import tensorflow_model_optimization as tfmot

    wanted = finetuning.stage_settings(settings, train_settings)
    plan = schedule.plan(wanted.epochs, inputs.steps_per_epoch(train, wanted.batch_size))
    if plan.raised_from is not None:
        log.warning(
            "pruning takes %d epochs instead of %d: fewer steps cannot be made up for", plan.epochs, wanted.epochs
        )
        wanted = wanted.model_copy(update={"epochs": plan.epochs})
    wrapped = wrap(network.rebuild(model), sparsities, course, plan)
    history = finetuning.finetune(wrapped, train, evaluation, wanted, [tfmot.sparsity.keras.UpdatePruningStep()])
    pruned = network.rebuild(tfmot.sparsity.keras.strip_pruning(wrapped))
    statistics = batch_norm.reestimate(pruned, train, evaluation, settings.seed)
    details: dict[str, Any] = {
        "stage": "pruning",
        "course": course,
        "epochs": plan.epochs,
        "epochs_raised_from": plan.raised_from,
        "steps": plan.steps,
        "begin_step": 1 if course == "2by4" else plan.begin_step,
        "end_step": 1 if course == "2by4" else plan.end_step,
        "frequency": plan.frequency,
        "sparsity_wanted": {name: round(value, 4) for name, value in sparsities.items()},
        "sparsity": network.sparsity(pruned),
        "batch_norm": statistics,
        "eval": scoring.score(pruned, evaluation).rounded(),
        "history": history,
    }
    if course == "2by4":
        found = network.kernels(pruned)
        details["two_by_four"] = [name for name in sparsities if keeps_two_by_four(found[name])]
    return pruned, details


def wrap(
    model: tf_keras.Model, sparsities: Mapping[str, float], course: Schedule, plan: schedule.PruningPlan
) -> tf_keras.Model:
    """Return the model with pruning wrappers around the layers named; it shares the layers with `model`."""
    from tensorflow_model_optimization.sparsity import keras as sparse

    def wrapped(layer: Any) -> Any:
        if layer.name not in sparsities:
            return layer
        wanted = sparsities[layer.name]
        if course == "2by4":
            return sparse.prune_low_magnitude(layer, sparsity_m_by_n=TWO_BY_FOUR)
        if course == "constant":
            steps = sparse.ConstantSparsity(wanted, plan.begin_step, plan.end_step, plan.frequency)
        else:
            steps = sparse.PolynomialDecay(
                INITIAL_SHARE * wanted, wanted, plan.begin_step, plan.end_step, frequency=plan.frequency
            )
        return sparse.prune_low_magnitude(layer, pruning_schedule=steps)

    return tf_keras.models.clone_model(model, clone_function=wrapped)


def uniform(model: tf_keras.Model, sparsity: float) -> dict[str, float]:
    """Return the same sparsity for each layer that may be pruned."""
    return dict.fromkeys(network.thinnable(model), sparsity)


def two_by_four(model: tf_keras.Model) -> dict[str, float]:
    """Return the layers in which groups of four input channels exist, each half empty afterwards."""
    shapes = {name: value.shape for name, value in network.kernels(model).items()}
    return {name: 0.5 for name in network.thinnable(model) if shapes[name][-2] > TWO_BY_FOUR[0]}


def keeps_two_by_four(kernel: np.ndarray) -> bool:
    """Return whether every group of four neighbours along the input channels has at least two zeros.

    Args:
        kernel: [..., inputs, outputs]; a last group of fewer than four may have as many zeros fewer.
    """
    zeros, lanes = TWO_BY_FOUR
    channels = kernel.shape[-2]
    padding = [(0, 0)] * (kernel.ndim - 2) + [(0, -channels % lanes), (0, 0)]
    padded = np.pad(kernel, padding)
    groups = padded.reshape(*kernel.shape[:-2], -1, lanes, kernel.shape[-1])
    return bool(((groups == 0).sum(axis=-2) >= zeros).all())

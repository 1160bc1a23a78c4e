"""The dispatcher: the name of a technique, a fitted model and its data in, a compressed model out.

Called by the pipeline's optimization stage once for each technique of the config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tf_keras

from trainer import autograph, inputs
from trainer.compress import (
    batch_norm,
    channels,
    clustering,
    distillation,
    finetuning,
    network,
    pruning,
    quantization,
    scoring,
    sensitivity,
    support,
)
from trainer.compress.compressed import Compressed
from trainer.compress.settings import FinetuneSettings
from trainer.compress.technique import Technique, parse
from trainer.settings import ModelSettings, TrainSettings
from transform import progress

Stage = tuple[tf_keras.Model, dict[str, Any]]


class Job(NamedTuple):
    """What every stage gets."""

    technique: Technique
    train: inputs.Split
    evaluation: inputs.Split
    settings: FinetuneSettings
    train_settings: TrainSettings
    model_settings: ModelSettings


def compress(
    technique: str,
    model: tf_keras.Model,
    train: inputs.Split,
    evaluation: inputs.Split,
    settings: FinetuneSettings,
    train_settings: TrainSettings,
    model_settings: ModelSettings,
) -> Compressed:
    """Apply a technique to a model.

    Args:
        technique: a name such as `pqat60`; see `technique.FORMS`.
        model: the float model: flat and functional, image [N, H, W, C] in [0, 1] to logits [N, K]. Not changed.
        train: examples to train on.
        evaluation: examples on which every choice is made.
        settings: the section `compress.finetune`.
        train_settings: the section `train` that fitted the model.
        model_settings: the section `model` that built it.

    Returns:
        The compressed model. `details` has `technique`, `parameters`, the scores of the float model
        (`float_eval`) and of the result (`eval`), `sparsity` of each layer, and `stages` with what each did.

    Raises:
        TrainerError: if there is no such technique, or it cannot be applied to this model; before training.
        DivergedError: if a loss becomes infinite or not a number.
    """
    wanted = parse(technique)
    autograph.spare_known_code()
    support.check(wanted, model, settings.float_fallback)
    job = Job(wanted, train, evaluation, settings, train_settings, model_settings)
    current = network.rebuild(model)
    stages = []
    todo = _stages(wanted)
    for number, stage in enumerate(todo):
        current, details = stage(current, job)
        progress.report(number + 1, len(todo), "stages", technique=technique, **details["eval"])
        stages.append(details)
    return Compressed(current, wanted.quantizes, _summary(wanted, model, current, job, stages))


def _stages(technique: Technique) -> list[Callable[[tf_keras.Model, Job], Stage]]:
    if technique.family == "channels":
        return [_channels]
    if technique.family == "distill":
        return [_distill]
    stages: list[Callable[[tf_keras.Model, Job], Stage]] = []
    if technique.schedule is not None:
        stages.append(_prune)
    if technique.clusters is not None:
        stages.append(_cluster)
    return [*stages, _quantize] if technique.quantizes else stages


def _prune(model: tf_keras.Model, job: Job) -> Stage:
    scan = None
    course = job.technique.schedule or "polynomial"
    if course == "scan":
        names = network.thinnable(model)
        scan = sensitivity.scan(model, names, job.evaluation)
        sizes = {name: value.size for name, value in network.kernels(model).items()}
        sparsities = sensitivity.choose(scan, sizes, job.settings.sparsity)
    elif course == "2by4":
        sparsities = pruning.two_by_four(model)
    else:
        sparsities = pruning.uniform(model, job.technique.sparsity or job.settings.sparsity)
    pruned, details = pruning.prune(
        model, sparsities, course, job.train, job.evaluation, job.settings, job.train_settings
    )
    if scan is not None:
        details["scan"] = {
            name: {f"{level:g}": score.rounded() for level, score in curve.items()} for name, curve in scan.items()
        }
    return pruned, details


def _cluster(model: tf_keras.Model, job: Job) -> Stage:
    assert job.technique.clusters is not None
    keep_zeros = job.technique.schedule is not None
    return clustering.cluster(
        model, job.technique.clusters, keep_zeros, job.train, job.evaluation, job.settings, job.train_settings
    )


def _quantize(model: tf_keras.Model, job: Job) -> Stage:
    keeps = {"qat": "plain", "pqat": "zeros", "cqat": "clusters", "pcqat": "zeros and clusters"}
    keep: quantization.Keep = keeps[job.technique.family]  # type: ignore[assignment]
    clusters = job.technique.clusters
    layers = network.thinnable(model) if clusters is None else clustering.clusterable(model, clusters)
    return quantization.quantize(model, keep, layers, job.train, job.evaluation, job.settings, job.train_settings)


def _channels(model: tf_keras.Model, job: Job) -> Stage:
    assert job.technique.sparsity is not None
    gone = channels.choose(model, job.technique.sparsity, job.settings.importance)
    smaller = channels.removed(model, gone)
    network.require_equal(channels.masked(model, gone), smaller, tolerance=1e-4)
    statistics = batch_norm.reestimate(smaller, job.train, job.evaluation, job.settings.seed)
    wanted = finetuning.stage_settings(job.settings, job.train_settings)
    history = finetuning.finetune(smaller, job.train, job.evaluation, wanted)
    details = {
        "stage": "channels",
        "importance": job.settings.importance,
        "channels_removed": len(gone),
        "channels_before": _widths(model),
        "channels_after": _widths(smaller),
        "batch_norm": statistics,
        "epochs": wanted.epochs,
        "eval": scoring.score(smaller, job.evaluation).rounded(),
        "history": history,
    }
    return smaller, details


def _distill(model: tf_keras.Model, job: Job) -> Stage:
    return distillation.distill(model, job.train, job.evaluation, job.settings, job.train_settings, job.model_settings)


def _widths(model: tf_keras.Model) -> dict[str, int]:
    return {name: int(model.get_layer(name).output_shape[-1]) for name in network.kernels(model)}


def _summary(
    technique: Technique, model: tf_keras.Model, result: tf_keras.Model, job: Job, stages: list[dict[str, Any]]
) -> dict[str, Any]:
    weights = quantization.simulated_kernels(result) if technique.quantizes else network.kernels(result)
    zeros = sum(int(np.sum(value == 0)) for value in weights.values())
    # A quantization-aware model has the float model's weights, and ranges that no file keeps as weights.
    counted = model if technique.quantizes else result
    return {
        "technique": technique.name,
        "parameters": network.parameters(counted),
        "float_parameters": network.parameters(model),
        "float_eval": scoring.score(model, job.evaluation).rounded(),
        "eval": stages[-1]["eval"],
        "sparsity": {name: round(float(np.mean(value == 0)), 4) for name, value in weights.items()},
        "overall_sparsity": round(zeros / max(1, sum(value.size for value in weights.values())), 4),
        "stages": stages,
    }

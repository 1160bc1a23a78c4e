"""Quantization-aware training: a fitted model in, one that simulates int8 and has learned to live with it out.

TF-MOT's 8-bit scheme (Jacob et al., 2018, arXiv:1712.05877), also in the forms that keep the zeros of a
pruned model (PQAT), the values of a clustered one (CQAT) or both (PCQAT). Called by `compressing`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras

from trainer import inputs
from trainer.compress import finetuning, network, scoring
from trainer.compress.settings import FinetuneSettings
from trainer.settings import TrainSettings

Keep = Literal["plain", "zeros", "clusters", "zeros and clusters"]

RANGE_BATCHES = 8
RANGE_ROUNDS = 3
# Of the moving average by which TF-MOT follows the ranges of activations.
RANGE_MOMENTUM = 0.999


def quantize(
    model: tf_keras.Model,
    keep: Keep,
    layers: Collection[str],
    train: inputs.Split,
    evaluation: inputs.Split,
    settings: FinetuneSettings,
    train_settings: TrainSettings,
) -> tuple[tf_keras.Model, dict[str, Any]]:
    """Train a model on while it simulates int8.

    Args:
        model: the float model, pruned or clustered if something is to be kept; not changed.
        keep: what of its kernels training must not destroy.
        layers: the layers in which it is kept.
        train: examples to learn from.
        evaluation: examples to evaluate after each epoch.
        settings: the section `compress.finetune`.
        train_settings: the section `train`.

    Returns:
        The quantization-aware model, and what was done.
    """
    from trainer.compress import support

    wanted = finetuning.stage_settings(settings, train_settings)
    aware = wrap(network.rebuild(model), keep, layers)
    find_ranges(aware, train, settings.seed)
    history = finetuning.finetune(aware, train, evaluation, wanted)
    weights = simulated_kernels(aware)
    details = {
        "stage": "quantization-aware training",
        "kept": keep,
        "float_layers": support.float_layers(model),
        "epochs": wanted.epochs,
        "steps": wanted.epochs * inputs.steps_per_epoch(train, wanted.batch_size),
        "sparsity": {name: round(float(np.mean(value == 0)), 4) for name, value in weights.items()},
        "eval": scoring.score(aware, evaluation).rounded(),
        "history": history,
    }
    return aware, details


def wrap(model: tf_keras.Model, keep: Keep, layers: Collection[str] = ()) -> tf_keras.Model:
    """Return a copy of the model that simulates int8; its ranges are not yet those of the data.

    Args:
        model: the float model.
        keep: what the kernels of `layers` keep.
        layers: names of layers.
    """
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as default,
    )

    from trainer.compress import support

    in_float = support.float_layers(model)

    def annotated(layer: Any) -> Any:
        # In float, but its output is quantized, so that the layers behind it get what int8 would give them.
        config = default.Default8BitQuantizeConfig([], [], True) if layer.name in in_float else None
        return tfmot.quantization.keras.quantize_annotate_layer(network.copy_layer(layer), config)

    custom = {type(layer).__name__: type(layer) for layer in model.layers}
    with tfmot.quantization.keras.quantize_scope(custom):
        marked = tf_keras.models.clone_model(model, clone_function=annotated)
        marked.set_weights(model.get_weights())
        return tfmot.quantization.keras.quantize_apply(marked, _scheme(keep, layers))


def find_ranges(aware: tf_keras.Model, train: inputs.Split, seed: int) -> None:
    """Start the ranges of activations from the data, in place.

    They start at [-6, 6] otherwise, and their average takes some thousand steps to forget that. The image's
    range is [0, 1] whatever the data, so that raw pixels are the quantized input. Batch norm statistics are
    left as they were.

    Args:
        aware: a quantization-aware model.
        train: examples, without augmentation.
        seed: decides the order of examples.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer

    for layer in aware.layers:
        if isinstance(layer, quantize_layer.QuantizeLayer):
            layer.quantizer_vars["max_var"].assign(1.0)
    ranges = [variable for variable in aware.non_trainable_variables if _is_activation_range(variable.name)]
    others = [variable for variable in aware.non_trainable_variables if not _is_activation_range(variable.name)]
    held = [variable.numpy() for variable in others]
    forward = tf.function(lambda images: aware(images, training=True))
    batches = inputs.training(train, inputs.EVAL_BATCH, range(RANGE_ROUNDS * RANGE_BATCHES), seed)
    images = iter(batches.map(lambda pixels, _: pixels))
    # Ranges of one layer change what the next one sees, so a few rounds are needed.
    for _ in range(RANGE_ROUNDS):
        starts = [variable.numpy() for variable in ranges]
        sums = [np.zeros_like(start, np.float64) for start in starts]
        for _ in range(RANGE_BATCHES):
            for variable, start in zip(ranges, starts, strict=True):
                variable.assign(start)
            forward(next(images))
            for index, (variable, start) in enumerate(zip(ranges, starts, strict=True)):
                # What the batch had is the step of the average, undone.
                sums[index] += start + (variable.numpy().astype(np.float64) - start) / (1.0 - RANGE_MOMENTUM)
        for variable, total in zip(ranges, sums, strict=True):
            variable.assign(total / RANGE_BATCHES)
    for variable, value in zip(others, held, strict=True):
        variable.assign(value)


def simulated_kernels(aware: tf_keras.Model) -> dict[str, np.ndarray]:
    """Return the kernels as int8 will hold them (times its scale), by the float model's layer names."""
    found = {}
    for layer in aware.layers:
        for variable, quantizer, ranges in getattr(layer, "_weight_vars", []):
            found[layer.layer.name] = np.asarray(quantizer(variable, training=False, weights=ranges))
    return found


def _is_activation_range(name: str) -> bool:
    ending = name.partition(":")[0].rpartition("/")[2]
    return ending in ("output_min", "output_max") or ending.startswith(("pre_activation_m", "post_activation_m"))


def _scheme(keep: Keep, layers: Collection[str]) -> Any:
    """Return TF-MOT's 8-bit scheme, keeping what is to be kept in the layers named.

    TF-MOT's own combined schemes share one quantizer between all layers of a kind, and the first layer
    without zeros (a first convolution left dense) makes it give up the zeros of all others.
    """
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
        cluster_preserve_quantize_registry as clusters,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
        prune_preserve_quantize_registry as zeros,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as default,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as scheme,
    )

    class Registry(default.Default8BitQuantizeRegistry):
        def get_quantize_config(self, layer: Any) -> Any:
            if layer.name not in layers or type(layer) not in (tf_keras.layers.Conv2D, tf_keras.layers.Dense):
                return super().get_quantize_config(layer)
            if keep == "zeros":
                return zeros.Default8bitPrunePreserveQuantizeRegistry().get_quantize_config(layer)
            both = keep == "zeros and clusters"
            return clusters.Default8bitClusterPreserveQuantizeRegistry(both).get_quantize_config(layer)

    class Scheme(scheme.Default8BitQuantizeScheme):
        def get_quantize_registry(self) -> Any:
            return super().get_quantize_registry() if keep == "plain" else Registry()

    return Scheme()

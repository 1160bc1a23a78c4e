"""What a technique can do with a model, found out before anything is trained.

A model and a technique in; an error that names every obstacle and its remedy out, or nothing. Called by
`compressing.compress`, and by the pipeline before it starts to spend time.
"""

from __future__ import annotations

from typing import Any

import tf_keras

from trainer.compress import channels, network
from trainer.compress.technique import Technique, parse
from trainer.errors import TrainerError

# Activations inside of a layer that TF-MOT can quantize.
FUSED_ACTIVATIONS = {"linear", "relu", "softmax", "sigmoid", "tanh", "gelu", "swish"}
# Activations that may stand as a layer of their own.
LAYER_ACTIVATIONS = FUSED_ACTIVATIONS | {"relu6"}
BEFORE_BATCH_NORM = (
    tf_keras.layers.Conv2D,
    tf_keras.layers.DepthwiseConv2D,
    tf_keras.layers.SeparableConv2D,
    tf_keras.layers.Dense,
)
LANES = 4
ZEROS_IN_LANES = 2


def check(technique: Technique | str, model: tf_keras.Model, float_fallback: bool = True) -> None:
    """Refuse a model that a technique cannot be applied to.

    Args:
        technique: the technique or its name.
        model: the float model.
        float_fallback: whether layers that cannot be quantized may run in float; see `float_layers`.

    Raises:
        TrainerError: with every obstacle and its remedy.
    """
    wanted = parse(technique) if isinstance(technique, str) else technique
    if wanted.family == "distill":
        return
    problems = _structure(model)
    if not problems:
        problems = _thinning(wanted, model) + _channels(wanted, model)
    if not problems and wanted.quantizes:
        kept = float_layers(model)
        problems = _quantization(model)
        if not float_fallback:
            problems += [f"{_named(model.get_layer(name))}: {reason}" for name, reason in kept.items()]
        if not problems:
            problems = _dry_run(model)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise TrainerError(f"{wanted.name} cannot be applied to this model; change what stands here:{listed}")


def float_layers(model: tf_keras.Model) -> dict[str, str]:
    """Return the layers that stay in float in a quantization-aware model, with the reason.

    That is sound where a layer makes one tensor out of tensors, without code or arguments that a copy would
    lose: its inputs arrive dequantized, its output is quantized again for the layers behind it.
    """
    found = {}
    for call in network.calls(model):
        reason = _unquantizable(model, call)
        if reason is not None and _fallback_is_sound(call):
            found[call.layer.name] = reason
    return found


def _structure(model: Any) -> list[str]:
    """Return what keeps a model from being copied layer by layer."""
    if not getattr(model, "_is_graph_network", False):
        return [
            f"{type(model).__name__} is a subclassed model: build it as tf_keras.Model(inputs, outputs) from layers"
        ]
    problems = []
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            problems.append(f"{_named(layer)} is a model inside the model: put its layers into the outer one")
        elif not _copies(layer):
            problems.append(
                f"{_named(layer)} cannot be copied from its configuration: give it a get_config() that returns "
                "all arguments of its constructor"
            )
    places = [call.layer.name for call in network.calls(model)] if not problems else []
    for name in sorted({name for name in places if places.count(name) > 1}):
        problems.append(f"{_named(model.get_layer(name))} stands at several places: give each place its own layer")
    return problems


def _thinning(technique: Technique, model: tf_keras.Model) -> list[str]:
    """Return what keeps kernels from being pruned or clustered."""
    if technique.schedule is None and technique.clusters is None:
        return []
    shapes = {name: value.shape for name, value in network.kernels(model).items() if name in network.thinnable(model)}
    if not shapes:
        return ["it has no kernel beside its head and its first convolution: take a model with more layers"]
    if technique.schedule == "2by4" and not any(shape[-2] > ZEROS_IN_LANES for shape in shapes.values()):
        return [f"no kernel has more than {ZEROS_IN_LANES} input channels: take a wider model"]
    if technique.clusters and not any(_size(shape) > technique.clusters for shape in shapes.values()):
        return [f"no kernel has more than {technique.clusters} weights: ask for fewer clusters"]
    return []


def _channels(technique: Technique, model: tf_keras.Model) -> list[str]:
    if technique.family != "channels" or channels.removable(model):
        return []
    return ["it has no channels that could go without changing its output: take a model with hidden layers"]


def _quantization(model: tf_keras.Model) -> list[str]:
    problems = []
    for call in network.calls(model):
        reason = _unquantizable(model, call)
        if reason is not None and not _fallback_is_sound(call):
            problems.append(f"{_named(call.layer)}: {reason}")
    return problems


def _unquantizable(model: tf_keras.Model, call: network.Call) -> str | None:
    """Return why TF-MOT's 8-bit scheme cannot quantize a layer and what to do, or None."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as default,
    )

    layer = call.layer
    if isinstance(layer, (tf_keras.layers.InputLayer, tf_keras.layers.SeparableConv2D)):
        return None
    if type(layer).__name__ in network.CODE_LAYERS:
        return "it is code without a configuration: write it as a registered layer class, or do it before the model"
    if not call.plain:
        return "it takes several arguments, which no wrapper passes on: replace it by layers that take one"
    if isinstance(layer, tf_keras.layers.BatchNormalization):
        return _after_convolution(model, call)
    if not default.Default8BitQuantizeRegistry().supports(layer):
        return "int8 has no form of it: replace it by ReLU, batch norm after a convolution, Add or another usual layer"
    activation = getattr(layer, "activation", None)
    allowed = LAYER_ACTIVATIONS if isinstance(layer, tf_keras.layers.Activation) else FUSED_ACTIVATIONS
    name = getattr(activation, "__name__", type(activation).__name__)
    if activation is not None and name not in allowed:
        return f"int8 has no form of its activation {name}: take one of {', '.join(sorted(allowed))}"
    return None


def _after_convolution(model: tf_keras.Model, call: network.Call) -> str | None:
    """Return why a batch norm cannot be folded into the layer before it, or None."""
    producer = model.get_layer(call.inputs[0])
    consumers = [other for other in network.calls(model) if producer.name in other.inputs]
    linear = getattr(getattr(producer, "activation", None), "__name__", "") == "linear"
    if isinstance(producer, BEFORE_BATCH_NORM) and linear and len(consumers) == 1:
        return None
    return (
        "batch norm folds only into a convolution or dense layer before it: put it right after one without activation"
    )


def _fallback_is_sound(call: network.Call) -> bool:
    """Return whether a layer may run in float between quantized ones."""
    layer = call.layer
    if type(layer).__name__ in network.CODE_LAYERS or not call.plain or network.kernel(layer) is not None:
        return False
    return not isinstance(layer.output, (list, tuple, dict))


def _dry_run(model: tf_keras.Model) -> list[str]:
    """Return TF-MOT's objection to a copy of the model, should it have one that the rules here do not know."""
    from trainer.compress import quantization

    try:
        quantization.wrap(network.rebuild(model), "plain")
    except Exception as error:
        return [f"TF-MOT refuses it ({type(error).__name__}: {error}): build the model from other layers"]
    return []


def _copies(layer: tf_keras.layers.Layer) -> bool:
    try:
        network.copy_layer(layer)
    except Exception:
        return False
    return True


def _named(layer: Any) -> str:
    return f"layer {layer.name!r} ({type(layer).__name__})"


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size

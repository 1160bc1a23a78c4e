"""The network as a graph: faithful copies, who feeds whom, which kernels may be thinned out.

Called by every technique of this package; everything here takes a flat functional model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras

from trainer.errors import TrainerError

# Layers whose kernel TF-MOT prunes and clusters, and the attribute that holds it. Depthwise kernels hold few
# weights and lose much accuracy, so TF-MOT leaves them alone.
KERNELS = {
    tf_keras.layers.Conv2D: "kernel",
    tf_keras.layers.Conv2DTranspose: "kernel",
    tf_keras.layers.SeparableConv2D: "pointwise_kernel",
    tf_keras.layers.Dense: "kernel",
}
CONVOLUTIONS = (
    tf_keras.layers.Conv2D,
    tf_keras.layers.Conv2DTranspose,
    tf_keras.layers.DepthwiseConv2D,
    tf_keras.layers.SeparableConv2D,
)
# Layers that hold code instead of a configuration: a copy uses the same object.
CODE_LAYERS = (
    "Lambda",
    "TFOpLambda",
    "SlicingOpLambda",
    "ClassMethod",
    "InstanceMethod",
    "InstanceProperty",
    "TensorFlowOpLayer",
)
PROBE_IMAGES = 4


@dataclass(frozen=True)
class Call:
    """One layer at its place in the network.

    Attributes:
        layer: the layer.
        inputs: names of the layers that feed it, in the order of its arguments; empty for the input.
        plain: whether it is called with one argument (a tensor or a list of them) and no others.
    """

    layer: tf_keras.layers.Layer
    inputs: tuple[str, ...]
    plain: bool


def calls(model: tf_keras.Model) -> list[Call]:
    """Return all calls of layers, producers before consumers."""
    found = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            producers = tuple(tensor._keras_history.layer.name for tensor in node.keras_inputs)
            is_input = isinstance(node.layer, tf_keras.layers.InputLayer)
            options = {name: value for name, value in node.call_kwargs.items() if name != "training"}
            found.append(Call(node.layer, () if is_input else producers, len(node.call_args) <= 1 and not options))
    return found


def rebuild(model: tf_keras.Model) -> tf_keras.Model:
    """Return a copy, layer by layer from its configuration, under the policy float32.

    Raises:
        TrainerError: if the copy predicts something else, since then a layer's configuration is not complete.
    """
    if isinstance(model, tf_keras.Sequential):
        model = tf_keras.Model(model.inputs, model.outputs, name=model.name)
    mixed = any(layer.compute_dtype != "float32" for layer in model.layers)
    copy = tf_keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(model.get_weights())
    require_equal(model, copy, tolerance=5e-2 if mixed else 1e-5)
    return copy


def copy_layer(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
    """Return a layer of the same configuration in float32, with fresh weights."""
    if type(layer).__name__ in CODE_LAYERS:
        return layer
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = "float32"
    return type(layer).from_config(config)


def require_equal(model: tf_keras.Model, other: tf_keras.Model, tolerance: float) -> None:
    """Raise a TrainerError if two models differ on a few random images by more than a share of the logits."""
    images = np.random.default_rng(0).uniform(size=(PROBE_IMAGES, *model.input_shape[1:])).astype(np.float32)
    expected, found = (np.asarray(one(images, training=False), np.float32) for one in (model, other))
    difference = float(np.abs(expected - found).max())
    if not difference <= tolerance * max(1.0, float(np.abs(expected).max())):
        raise TrainerError(
            f"a copy of model {model.name!r} gives logits that differ by {difference:.3g}; expected the same; let "
            "get_config() of its custom layers return all arguments of the constructor, and create weights in build()"
        )


def kernel(layer: tf_keras.layers.Layer) -> Any:
    """Return the variable that is pruned or clustered; None if the layer has none."""
    attribute = KERNELS.get(type(layer))
    return None if attribute is None else getattr(layer, attribute)


def kernels(model: tf_keras.Model) -> dict[str, np.ndarray]:
    """Return the kernels of all layers that have one, by name."""
    found = {layer.name: kernel(layer) for layer in model.layers}
    return {name: np.asarray(value) for name, value in found.items() if value is not None}


def heads(model: tf_keras.Model) -> set[str]:
    """Return the last layers with weights on the ways to the output: they decide between classes."""
    by_name = {call.layer.name: call for call in calls(model)}
    found: set[str] = set()
    names = [tensor._keras_history.layer.name for tensor in model.outputs]
    while names:
        call = by_name[names.pop()]
        if call.layer.weights:
            found.add(call.layer.name)
        else:
            names += call.inputs
    return found


def first_convolutions(model: tf_keras.Model) -> set[str]:
    """Return the convolutions that see the image: few weights, on which everything else builds."""
    found: set[str] = set()
    behind: set[str] = set()
    for call in calls(model):
        name = call.layer.name
        if behind.intersection(call.inputs) or found.intersection(call.inputs):
            behind.add(name)
        elif isinstance(call.layer, CONVOLUTIONS):
            found.add(name)
        elif call.layer.trainable_weights:
            behind.add(name)
    return found


def thinnable(model: tf_keras.Model) -> list[str]:
    """Return the layers whose kernels may lose weights or values: neither a head nor a first convolution."""
    kept = heads(model) | first_convolutions(model)
    return [name for name in kernels(model) if name not in kept]


def sparsity(model: tf_keras.Model) -> dict[str, float]:
    """Return the share of zeros in each kernel, by layer."""
    return {name: round(float(np.mean(value == 0)), 4) for name, value in kernels(model).items()}


def parameters(model: tf_keras.Model) -> int:
    """Return the number of weights, without those that only quantization-aware training needs."""
    return int(sum(np.prod(variable.shape) for variable in model.weights))

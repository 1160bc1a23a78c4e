"""Removal of whole channels: a fitted model in, a smaller one with fewer filters and units out.

Every channel of every tensor gets a number; layers that need equal channels (a residual sum, batch norm, a
depthwise convolution) give theirs the same number, so that tied channels stay or go together. A channel may
go where every layer that touches it is known; all others stay. What a removed channel would have added
further on is dropped, exactly as if the kernels that read it held zeros there (`masked`). Called by
`compressing`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tf_keras

from trainer.compress import network

Importance = Literal["folded", "l1", "l2", "gamma"]

# A layer of fewer channels than this hardly carries anything.
FEWEST = 2

_keras = tf_keras.layers
# Layers that handle each channel for itself, without weights.
SAME_CHANNELS = (
    _keras.ReLU,
    _keras.LeakyReLU,
    _keras.Activation,
    _keras.Dropout,
    _keras.SpatialDropout2D,
    _keras.MaxPooling2D,
    _keras.AveragePooling2D,
    _keras.GlobalAveragePooling2D,
    _keras.GlobalMaxPooling2D,
    _keras.UpSampling2D,
    _keras.ZeroPadding2D,
    _keras.Cropping2D,
)
TIED = (_keras.Add, _keras.Subtract, _keras.Multiply, _keras.Maximum, _keras.Minimum, _keras.Average)
# Activations that mix channels.
MIXING = ("softmax", "log_softmax")


@dataclass(frozen=True)
class Ports:
    """The channels of one layer, as numbers.

    Attributes:
        layer: the layer.
        inputs: numbers of the channels it reads, in their order.
        outputs: numbers of the channels it gives.
    """

    layer: tf_keras.layers.Layer
    inputs: np.ndarray
    outputs: np.ndarray


class Channels:
    """The channels of a network: which are tied, which may go."""

    def __init__(self, model: tf_keras.Model) -> None:
        """Follow the channels of a flat functional model from the image to the logits."""
        self._parents: list[int] = []
        self.fixed: set[int] = set()
        self.ports: dict[str, Ports] = {}
        for call in network.calls(model):
            before = [self.ports[name].outputs for name in call.inputs]
            self.ports[call.layer.name] = self._follow(call, before)
        for tensor in model.outputs:
            self.fixed.update(self.ports[tensor._keras_history.layer.name].outputs)
        self.fixed = {self.root(number) for number in self.fixed}

    def root(self, number: int) -> int:
        """Return the number that stands for all channels tied to this one."""
        while self._parents[number] != number:
            number = self._parents[number]
        return number

    def roots(self, numbers: Iterable[int]) -> np.ndarray:
        """Return the roots of several channels."""
        return np.array([self.root(number) for number in numbers], int)

    def groups(self) -> list[list[int]]:
        """Return the removable channels by the layers that make them; each channel is a root."""
        found: dict[tuple[int, ...], list[int]] = {}
        makers: dict[int, list[str]] = {}
        for name, ports in self.ports.items():
            if _produces(ports.layer):
                for number in self.roots(ports.outputs):
                    makers.setdefault(int(number), []).append(name)
        for number, names in makers.items():
            if number not in self.fixed:
                found.setdefault(tuple(names), []).append(number)  # type: ignore[arg-type]
        return [sorted(numbers) for numbers in found.values()]

    def _fresh(self, count: int) -> np.ndarray:
        start = len(self._parents)
        self._parents += range(start, start + count)
        return np.arange(start, start + count)

    def _tie(self, numbers: np.ndarray, others: np.ndarray) -> None:
        for number, other in zip(numbers, others, strict=True):
            self._parents[self.root(int(number))] = self.root(int(other))

    def _follow(self, call: network.Call, before: list[np.ndarray]) -> Ports:
        layer = call.layer
        inputs = np.concatenate(before) if before else np.empty(0, int)
        if _produces(layer):
            return Ports(layer, inputs, self._fresh(layer.output_shape[-1]))
        if type(layer) is _keras.DepthwiseConv2D and layer.data_format == "channels_last":
            return Ports(layer, inputs, np.repeat(inputs, layer.depth_multiplier))
        if type(layer) in (*SAME_CHANNELS, _keras.BatchNormalization) and _by_channel(layer):
            return Ports(layer, inputs, inputs)
        if type(layer) in TIED and len({len(one) for one in before}) == 1:
            for other in before[1:]:
                self._tie(before[0], other)
            return Ports(layer, before[0], before[0])
        if type(layer) is _keras.Concatenate and layer.axis in (-1, len(layer.output_shape) - 1):
            return Ports(layer, inputs, inputs)
        if type(layer) is _keras.Flatten:
            shape = layer.input_shape[1:]
            return Ports(layer, inputs, np.tile(inputs, int(np.prod(shape[:-1]))))
        # An unknown layer may do anything with its channels.
        self.fixed.update(inputs)
        outputs = self._fresh(_last_axis(layer))
        self.fixed.update(outputs)
        return Ports(layer, inputs, outputs)


def removable(model: tf_keras.Model) -> list[int]:
    """Return the number of channels of each group that may lose some."""
    return [len(group) for group in Channels(model).groups() if len(group) > FEWEST]


def choose(model: tf_keras.Model, share: float, importance: Importance) -> set[int]:
    """Choose the channels to remove: of each group the least important ones.

    Args:
        model: the float model.
        share: share of the channels that goes, 0 to 1; the same in each group.
        importance: `l1` or `l2`: norm of a filter; `gamma`: scale of its batch norm; `folded`: norm of the
            filter with batch norm folded in, times that of the weights that read the channel.

    Returns:
        Numbers of channels, for `masked` and `removed`.
    """
    channels = Channels(model)
    scores = _scores(channels, importance)
    gone: set[int] = set()
    for group in channels.groups():
        count = min(round(share * len(group)), len(group) - FEWEST)
        if count > 0:
            gone.update(sorted(group, key=lambda number: scores.get(number, 0.0))[:count])
    return gone


def masked(model: tf_keras.Model, gone: set[int]) -> tf_keras.Model:
    """Return the model with zeros where kernels read the channels that would go; its size is the same."""
    copy = network.rebuild(model)
    channels = Channels(copy)
    for ports in channels.ports.values():
        if not _produces(ports.layer):
            continue
        kept = ~np.isin(channels.roots(ports.inputs), list(gone))
        for variable, axes in _axes(ports.layer).items():
            weights = getattr(ports.layer, variable)
            if weights is not None and "in" in axes:
                shape = [1] * weights.shape.rank
                shape[axes.index("in")] = -1
                weights.assign(weights * kept.reshape(shape).astype(np.float32))
    return copy


def removed(model: tf_keras.Model, gone: set[int]) -> tf_keras.Model:
    """Return a smaller model without these channels; it predicts what `masked` predicts."""
    channels = Channels(model)
    kept = {
        name: (
            ~np.isin(channels.roots(ports.inputs), list(gone)),
            ~np.isin(channels.roots(ports.outputs), list(gone)),
        )
        for name, ports in channels.ports.items()
    }

    def smaller(layer: Any) -> Any:
        config = layer.get_config()
        for size in ("filters", "units"):
            if size in config and _produces(layer):
                config[size] = int(kept[layer.name][1].sum())
        return type(layer).from_config(config) if _known(layer) else network.copy_layer(layer)

    copy = tf_keras.models.clone_model(model, clone_function=smaller)
    for layer in copy.layers:
        source = model.get_layer(layer.name)
        if not _known(layer):
            layer.set_weights(source.get_weights())
            continue
        sides = dict(zip(("in", "out"), kept[layer.name], strict=True))
        for variable, axes in _axes(layer).items():
            weights = getattr(source, variable, None)
            if weights is not None:
                getattr(layer, variable).assign(_cut(weights.numpy(), axes, sides))
    return copy


def _cut(weights: np.ndarray, axes: tuple[str, ...], sides: dict[str, np.ndarray]) -> np.ndarray:
    for axis, side in enumerate(axes):
        if side in sides:
            weights = np.compress(sides[side], weights, axis=axis)
    return weights


def _scores(channels: Channels, importance: Importance) -> dict[int, float]:
    """Return the importance of each channel: the sum over all layers that make it."""
    made: dict[int, float] = {}
    read: dict[int, float] = {}
    scale = _batch_norm_scales(channels, importance)
    for ports in channels.ports.values():
        if not _produces(ports.layer):
            continue
        outputs, inputs = channels.roots(ports.outputs), channels.roots(ports.inputs)
        for number, value in zip(outputs, _norms(ports.layer, "out", 1 if importance == "l1" else 2), strict=True):
            factor = scale.get(int(number), 1.0)
            made[int(number)] = made.get(int(number), 0.0) + (factor if importance == "gamma" else factor * value)
        for number, value in zip(inputs, _norms(ports.layer, "in", 2), strict=True):
            read[int(number)] = read.get(int(number), 0.0) + value
    if importance == "folded":
        return {number: value * read.get(number, 0.0) for number, value in made.items()}
    return made


def _batch_norm_scales(channels: Channels, importance: Importance) -> dict[int, float]:
    """Return by how much batch norms scale each channel; empty where that does not count."""
    found: dict[int, float] = {}
    if importance in ("l1", "l2"):
        return found
    for ports in channels.ports.values():
        layer = ports.layer
        if type(layer) is not _keras.BatchNormalization or layer.gamma is None:
            continue
        scale = np.abs(layer.gamma.numpy())
        if importance == "folded":
            scale = scale / np.sqrt(layer.moving_variance.numpy() + layer.epsilon)
        for number, value in zip(channels.roots(ports.outputs), scale, strict=True):
            found[int(number)] = max(found.get(int(number), 0.0), float(value))
    return found


def _norms(layer: Any, side: str, order: int) -> np.ndarray:
    """Return the norm of the kernel for each channel of one side."""
    attribute = network.KERNELS[type(layer)]
    axes = _axes(layer)[attribute]
    weights = np.moveaxis(getattr(layer, attribute).numpy(), axes.index(side), 0)
    return np.linalg.norm(weights.reshape(len(weights), -1), ord=order, axis=1)


def _axes(layer: Any) -> dict[str, tuple[str, ...]]:
    """Return the axes of each variable of a layer: read channels, given channels, or neither."""
    if type(layer) is _keras.Dense:
        return {"kernel": ("in", "out"), "bias": ("out",)}
    if type(layer) is _keras.Conv2D:
        return {"kernel": ("", "", "in", "out"), "bias": ("out",)}
    if type(layer) is _keras.Conv2DTranspose:
        return {"kernel": ("", "", "out", "in"), "bias": ("out",)}
    if type(layer) is _keras.SeparableConv2D:
        return {"depthwise_kernel": ("", "", "in", ""), "pointwise_kernel": ("", "", "in", "out"), "bias": ("out",)}
    if type(layer) is _keras.DepthwiseConv2D:
        return {"depthwise_kernel": ("", "", "in", ""), "bias": ("out",)}
    if type(layer) is _keras.BatchNormalization:
        return {name: ("out",) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {}


def _produces(layer: Any) -> bool:
    """Return whether a layer mixes all its channels into new ones."""
    if type(layer) not in network.KERNELS or getattr(layer, "data_format", "channels_last") != "channels_last":
        return False
    mixes = getattr(getattr(layer, "activation", None), "__name__", "") in MIXING
    # A pointwise kernel reads depth_multiplier channels for each channel, in an order of its own.
    plain = getattr(layer, "groups", 1) == 1 and getattr(layer, "depth_multiplier", 1) in (1, None)
    dense_on_maps = type(layer) is _keras.Dense and len(layer.input_shape) != 2
    return plain and not mixes and not dense_on_maps


def _by_channel(layer: Any) -> bool:
    """Return whether a layer treats the last axis as channels and does not mix them."""
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        return False
    if type(layer) is _keras.BatchNormalization:
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
        return axis in (-1, len(layer.output_shape) - 1)
    return getattr(getattr(layer, "activation", None), "__name__", "") not in MIXING


def _known(layer: Any) -> bool:
    """Return whether the weights of a layer can be cut."""
    return bool(_axes(layer)) and (
        _produces(layer) or type(layer) in (_keras.DepthwiseConv2D, _keras.BatchNormalization)
    )


def _last_axis(layer: Any) -> int:
    shape = layer.output_shape
    return int((shape[0] if isinstance(shape, list) else shape)[-1] or 1)

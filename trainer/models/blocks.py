"""Building blocks that several families share: the input, convolutions with batch norm, the classifier."""

from __future__ import annotations

from typing import Any

import tf_keras

# Keras's 0.99 needs some 500 steps to follow the statistics; small data sets have fewer in all.
BATCH_NORM_MOMENTUM = 0.9


def scaled(channels: int, width: float) -> int:
    """Return the number of channels at a width factor: a multiple of 8 from 8 up, and at least 1."""
    wanted = channels * width
    return 8 * round(wanted / 8) if wanted >= 8 else max(1, round(wanted))


def image_input(input_shape: tuple[int, int, int]) -> Any:
    """Return the input of the model contract: `image`, float32 [N, H, W, C] in [0, 1]."""
    return tf_keras.Input(input_shape, name="image")


def conv_bn(x: Any, filters: int, kernel: int = 3, strides: int = 1, relu: int | None = 0) -> Any:
    """Apply a convolution, batch norm and ReLU, the order that converters fold into one operation.

    Args:
        x: feature map [N, H, W, C].
        filters: number of output channels.
        kernel: side of the kernel in pixels.
        strides: step in pixels; 2 halves the map.
        relu: 0 for ReLU, another number for its upper limit, None for no activation.

    Returns:
        The feature map [N, ceil(H / strides), ceil(W / strides), filters].
    """
    x = tf_keras.layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    x = tf_keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
    return x if relu is None else tf_keras.layers.ReLU(float(relu) if relu else None)(x)


def halved(x: Any) -> Any:
    """Halve the map by max pooling; a side of one pixel stays one pixel."""
    padding = "valid" if min(x.shape[1:3]) > 1 else "same"
    return tf_keras.layers.MaxPool2D(padding=padding)(x)


def classifier(x: Any, dropout: float, classes: int) -> Any:
    """Apply dropout, if any, and the linear layer `logits`: [N, F] to [N, K]."""
    if dropout:
        x = tf_keras.layers.Dropout(dropout)(x)
    return tf_keras.layers.Dense(classes, name="logits")(x)

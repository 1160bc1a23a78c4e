"""`mobilenet_small`: inverted residuals with depthwise convolutions, for phones.

A MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381) cut down to images of 28 to 96 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.models.registry import register
from trainer.settings import ModelSettings

if TYPE_CHECKING:
    import tf_keras

EXPANSION = 4
# Channels and stride of each inverted residual.
BOTTLENECKS = ((16, 1), (24, 2), (24, 1), (40, 2), (40, 1))


@register("mobilenet_small")
def build(settings: ModelSettings, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build a stem, five inverted residuals of 16 to 40 channels and a head of 128: 44,000 parameters."""
    import tf_keras

    from trainer.models import blocks

    image = blocks.image_input(input_shape)
    x = blocks.conv_bn(image, blocks.scaled(16, settings.width), relu=6)
    for channels, strides in BOTTLENECKS:
        x = _inverted_residual(x, blocks.scaled(channels, settings.width), strides)
    x = blocks.conv_bn(x, blocks.scaled(128, settings.width), kernel=1, relu=6)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(image, blocks.classifier(x, settings.dropout, classes), name="mobilenet_small")


def _inverted_residual(x: Any, channels: int, strides: int) -> Any:
    import tf_keras

    from trainer.models import blocks

    inputs = x
    x = blocks.conv_bn(x, EXPANSION * inputs.shape[-1], kernel=1, relu=6)
    x = tf_keras.layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = tf_keras.layers.BatchNormalization(momentum=blocks.BATCH_NORM_MOMENTUM)(x)
    x = tf_keras.layers.ReLU(6.0)(x)
    x = blocks.conv_bn(x, channels, kernel=1, relu=None)
    if strides == 1 and inputs.shape[-1] == channels:
        x = tf_keras.layers.Add()([inputs, x])
    return x

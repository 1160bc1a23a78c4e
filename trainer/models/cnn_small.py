"""`cnn_small`: the everyday convolutional network for small images, about 100,000 parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.models.registry import register
from trainer.settings import ModelSettings

if TYPE_CHECKING:
    import tf_keras

CHANNELS = (16, 32, 64)
LARGEST_MAP = 4


@register("cnn_small")
def build(settings: ModelSettings, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build three blocks of convolution, batch norm, ReLU and pooling, and two dense layers.

    Images of 40 pixels a side and more get further blocks of 64 channels until the map is at most 4 x 4, so
    that the dense layer does not grow with the image. 98,778 parameters for 28 x 28 x 1.
    """
    import tf_keras

    from trainer.models import blocks

    image = x = blocks.image_input(input_shape)
    depth = 0
    while depth < len(CHANNELS) or max(x.shape[1:3]) > LARGEST_MAP:
        channels = CHANNELS[min(depth, len(CHANNELS) - 1)]
        x = blocks.conv_bn(x, blocks.scaled(channels, settings.width))
        x = blocks.halved(x)
        depth += 1
    x = tf_keras.layers.Flatten()(x)
    x = tf_keras.layers.Dense(blocks.scaled(128, settings.width), activation="relu")(x)
    return tf_keras.Model(image, blocks.classifier(x, settings.dropout, classes), name="cnn_small")

"""`resnet8` and `resnet14`: residual networks for small images.

`resnet8` is the CIFAR-10 network of the MLPerf Tiny benchmark (Banbury et al., 2021, arXiv:2106.07597): three
stages of one basic block (He et al., 2016, arXiv:1512.03385).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.models.registry import register
from trainer.settings import ModelSettings

if TYPE_CHECKING:
    import tf_keras


@register("resnet8")
def resnet8(settings: ModelSettings, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build one block in each of three stages of 16 to 64 channels; 78,714 parameters for 32 x 32 x 3."""
    return _resnet("resnet8", settings, input_shape, classes, depth=1, channels=(16, 32, 64))


@register("resnet14")
def resnet14(settings: ModelSettings, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build two blocks in each of three stages of 24, 48 and 96 channels; about 390,000 parameters."""
    return _resnet("resnet14", settings, input_shape, classes, depth=2, channels=(24, 48, 96))


def _resnet(
    name: str,
    settings: ModelSettings,
    input_shape: tuple[int, int, int],
    classes: int,
    depth: int,
    channels: tuple[int, ...],
) -> tf_keras.Model:
    import tf_keras

    from trainer.models import blocks

    image = blocks.image_input(input_shape)
    x = blocks.conv_bn(image, blocks.scaled(channels[0], settings.width))
    for stage, filters in enumerate(channels):
        for block in range(depth):
            strides = 2 if stage and not block else 1
            x = _basic_block(x, blocks.scaled(filters, settings.width), strides)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(image, blocks.classifier(x, settings.dropout, classes), name=name)


def _basic_block(x: Any, filters: int, strides: int) -> Any:
    import tf_keras

    from trainer.models import blocks

    shortcut = x
    x = blocks.conv_bn(x, filters, strides=strides)
    x = blocks.conv_bn(x, filters, relu=None)
    if strides > 1 or shortcut.shape[-1] != filters:
        shortcut = blocks.conv_bn(shortcut, filters, kernel=1, strides=strides, relu=None)
    return tf_keras.layers.ReLU()(tf_keras.layers.Add()([x, shortcut]))

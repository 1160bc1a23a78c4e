"""`cnn_deep`: pairs of convolutions between poolings, the network to take when accuracy counts.

The plan is that of VGG (Simonyan and Zisserman, 2015, arXiv:1409.1556) with batch norm and with global
average pooling instead of wide dense layers; about 290,000 parameters, whatever the size of the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.models.registry import register
from trainer.settings import ModelSettings

if TYPE_CHECKING:
    import tf_keras

STAGES = ((32, 32), (64, 64), (128, 128))


@register("cnn_deep")
def build(settings: ModelSettings, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build three stages of two convolutions with 32, 64 and 128 channels, pooling between them."""
    import tf_keras

    from trainer.models import blocks

    image = x = blocks.image_input(input_shape)
    for stage, filters in enumerate(STAGES):
        if stage:
            x = blocks.halved(x)
        for channels in filters:
            x = blocks.conv_bn(x, blocks.scaled(channels, settings.width))
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(image, blocks.classifier(x, settings.dropout, classes), name="cnn_deep")

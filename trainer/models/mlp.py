"""`mlp`: two hidden layers on flat pixels; the floor that every other family must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.models.registry import register
from trainer.settings import ModelSettings

if TYPE_CHECKING:
    import tf_keras


@register("mlp")
def build(settings: ModelSettings, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build two dense layers of 128 and 64 units (times width) with ReLU."""
    import tf_keras

    from trainer.models import blocks

    image = blocks.image_input(input_shape)
    x = tf_keras.layers.Flatten()(image)
    for units in (128, 64):
        x = tf_keras.layers.Dense(blocks.scaled(units, settings.width), activation="relu")(x)
    return tf_keras.Model(image, blocks.classifier(x, settings.dropout, classes), name="mlp")

"""What is said about techniques before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.optimizing.obstacles import obstacles

NETWORK = """
import tf_keras
from trainer.models import register

@register("{name}")
def build(settings, input_shape, classes):
    image = tf_keras.Input(input_shape, name="image")
    inner = tf_keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name="first")(image)
    inner = {layer}(inner)
    inner = tf_keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name="second")(inner)
    inner = tf_keras.layers.GlobalAveragePooling2D()(inner)
    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name="logits")(inner))
"""


def sentences(folder: Path, shapes: Path, layer: str, variants: str, more: str = "") -> list[str]:
    """Return the obstacles of a network with one layer of choice."""
    name = folder.name.replace("-", "_")
    (folder / "net.py").write_text(NETWORK.format(name=name, layer=layer), encoding="utf-8")
    (folder / "c.yaml").write_text(
        f"name: odd\ndata: {{source: {shapes}}}\ntransform: {{size: [8, 8]}}\n"
        f"model: {{name: {name}, module: net.py}}\ncompress: {{variants: [{variants}]{more}}}\n",
        encoding="utf-8",
    )
    return obstacles(load(folder / "c.yaml", []).config)


@pytest.mark.slow
def test_a_technique_that_cannot_be_applied_is_named_with_layer_and_remedy(tmp_path: Path, shapes: Path):
    layer = "tf_keras.layers.Lambda(lambda values: 2.0 * values, name='twice')"
    (sentence,) = sentences(tmp_path, shapes, layer, "tflite_int8, qat_tflite_int8")
    assert sentence.startswith("qat cannot be applied to this model")
    assert "'twice' (Lambda)" in sentence and "write it as a registered layer class" in sentence


@pytest.mark.slow
def test_layers_that_stay_in_float_are_named_once_for_all_techniques(tmp_path: Path, shapes: Path):
    layer = "tf_keras.layers.ELU(name='elu')"
    (sentence,) = sentences(tmp_path, shapes, layer, "qat_tflite_int8, pqat50_tflite_int8")
    assert sentence.startswith("qat, pqat50: layer elu stays in float; ")


@pytest.mark.slow
def test_without_the_fallback_they_are_obstacles(tmp_path: Path, shapes: Path):
    layer = "tf_keras.layers.ELU(name='elu')"
    (sentence,) = sentences(tmp_path, shapes, layer, "qat_tflite_int8", ", finetune: {float_fallback: false}")
    assert sentence.startswith("qat cannot be applied") and "'elu' (ELU)" in sentence


@pytest.mark.slow
def test_a_usual_network_has_no_obstacles(tmp_path: Path, shapes: Path):
    layer = "tf_keras.layers.ReLU()"
    assert sentences(tmp_path, shapes, layer, "qat_tflite_int8, cluster16_tflite_int8, prune50_tflite_int8") == []


def test_forms_without_training_need_no_look_at_the_model(tmp_path: Path, shapes: Path):
    assert sentences(tmp_path, shapes, "no such layer", "tflite_int8, tflite_float16") == []

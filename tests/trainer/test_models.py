"""The model contract, held by every family at every size, and the registry's errors."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import tf_keras

from trainer import models
from trainer.errors import TrainerError, UnknownModelError
from trainer.settings import ModelSettings

OWN = ["cnn_deep", "cnn_small", "mlp", "mobilenet_small", "resnet14", "resnet8"]


def user_module(folder: Path, body: str, name: str = "mine") -> str:
    path = folder / "my_models.py"
    path.write_text(
        f"import tf_keras\nfrom trainer.models import register\n\n\n@register('{name}')\n"
        f"def build(settings, input_shape, classes):\n{body}",
        encoding="utf-8",
    )
    return str(path)


def test_the_families_are_registered() -> None:
    assert models.names() == OWN


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 47, 3), (8, 64, 3)], ids=str)
@pytest.mark.parametrize("name", OWN)
def test_every_family_maps_images_of_any_size_to_logits(name: str, shape: tuple[int, int, int]) -> None:
    model = models.build(ModelSettings(name=name, width=0.5), shape, 7)
    assert model.input_names == ["image"] and model.output_names == ["logits"]
    assert model.output_shape == (None, 7)
    assert model.input.dtype == model.output.dtype == "float32"


@pytest.mark.parametrize("name", OWN)
def test_every_layer_is_one_that_can_be_quantized_and_pruned(name: str) -> None:
    default_8bit = pytest.importorskip(
        "tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_registry"
    )
    prune = importlib.import_module("tensorflow_model_optimization.python.core.sparsity.keras.prune_registry")
    quantizable = default_8bit.Default8BitQuantizeRegistry()
    for layer in models.build(ModelSettings(name=name), (28, 28, 1), 3).layers:
        if isinstance(layer, tf_keras.layers.InputLayer):
            continue
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            # Quantized together with the convolution before it, or not at all.
            before = layer.inbound_nodes[0].inbound_layers
            assert isinstance(before, (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)), layer.name
        else:
            assert quantizable.supports(layer), layer.name
        assert prune.PruneRegistry.supports(layer), layer.name


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("resnet8", (32, 32, 3), 78_714),
        ("cnn_small", (28, 28, 1), 98_778),
        ("cnn_deep", (28, 28, 1), 289_066),
    ],
)
def test_known_sizes(name: str, shape: tuple[int, int, int], parameters: int) -> None:
    assert models.build(ModelSettings(name=name), shape, 10).count_params() == parameters


def test_large_images_do_not_blow_the_small_network_up() -> None:
    assert models.build(ModelSettings(), (224, 224, 3), 10).count_params() < 250_000


def test_width_scales_and_no_dropout_leaves_no_layer() -> None:
    sizes = [models.build(ModelSettings(width=width), (28, 28, 1), 10).count_params() for width in (0.1, 1, 2)]
    assert sizes == sorted(sizes) and sizes[2] > 3 * sizes[1] > 9 * sizes[0]
    model = models.build(ModelSettings(dropout=0), (28, 28, 1), 10)
    assert not [layer for layer in model.layers if isinstance(layer, tf_keras.layers.Dropout)]


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(UnknownModelError) as caught:
        models.build(ModelSettings(name="resnet9"), (28, 28, 1), 10)
    assert "'resnet9'" in str(caught.value) and ", ".join(OWN) in str(caught.value)
    assert "did you mean 'resnet8'?" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("shape", "classes", "said"),
    [
        ((7, 28, 1), 10, "at least 8 x 8"),
        ((28, 28, 4), 10, "1 or 3 channels"),
        ((28, 28, 1), 1, "at least 2"),
    ],
)
def test_shapes_that_cannot_be_learned_from_are_refused(shape: tuple[int, int, int], classes: int, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        models.build(ModelSettings(), shape, classes)


def test_a_users_module_registers_its_models(tmp_path: Path) -> None:
    body = (
        "    image = tf_keras.Input(input_shape, name='image')\n"
        "    x = tf_keras.layers.Flatten()(image)\n"
        "    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name='logits')(x))\n"
    )
    path = user_module(tmp_path, body)
    assert "mine" in models.names(path)
    for _ in range(2):
        model = models.build(ModelSettings(name="mine", module=path), (8, 8, 1), 4)
    assert model.count_params() == 64 * 4 + 4


def test_a_users_module_may_be_edited_and_loaded_again(tmp_path: Path) -> None:
    body = "    image = tf_keras.Input(input_shape, name='image')\n    x = tf_keras.layers.Flatten()(image)\n{}"
    last = "    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name='logits', use_bias={})(x))\n"
    sizes = []
    for bias in (True, False, True):
        path = user_module(tmp_path, body.format(last.format(bias)))
        sizes.append(models.build(ModelSettings(name="mine", module=path), (8, 8, 1), 4).count_params())
    assert sizes == [260, 256, 260]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    return 3\n", "expected a tf_keras.Model"),
        (
            "    return tf_keras.Sequential([tf_keras.Input(input_shape), tf_keras.layers.Flatten()])\n",
            "expected one input named 'image'",
        ),
        (
            "    image = tf_keras.Input(input_shape, name='image')\n"
            "    return tf_keras.Model(image, tf_keras.layers.Flatten()(image))\n",
            "expected one output 'logits'",
        ),
        (
            "    image = tf_keras.Input(input_shape, name='image')\n"
            "    inner = tf_keras.Model(image, tf_keras.layers.Flatten()(image), name='inner')\n"
            "    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name='logits')(inner(image)))\n",
            r"it nests \['inner'\]",
        ),
    ],
)
def test_a_users_model_that_breaks_the_contract_is_refused(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        models.build(ModelSettings(name="mine", module=user_module(tmp_path, body)), (8, 8, 1), 4)


def test_a_users_module_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("from trainer.models import register\nregister('half')(print)\n1 / 0\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(TrainerError, match="failed on import: ZeroDivisionError"):
            models.names(str(broken))
    assert models.names() == OWN
    with pytest.raises(TrainerError, match=r"expected the path of an existing \.py file"):
        models.names(str(tmp_path / "missing.py"))
    with pytest.raises(TrainerError, match="registered twice"):
        models.names(user_module(tmp_path, "    return 3\n", name="mlp"))

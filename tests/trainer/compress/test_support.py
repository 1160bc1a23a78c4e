"""What a technique cannot be applied to is named before any training, all of it at once, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.trainer.compress.conftest import FINETUNE, MODEL, TRAIN, Splits, tiny
from trainer import models
from trainer.compress import network, quantization, support
from trainer.compress.compressing import compress
from trainer.errors import TrainerError
from trainer.settings import ModelSettings

keras = tf_keras.layers


class Doubling(keras.Layer):
    """A custom layer that a copy can be made of."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class Forgetful(keras.Layer):
    """A custom layer whose configuration lacks an argument."""

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * self.factor

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


class Subclassed(tf_keras.Model):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs


def model_of(body: Callable[[Any], Any]) -> tf_keras.Model:
    image = tf_keras.Input((8, 8, 1), name="image")
    x = keras.Conv2D(4, 3, name="stem")(image)
    x = body(x)
    x = keras.Dense(12, activation="relu", name="hidden")(keras.Flatten()(x))
    return tf_keras.Model(image, keras.Dense(3, name="logits")(x), name="odd")


def refusal(technique: str, model: tf_keras.Model, **options: Any) -> str:
    with pytest.raises(TrainerError) as error:
        support.check(technique, model, **options)
    return str(error.value)


@pytest.mark.parametrize("technique", ["qat", "prune50", "cluster8", "channels30", "pcqat50x8"])
def test_models_that_cannot_be_copied_are_refused(technique: str) -> None:
    inner = tf_keras.Sequential([keras.Conv2D(4, 1)], name="inner")
    assert "build it as tf_keras.Model(inputs, outputs)" in refusal(technique, Subclassed(name="mine"))
    assert "layer 'inner' (Sequential) is a model inside" in refusal(technique, model_of(inner))
    assert "layer 'bad' (Forgetful) cannot be copied" in refusal(technique, model_of(Forgetful(2.0, name="bad")))
    twice = keras.ReLU(name="twice")
    assert "layer 'twice' (ReLU) stands at several places" in refusal(technique, model_of(lambda x: twice(twice(x))))


def code_and_odd_layers(x: Any) -> Any:
    x = keras.Lambda(lambda images: images + 1, name="lambda")(x)
    x = x * 2.0
    x = keras.LayerNormalization(name="norm")(x)
    x = keras.Activation("hard_sigmoid", name="hard")(x)
    x = keras.Conv2D(4, 1, activation="elu", name="elu")(x)
    x = keras.BatchNormalization(name="late")(keras.ReLU()(x))
    return keras.PReLU(name="prelu")(x)


def test_all_layers_without_int8_are_named_at_once_with_their_remedy() -> None:
    said = refusal("qat", model_of(code_and_odd_layers), float_fallback=False)
    for expected in (
        "layer 'lambda' (Lambda): it is code without a configuration: write it as a registered layer class",
        "(TFOpLambda): it is code",
        "layer 'norm' (LayerNormalization): int8 has no form of it: replace it by",
        "layer 'hard' (Activation): int8 has no form of its activation hard_sigmoid: take one of gelu, linear, relu",
        "layer 'elu' (Conv2D): int8 has no form of its activation elu",
        "layer 'late' (BatchNormalization): batch norm folds only into a convolution",
        "layer 'prelu' (PReLU): int8 has no form of it",
    ):
        assert expected in said
    assert "'stem'" not in said and "'hidden'" not in said and "'logits'" not in said


def test_only_what_cannot_run_in_float_is_refused_if_float_is_allowed() -> None:
    said = refusal("qat", model_of(code_and_odd_layers))
    assert "'lambda'" in said and "TFOpLambda" in said and "'elu'" in said
    assert "'norm'" not in said and "'hard'" not in said and "'late'" not in said and "'prelu'" not in said


def attention(x: Any) -> Any:
    x = keras.Reshape((36, 4))(x)
    return keras.MultiHeadAttention(1, 4, name="attention")(x, x)


def test_a_layer_of_several_arguments_is_refused() -> None:
    assert "layer 'attention' (MultiHeadAttention): it takes several arguments" in refusal("qat", model_of(attention))


def float_islands(x: Any) -> Any:
    x = keras.PReLU(name="prelu")(x)
    x = keras.Conv2D(4, 1, name="between")(Doubling(1.5, name="doubling")(x))
    x = keras.LayerNormalization(name="norm")(x)
    return keras.Multiply(name="multiply")([x, keras.Conv2D(4, 1, activation="sigmoid", name="gate")(x)])


def test_layers_that_stay_in_float_leave_the_rest_quantized_and_the_file_convertible() -> None:
    model = model_of(float_islands)
    support.check("qat", model)
    assert set(support.float_layers(model)) == {"prelu", "doubling", "norm", "multiply"}
    aware = quantization.wrap(network.rebuild(model), "plain")
    assert set(quantization.simulated_kernels(aware)) == {"stem", "between", "gate", "hidden", "logits"}
    converter = tf.lite.TFLiteConverter.from_keras_model(aware)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    kinds = {tuple(one["shape"]): one["dtype"] for one in interpreter.get_tensor_details()}
    assert kinds[(12, 6 * 6 * 4)] == np.int8 and kinds[(4, 3, 3, 1)] == np.int8


@pytest.mark.parametrize("family", ["cnn_small", "mlp", "mobilenet_small", "resnet8"])
def test_families_of_the_house_pass(family: str) -> None:
    model = models.build(ModelSettings(name=family, width=0.25), (8, 8, 1), 3)
    for technique in ("prune50", "prune2by4", "cluster8", "channels30"):
        support.check(technique, model)
    assert support.float_layers(model) == {}


def linear(x: Any) -> Any:
    return keras.Dense(3, name="logits")(keras.Flatten()(x))


@pytest.mark.parametrize(
    ("technique", "said"),
    [
        ("prune50", "no kernel beside its head"),
        ("pqat50", "no kernel beside its head"),
        ("cluster8", "no kernel beside its head"),
        ("channels30", "no channels that could go"),
    ],
)
def test_a_model_with_nothing_to_compress_is_refused(technique: str, said: str) -> None:
    image = tf_keras.Input((8, 8, 1), name="image")
    assert said in refusal(technique, tf_keras.Model(image, linear(image)))


def test_more_clusters_than_weights_and_too_few_lanes_are_refused() -> None:
    image = tf_keras.Input((8, 8, 1), name="image")
    x = keras.Conv2D(2, 3, name="stem")(image)
    x = keras.Conv2D(2, 1, name="second")(x)
    model = tf_keras.Model(image, keras.Dense(3, name="logits")(keras.GlobalAveragePooling2D()(x)))
    assert "more than 16 weights: ask for fewer clusters" in refusal("cluster16", model)
    assert "more than 2 input channels" in refusal("prune2by4", model)


def test_nothing_is_trained_before_the_check(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained before the check")

    monkeypatch.setattr(tf_keras.Model, "fit", never)
    with pytest.raises(TrainerError, match="'lambda'"):
        compress("pqat50", model_of(code_and_odd_layers), *splits, FINETUNE, TRAIN, MODEL)


def test_a_copy_that_predicts_something_else_is_refused() -> None:
    class Lying(Doubling):
        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": 3.0}

    with pytest.raises(TrainerError, match="let get_config"):
        network.rebuild(model_of(Lying(2.0)))


def test_heads_and_first_convolutions_are_found() -> None:
    model = tiny()
    assert network.heads(model) == {"logits"}
    first, second = (layer.name for layer in model.layers if isinstance(layer, keras.Conv2D))
    assert network.first_convolutions(model) == {first}
    assert network.thinnable(model) == [second, "hidden"]
    flat = models.build(ModelSettings(name="mlp"), (8, 8, 1), 3)
    # A dense first layer holds most weights of a flat network, so it is no first layer to spare.
    assert len(network.thinnable(flat)) == 2


def test_a_model_of_mixed_precision_is_rebuilt_in_float32() -> None:
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = tiny()
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
    copy = network.rebuild(model)
    assert {layer.compute_dtype for layer in model.layers} >= {"bfloat16"}
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}

"""The model that learns on the device: as SavedModel, as TFLite file, and in the mobile bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from serving.edge.bundle import build_bundle
from serving.edge.card import PersonalizationCard
from serving.edge.personalize import convert_personalizable
from serving.edge.tflite_file import read_tflite
from serving.edge.verify import verify_bundle
from serving.errors import ConversionError
from tests.serving.edge import tiny
from trainer import personalization
from trainer.errors import TrainerError


def _model(classes: int = 3) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(7)
    image = tf_keras.Input((8, 8, 1), name="image")
    hidden = tf_keras.layers.Conv2D(4, 3, use_bias=False)(image)
    hidden = tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(hidden))
    hidden = tf_keras.layers.Flatten()(hidden)
    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name="logits")(hidden))


@pytest.fixture(scope="module")
def model() -> tf_keras.Model:
    """A small classifier."""
    return _model()


@pytest.fixture(scope="module")
def device_file(model: tf_keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as it comes to the device."""
    folder = tmp_path_factory.mktemp("personal")
    return convert_personalizable(personalization.export(model, folder / "saved"), folder / "personal.tflite")


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """Six of the user's images and their classes."""
    return np.random.default_rng(0).random((6, 8, 8, 1), dtype=np.float32), np.array([0, 1, 2, 0, 1, 2], np.int32)


class Device:
    """One start of the app."""

    def __init__(self, file: Path) -> None:
        self._interpreter = tf.lite.Interpreter(model_path=str(file))

    def __call__(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        result = self._interpreter.get_signature_runner(signature)(**inputs)
        return {name: np.copy(value) for name, value in result.items()}


def test_the_file_needs_the_standard_runtime_only(device_file: Path) -> None:
    file = read_tflite(device_file.read_bytes())
    assert file.custom_operations == ()
    card = PersonalizationCard.of(device_file.read_bytes())
    assert card.signatures["train"] == {"inputs": ("image", "label", "learning_rate"), "outputs": ("loss",)}
    assert card.signatures["infer"] == {"inputs": ("image",), "outputs": ("probabilities",)}
    assert card.signatures["restore"] == {"inputs": ("bias", "kernel"), "outputs": ("bias", "kernel")}


def test_it_begins_as_the_model_it_came_from(
    model: tf_keras.Model, device_file: Path, images: tuple[np.ndarray, np.ndarray]
) -> None:
    answer = Device(device_file)("infer", image=images[0])["probabilities"]
    assert answer == pytest.approx(tf.nn.softmax(model(images[0], training=False)).numpy(), abs=1e-5)


def test_it_learns_as_keras_does(
    model: tf_keras.Model, device_file: Path, images: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, labels = images
    device, rate = Device(device_file), np.float32(0.05)
    losses = [float(device("train", image=pixels, label=labels, learning_rate=rate)["loss"]) for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert sorted(losses, reverse=True) == losses

    reference = _model()
    reference.set_weights(model.get_weights())
    head = reference.layers[-1]
    for step in range(20):
        with tf.GradientTape() as tape:
            logits = reference(pixels, training=False)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        assert losses[step] == pytest.approx(float(loss), abs=1e-4)
        for variable, slope in zip(head.variables, tape.gradient(loss, head.variables), strict=True):
            variable.assign_sub(rate * slope)
    held = device("save", unused=np.float32(0))
    assert held["kernel"] == pytest.approx(head.kernel.numpy(), abs=1e-4)
    assert held["bias"] == pytest.approx(head.bias.numpy(), abs=1e-4)


def test_what_was_learned_survives_a_restart(device_file: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = images
    before = Device(device_file)
    for _ in range(5):
        before("train", image=pixels, label=labels, learning_rate=np.float32(0.1))
    learned = before("infer", image=pixels)["probabilities"]
    kept = before("save", unused=np.float32(0))

    after = Device(device_file)
    fresh = after("infer", image=pixels)["probabilities"]
    assert np.abs(fresh - learned).max() > 0.01, "a new start has forgotten it"
    given_back = after("restore", **kept)
    assert all(np.array_equal(given_back[name], kept[name]) for name in ("kernel", "bias"))
    assert np.array_equal(after("infer", image=pixels)["probabilities"], learned)


def test_it_ships_in_the_bundle(device_file: Path, tmp_path: Path) -> None:
    contents = tiny.contents(tiny.convert(tmp_path), personalization=device_file)
    bundle = build_bundle(tmp_path / "bundle", contents)
    assert (bundle / "model_personalize.tflite").read_bytes() == device_file.read_bytes()
    assert "`train(image, label, learning_rate)` gives `loss`" in (bundle / "README.md").read_text()
    findings = [str(finding) for finding in verify_bundle(bundle, runtime="none")]
    assert "model: model_personalize.tflite can train, infer, save and restore" in findings
    (bundle / "model_personalize.tflite").write_bytes(device_file.read_bytes()[:-100])
    failed = [str(finding) for finding in verify_bundle(bundle, runtime="none") if finding.status == "failed"]
    assert len(failed) == 2


def test_the_model_itself_is_untouched(model: tf_keras.Model) -> None:
    module = personalization.Personalizable(model)
    weights = [weight.copy() for weight in model.get_weights()]
    module.train(tf.ones([2, 8, 8, 1]), tf.constant([0, 1]), tf.constant(1.0))
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


def test_models_without_a_linear_last_layer_are_refused() -> None:
    image = tf_keras.Input((8, 8, 1))
    flat = tf_keras.layers.Flatten()(image)
    with pytest.raises(TrainerError, match=r"the last layer .* is ReLU; expected a linear dense layer"):
        personalization.Personalizable(tf_keras.Model(image, tf_keras.layers.ReLU()(flat)))
    softmax = tf_keras.layers.Dense(2, activation="softmax", name="scores")(flat)
    with pytest.raises(TrainerError, match="the last layer 'scores' is Dense; expected a linear"):
        personalization.Personalizable(tf_keras.Model(image, softmax))


def test_other_saved_models_cannot_be_converted(tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([1], tf.float32)], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "other"), signatures={"serve": module.f})
    for folder in (tmp_path / "other", tmp_path / "gone"):
        with pytest.raises(ConversionError, match="Expected the signatures train, infer, save, restore"):
            convert_personalizable(folder, tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()

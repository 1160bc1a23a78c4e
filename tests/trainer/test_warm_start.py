"""What a training starts with: the weights of an earlier model where they fit, and the reason where they don't."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from trainer import handover, inputs, models, training, warm_start
from trainer.settings import ModelSettings, TrainSettings

MODEL = ModelSettings(name="mlp", width=0.5)
WARM = TrainSettings(epochs=9, warm_start=True, warm_epochs=2, warm_learning_rate=1e-4)
LABELS = ["a", "b", "c"]
SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The folder of a finished model, as the Trainer leaves it."""
    tf_keras.utils.set_random_seed(3)
    artifact = tmp_path_factory.mktemp("artifact")
    handover.save(models.build(MODEL, SHAPE, 3), MODEL, TrainSettings(), artifact / handover.FOLDER)
    saved = artifact / "Format-Serving" / "assets.extra"
    saved.mkdir(parents=True)
    (saved / "labels.txt").write_text("a\nb\nc\n", encoding="utf-8")
    return saved.parent


def test_the_weights_and_the_settings_of_a_warm_start(base, tmp_path):
    start = warm_start.prepare(str(base), WARM, MODEL.model_copy(update={"dropout": 0.5}), LABELS, SHAPE)
    expected = handover.load(base.parent / handover.FOLDER).model.get_weights()
    assert start.weights is not None
    for received, wanted in zip(start.weights, expected, strict=True):
        np.testing.assert_array_equal(received, wanted)
    assert (start.settings.epochs, start.settings.learning_rate) == (2, 1e-4)
    start.write(tmp_path)
    written = json.loads((tmp_path / warm_start.FILE).read_text())
    assert written == {
        "warm": True,
        "base": str(base.parent),
        "sentence": f"the weights start from those of {base.parent}",
    }


def test_unset_values_are_those_of_a_cold_start(base):
    settings = TrainSettings(epochs=9, warm_start=True)
    assert warm_start.prepare(str(base), settings, MODEL, LABELS, SHAPE).settings == settings


def test_a_cold_start_was_asked_for(base):
    assert warm_start.prepare(str(base), TrainSettings(), MODEL, LABELS, SHAPE) == warm_start.Start(TrainSettings())


@pytest.mark.parametrize(
    ("model", "labels", "shape", "words"),
    [
        (MODEL, ["a", "b", "d"], SHAPE, "knows 'c', which the data lacks and lacks 'd', which the data has"),
        (MODEL, ["a", "b"], SHAPE, "knows 'c', which the data lacks"),
        (MODEL, ["b", "a", "c"], SHAPE, "has the same classes in another order"),
        (MODEL, LABELS, (8, 8, 3), "takes images of 8 x 8 x 1, and this one of 8 x 8 x 3"),
        (ModelSettings(name="mlp", width=1.0), LABELS, SHAPE, "has model.width 0.5, and this one 1.0"),
        (ModelSettings(name="cnn_small", width=0.5), LABELS, SHAPE, "has model.name mlp, and this one cnn_small"),
    ],
)
def test_what_does_not_fit_starts_afresh_with_the_full_settings_and_says_why(base, model, labels, shape, words):
    start = warm_start.prepare(str(base), WARM, model, labels, shape)
    assert start.weights is None and start.settings == WARM
    assert words in start.sentence and "start from random values" in start.sentence


def test_no_model_before(tmp_path):
    start = warm_start.prepare(None, WARM, MODEL, LABELS, SHAPE)
    assert start.weights is None and start.sentence.startswith("no model was blessed before")
    gone = warm_start.prepare(str(tmp_path / "Format-Serving"), WARM, MODEL, LABELS, SHAPE)
    assert gone.weights is None and "can't be read" in gone.sentence


def test_the_training_begins_where_the_weights_say(digits, tmp_path):
    images, labels = digits
    split = inputs.Split((), lambda _: None, SHAPE, 200, 1, images[:200], labels[:200])
    settings = TrainSettings(epochs=4, batch_size=32, learning_rate=5e-3)
    cold = training.train(settings, MODEL, split, split, 10)
    weights = cold.model.get_weights()
    slow = settings.model_copy(update={"epochs": 1, "learning_rate": 1e-6})
    warm = training.train(slow, MODEL, split, split, 10, initial_weights=weights)
    assert warm.history[0]["eval_loss"] == pytest.approx(cold.history[-1]["eval_loss"], rel=0.01)
    assert training.train(slow, MODEL, split, split, 10).history[0]["eval_loss"] > 1.5 * warm.history[0]["eval_loss"]


def test_an_interrupted_training_does_not_go_on_from_other_weights(digits, tmp_path, monkeypatch):
    from trainer import checkpoints

    images, labels = digits
    split = inputs.Split((), lambda _: None, SHAPE, 64, 1, images[:64], labels[:64])
    settings = TrainSettings(epochs=2, batch_size=32)
    weights = models.build(MODEL, SHAPE, 10).get_weights()
    monkeypatch.setattr(checkpoints, "forget", lambda folder: None)  # as if it had died after its last epoch
    training.train(settings, MODEL, split, split, 10, tmp_path, initial_weights=weights)
    again = training.train(settings, MODEL, split, split, 10, tmp_path, initial_weights=weights)
    assert again.resumed_after == 2
    other = [value + 1 for value in weights]
    assert training.train(settings, MODEL, split, split, 10, tmp_path, initial_weights=other).resumed_after == 0
    assert training.train(settings, MODEL, split, split, 10, tmp_path).resumed_after == 0

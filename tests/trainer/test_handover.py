"""A trained model goes to the next stage and comes back the same, or with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from trainer import handover, models
from trainer.errors import TrainerError
from trainer.settings import ModelSettings, TrainSettings

SETTINGS = ModelSettings(name="cnn_small", width=0.5, dropout=0.1)
TRAINING = TrainSettings(learning_rate=3e-3, augment=("shift",))


@pytest.fixture(scope="module")
def model() -> tf_keras.Model:
    tf_keras.utils.set_random_seed(3)
    model = models.build(SETTINGS, (8, 8, 1), 4)
    # Batch statistics as after a training: weights that don't train must travel too.
    for variable in model.non_trainable_variables:
        variable.assign(np.random.default_rng(5).uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture
def folder(model: tf_keras.Model, tmp_path: Path) -> Path:
    handover.save(model, SETTINGS, TRAINING, tmp_path / handover.FOLDER)
    return tmp_path / handover.FOLDER


def test_the_model_answers_as_before(model: tf_keras.Model, folder: Path) -> None:
    images = np.random.default_rng(7).uniform(size=(5, 8, 8, 1)).astype(np.float32)
    received = handover.load(folder)
    np.testing.assert_array_equal(received.model(images, training=False), model(images, training=False))
    assert (received.model_settings, received.train_settings) == (SETTINGS, TRAINING)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def other_width(path: Path) -> None:
    description = json.loads(path.read_text())
    description["model"]["width"] = 1.0
    path.write_text(json.dumps(description))


def pickled(path: Path) -> None:
    np.savez(path, **{"0000": np.array([{"a": 1}], dtype=object)})


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("weights.npz", Path.unlink, "can't be read"),
        ("weights.npz", truncate, "can't be read"),
        ("weights.npz", lambda path: path.write_bytes(b""), "can't be read"),
        ("weights.npz", pickled, "can't be read"),
        ("model.json", Path.unlink, "can't be read"),
        ("model.json", truncate, "can't be read"),
        ("model.json", lambda path: path.write_text("[]"), "can't be read"),
        ("model.json", other_width, "don't fit the model 'cnn_small'"),
    ],
)
def test_damage_is_named_with_the_remedy(folder: Path, file: str, damage: Callable[[Path], None], words: str) -> None:
    damage(folder / file)
    with pytest.raises(TrainerError, match=words) as caught:
        handover.load(folder)
    assert "--no-cache Trainer" in str(caught.value)

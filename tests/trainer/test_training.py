"""The training loop on real digits: it learns, repeats itself and survives interruptions."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer import checkpoints, inputs, training
from trainer.errors import DivergedError, TrainerError
from trainer.settings import ModelSettings, TrainSettings

Splits = tuple[inputs.Split, inputs.Split]

MLP = ModelSettings(name="mlp", dropout=0.0)


def in_memory(images: np.ndarray, labels: np.ndarray) -> inputs.Split:
    def never(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raise AssertionError("decoded in spite of pixels in memory")

    return inputs.Split((), never, (8, 8, 1), len(images), int(images.sum()), images, labels)


@pytest.fixture(scope="module")
def splits(digits: tuple[np.ndarray, np.ndarray]) -> Splits:
    images, labels = digits
    return in_memory(images[:600], labels[:600]), in_memory(images[600:900], labels[600:900])


@pytest.fixture
def reports() -> Iterator[list[dict[str, Any]]]:
    """All progress reports of a test."""
    seen: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.__dict__["progress"])

    logger = logging.getLogger("slipway.progress")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield seen
    logger.removeHandler(handler)
    logger.setLevel(level)


def figures(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def run(splits: Splits, workdir: Path | None = None, **train: Any) -> training.TrainResult:
    settings = TrainSettings.model_validate({"epochs": 3, "batch_size": 64, "learning_rate": 1e-2, **train})
    return training.train(settings, MLP, *splits, 10, workdir)


def interrupted(splits: Splits, workdir: Path, after: int, **train: Any) -> None:
    """Train until the epoch after `after` has been reported but not stored."""

    class Interrupt(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress = record.__dict__["progress"]
            if progress["unit"] == "epochs" and progress["done"] == after + 1:
                raise KeyboardInterrupt

    logger = logging.getLogger("slipway.progress")
    handler, level = Interrupt(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(splits, workdir, **train)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_it_learns_reports_and_writes_its_history(splits: Splits, reports: list[dict], tmp_path: Path) -> None:
    result = run(splits, tmp_path)
    assert result.history[-1]["eval_accuracy"] > 0.8 > result.history[0]["accuracy"]
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[-1]["learning_rate"] < result.history[0]["learning_rate"] <= 1e-2
    epochs = [report for report in reports if report["unit"] == "epochs"]
    assert [(report["done"], report["total"]) for report in epochs] == [(1, 3), (2, 3), (3, 3)]
    assert set(epochs[0]["values"]) == {"loss", "accuracy", "eval_loss", "eval_accuracy"}
    assert json.loads((tmp_path / "history.json").read_text()) == result.history
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["eval_loss"]) for row in rows] == [row["eval_loss"] for row in result.history]
    assert not (tmp_path / checkpoints.FILE).exists()


def test_the_reported_accuracy_is_that_of_the_model(splits: Splits) -> None:
    result = run(splits)
    pixels, labels = splits[1].pixels, splits[1].labels
    assert pixels is not None
    logits = result.model(pixels / np.float32(255)).numpy()
    assert result.history[-1]["eval_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == labels))
    right = logits[np.arange(300), labels]
    log_loss = np.mean(np.log(np.exp(logits).sum(1)) - right)
    assert result.history[-1]["eval_loss"] == pytest.approx(log_loss, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_same_seed_gives_the_same_history(splits: Splits, optimizer: str) -> None:
    train: dict[str, Any] = {
        "epochs": 1,
        "optimizer": optimizer,
        "augment": ["shift", "mixup"],
        "label_smoothing": 0.1,
    }
    first, second, other = (figures(run(splits, seed=seed, **train).history) for seed in (1, 1, 2))
    assert first == second != other


def test_an_interrupted_training_ends_as_if_nothing_had_happened(splits: Splits, tmp_path: Path) -> None:
    train: dict[str, Any] = {"augment": ["shift"], "ema": 0.9, "early_stopping": 3}
    whole = run(splits, **train)
    interrupted(splits, tmp_path, after=1, **train)
    resumed = run(splits, tmp_path, **train)
    assert resumed.resumed_after == 1
    assert figures(resumed.history) == figures(whole.history)
    for weight, expected in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_other_settings_or_data_start_from_the_beginning(splits: Splits, tmp_path: Path) -> None:
    interrupted(splits, tmp_path, after=1)
    assert run(splits, tmp_path, learning_rate=1e-3).resumed_after == 0
    interrupted(splits, tmp_path, after=1)
    other = dataclasses.replace(splits[0], fingerprint=1)
    assert run((other, splits[1]), tmp_path).resumed_after == 0


def test_a_torn_state_is_no_state(splits: Splits, tmp_path: Path) -> None:
    interrupted(splits, tmp_path, after=1)
    stored = tmp_path / checkpoints.FILE
    stored.write_bytes(stored.read_bytes()[:1000])
    assert run(splits, tmp_path).resumed_after == 0


def test_early_stopping_keeps_the_best_weights(splits: Splits) -> None:
    result = run(
        splits,
        epochs=40,
        early_stopping=2,
        learning_rate=0.1,
        optimizer="sgd",
        schedule="constant",
        batch_size=16,
    )
    losses = [row["eval_loss"] for row in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 2 < 38
    loss, _ = result.model.evaluate(inputs.evaluation(splits[1]), verbose=0)
    assert loss == pytest.approx(min(losses), rel=1e-5)


def test_averaged_weights_are_evaluated_and_kept(splits: Splits) -> None:
    train: dict[str, Any] = {"schedule": "constant", "learning_rate": 0.02}
    plain, averaged = run(splits, **train), run(splits, ema=0.95, **train)
    # Training itself goes on with the weights that are not averaged.
    assert [row["loss"] for row in plain.history] == [row["loss"] for row in averaged.history]
    assert plain.history[-1]["eval_loss"] != averaged.history[-1]["eval_loss"]
    loss, _ = averaged.model.evaluate(inputs.evaluation(splits[1]), verbose=0)
    assert loss == pytest.approx(averaged.history[-1]["eval_loss"], rel=1e-5)


def test_a_loss_that_is_no_number_stops_and_says_what_to_change(splits: Splits, tmp_path: Path) -> None:
    module = tmp_path / "broken.py"
    module.write_text(
        "import tf_keras\nfrom trainer.models import register\n\n\n@register('not_a_number')\n"
        "def build(settings, input_shape, classes):\n"
        "    image = tf_keras.Input(input_shape, name='image')\n"
        "    x = tf_keras.layers.Flatten()(image)\n"
        "    nan = tf_keras.initializers.Constant(float('nan'))\n"
        "    x = tf_keras.layers.Dense(classes, bias_initializer=nan, name='logits')(x)\n"
        "    return tf_keras.Model(image, x)\n",
        encoding="utf-8",
    )
    with pytest.raises(DivergedError, match=r"loss became nan in epoch 1 .*_rate 0\.002; .* such as 0\.0002") as caught:
        training.train(TrainSettings(), ModelSettings(name="not_a_number", module=str(module)), *splits, 10)
    assert caught.value.exit_code == 2


def test_labels_that_do_not_fit_the_classes_are_refused(splits: Splits) -> None:
    with pytest.raises(TrainerError, match="labels from 0 to 9; expected 0 to 8 for 9 classes"):
        training.train(TrainSettings(), MLP, *splits, 9)


SCRIPT = """
import logging, sys
from pathlib import Path
import numpy as np
from sklearn.datasets import load_digits
from trainer import inputs, training
from trainer.settings import ModelSettings, TrainSettings

class Tell(logging.Handler):
    def emit(self, record):
        if record.progress["unit"] == "epochs":
            print(record.progress["done"], flush=True)

logging.getLogger("slipway.progress").addHandler(Tell())
logging.getLogger("slipway.progress").setLevel(logging.INFO)
data = load_digits()
images, labels = np.round(data.images * 15).astype(np.uint8)[..., None], data.target.astype(np.int64)
split = inputs.Split((), None, (8, 8, 1), len(images), 0, images, labels)
result = training.train(TrainSettings(epochs=300), ModelSettings(name="mlp"), split, split, 10,
Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_after_its_last_stored_epoch(tmp_path: Path) -> None:
    def epochs(until: int) -> list[int]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            seen = []
            for line in process.stdout:
                seen.append(int(line))
                if seen[-1] >= until:
                    process.send_signal(signal.SIGKILL)
                    break
        return seen

    first = epochs(until=5)
    assert first == [1, 2, 3, 4, 5]
    second = epochs(until=8)
    # Killed after the report of epoch 5, before or after it was stored; it may have gone on a little.
    assert second[0] >= 5 and second == list(range(second[0], second[0] + len(second)))

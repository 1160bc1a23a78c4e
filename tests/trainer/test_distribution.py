"""Training on several devices and in several processes, which are real; one of them dies."""

from __future__ import annotations

import concurrent.futures
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import example
from trainer import distribution, inputs, training
from trainer.cluster import Cluster
from trainer.distribution import Distribution
from trainer.errors import TrainerError, WorkerLostError
from trainer.settings import ModelSettings, TrainSettings

TRAIN, EVAL = 1200, 301
ROOT = Path(__file__).parents[2]
# Generous: two processes on a machine that is busy with other tests.
SECONDS = 400


@dataclass(frozen=True)
class Finished:
    """What became of a process."""

    code: int
    epochs: list[int]
    error: str
    log: str


@pytest.fixture
def folder(tmp_path: Path, write_records: Callable[..., str], digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Digits as the pipeline hands them to the trainer."""
    examples = [
        example(tf.io.encode_png(image).numpy(), int(label))
        for image, label in zip(*(part[: TRAIN + EVAL] for part in digits), strict=True)
    ]
    for split, part in (("train", examples[:TRAIN]), ("eval", examples[TRAIN:])):
        for number in range(3):
            write_records(part[number::3], f"examples/Split-{split}/data_tfrecord-{number:05d}-of-00003.gz")
    (tmp_path / "examples" / "labels.txt").write_text("".join(f"{n}\n" for n in range(10)), encoding="utf-8")
    return tmp_path


def start(folder: Path, name: str, cluster: dict[str, Any] | None = None, **job: Any) -> Finished:
    """Run one process to its end."""
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    environment |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["JOB"] = json.dumps({"name": name, "devices": 1, "die_after": None, **job})
    if cluster is not None:
        environment["TF_CONFIG"] = json.dumps(cluster)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.trainer.training_process", str(folder)],
        capture_output=True, text=True, env=environment, cwd=folder, timeout=SECONDS, check=False,
    )  # fmt: skip
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    epochs = [int(rest) for word, _, rest in lines if word == "epoch"]
    error = next((rest for word, _, rest in lines if word == "error"), "")
    return Finished(done.returncode, epochs, error, done.stdout + done.stderr[-4000:])


def together(folder: Path, worker: dict[str, Any] | None = None, **job: Any) -> tuple[Finished, Finished]:
    """Run a chief and a worker, which may have a job of its own."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, other)]
    members = {"chief": addresses[:1], "worker": addresses[1:]}
    tasks = [{"type": "chief", "index": 0}, {"type": "worker", "index": 0}]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(start, folder, task["type"], {"cluster": members, "task": task}, **{**job, **own})
            for task, own in zip(tasks, ({}, worker or {}), strict=True)
        ]
        chief, other_one = (future.result() for future in futures)
    return chief, other_one


def outcome(folder: Path, name: str) -> tuple[dict[str, Any], list[np.ndarray]]:
    with np.load(folder / name / "weights.npz") as stored:
        weights = [stored[key] for key in stored.files]
    return json.loads((folder / name / "outcome.json").read_text()), weights


def alone(folder: Path, model: dict[str, Any], train: dict[str, Any]) -> training.TrainResult:
    """The same training in this process, on one device."""
    from tests.trainer import training_process

    decode = inputs.parser(training_process.graph)
    splits = [
        inputs.load([f"{folder}/examples/Split-{name}/*"], decode, (8, 8, 1), 10_000_000) for name in ("train", "eval")
    ]
    settings = TrainSettings.model_validate({**train, "distribute": "off"})
    return training.train(settings, ModelSettings.model_validate(model), *splits, 10)


def rows(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.slow
@pytest.mark.orchestration
def test_two_processes_lose_one_begin_again_and_end_with_the_same_weights(folder: Path) -> None:
    # Batch normalization: its statistics differ from device to device. From files: nothing is kept in memory.
    model = {"name": "cnn_small", "width": 0.5, "dropout": 0.1}
    train = {"epochs": 4, "batch_size": 64, "learning_rate": 5e-3, "cache_mb": 0, "distribute_timeout": 200.0}
    job = {"model": model, "train": train}

    chief, worker = together(folder, {"die_after": 3}, **job)
    assert worker.code == -9, worker.log
    assert chief.code == WorkerLostError.exit_code, chief.log
    assert chief.error.startswith("chief lost another process of the training"), chief.log
    assert chief.error.endswith("the training goes on after its last finished epoch")
    assert not (folder / "model").exists()

    chief, worker = together(folder, **job)
    assert (chief.code, worker.code) == (0, 0), chief.log + worker.log
    # Killed when it had seen the figures of epoch 3, which the chief may or may not have stored by then.
    assert chief.epochs in ([3, 4], [4]) and worker.epochs == chief.epochs
    (ours, weights), (theirs, others) = outcome(folder, "chief"), outcome(folder, "worker")
    assert ours["resumed_after"] == theirs["resumed_after"] == 4 - len(chief.epochs)
    assert rows(ours["history"]) == rows(theirs["history"])
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)

    single = alone(folder, model, train).history
    assert abs(ours["history"][-1]["eval_accuracy"] - single[-1]["eval_accuracy"]) < 0.1 > 1 - single[-1]["accuracy"]
    serve = tf.saved_model.load(str(folder / "model" / "Format-Serving")).signatures["predict_examples"]
    split = inputs.load([f"{folder}/examples/Split-eval/*"], lambda raw: (raw, raw), (8, 8, 1), 0)
    records = inputs.first_records(split, EVAL)
    labels = [tf.train.Example.FromString(one).features.feature["label"].int64_list.value[0] for one in records]
    accuracy = np.mean(serve(examples=tf.constant(records))["class_id"].numpy() == labels)
    assert ours["history"][-1]["eval_accuracy"] == pytest.approx(accuracy)

    record = json.loads((folder / "model_run" / "distribution.json").read_text())
    assert record == {"strategy": "workers", "processes": 2, "replicas": 2}
    # Only the chief writes.
    assert not (folder / "worker" / "unfinished").exists()
    assert json.loads((folder / "model_run" / "history.json").read_text()) == ours["history"]


@pytest.mark.slow
def test_two_devices_compute_what_one_would(folder: Path) -> None:
    model = {"name": "mlp", "dropout": 0.0}
    train = {"epochs": 2, "batch_size": 64, "learning_rate": 5e-3, "ema": 0.9, "early_stopping": 1}
    job = {"model": model, "train": {**train, "distribute": "mirrored"}, "devices": 2}
    done = start(folder, "mirrored", **job)
    assert done.code == 0, done.log
    assert json.loads((folder / "model_run" / "distribution.json").read_text())["replicas"] == 2
    found, weights = outcome(folder, "mirrored")
    single = alone(folder, model, train)
    for row, expected in zip(rows(found["history"]), rows(single.history), strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
    for weight, expected in zip(weights, single.model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-4)


MEMBERS = {"chief": ["127.0.0.1:1"], "worker": ["127.0.0.1:2"]}
TWO = json.dumps({"cluster": MEMBERS, "task": {"type": "chief", "index": 0}})


@pytest.mark.parametrize(("mode", "environment"), [("auto", ""), ("off", ""), ("off", TWO), ("off", "broken")])
def test_without_others_there_is_one_device(mode: distribution.Mode, environment: str) -> None:
    found = distribution.choose(mode, 1.0, environment)
    assert found == Distribution() and found.chief
    assert found.describe() == {"strategy": "off", "processes": 1, "replicas": 1}
    assert found.from_chief(b"as it is") == b"as it is"


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "broken")
    with pytest.raises(TrainerError, match="TF_CONFIG is no JSON"):
        distribution.choose("auto", 1.0)


@pytest.mark.parametrize(
    ("mode", "environment", "said"),
    [
        ("workers", "", "TF_CONFIG names no other process; .* or set train.distribute: auto"),
        ("mirrored", "", r"this machine has 0 GPU\(s\); expected several; set train.distribute: auto"),
        ("auto", TWO, "names 2 processes, but TensorFlow is already at work in this one; .* or set train.distribute"),
    ],
)
def test_what_is_missing_is_said(mode: distribution.Mode, environment: str, said: str) -> None:
    tf.constant(1)
    with pytest.raises(TrainerError, match=said):
        distribution.choose(mode, 1.0, environment)


def of(replicas: int) -> Distribution:
    """A distribution that is only asked for numbers."""
    return Distribution(tf.distribute.get_strategy(), None, replicas)


@pytest.mark.parametrize(("wanted", "examples", "found"), [(64, 1000, 64), (64, 63, 60), (8, 5, 4), (4, 4, 4)])
def test_batches_are_dealt_evenly(wanted: int, examples: int, found: int) -> None:
    assert of(4).batch_size(wanted, examples) == found
    assert Distribution().batch_size(wanted, examples) == wanted


@pytest.mark.parametrize(
    ("wanted", "examples", "said"),
    [
        (66, 1000, "train.batch_size is 66, which 4 devices can't share evenly; .* such as 64 or 68"),
        (3, 1000, "such as 4$"),
        (64, 3, "3 examples for 4 devices"),
    ],
)
def test_batches_that_cannot_be_dealt_are_refused(wanted: int, examples: int, said: str) -> None:
    with pytest.raises(TrainerError, match=said):
        of(4).batch_size(wanted, examples)


def test_the_loss_of_a_process_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[tuple[Any, ...]] = []
    monkeypatch.setattr(distribution.atexit, "register", lambda *call: at_exit.append(call))
    ours = Distribution(tf.distribute.get_strategy(), Cluster(("chief", "worker 0"), ("a:1", "b:1"), 1))
    said = "Collective ops is aborted by: Error reported from /job:chief/task:0: gone. This indicates that\nmore"
    sentence = r"^worker 0 lost another .* \(/job:chief/task:0: gone\); its own log"
    with pytest.raises(WorkerLostError, match=sentence), ours.guard():
        raise tf.errors.UnavailableError(None, None, said)
    with pytest.raises(OSError, match="disk full"), ours.guard():
        raise OSError("disk full")
    assert at_exit == [(distribution._leave, 1)] * 2
    with pytest.raises(tf.errors.UnavailableError), Distribution().guard():
        raise tf.errors.UnavailableError(None, None, said)


def test_a_result_that_others_cannot_see(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="expected a folder that all processes share"):
        Distribution().finish(tmp_path / "saved_model.pb")
    (tmp_path / "saved_model.pb").touch()
    Distribution().finish(tmp_path / "saved_model.pb")

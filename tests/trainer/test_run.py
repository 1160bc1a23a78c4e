"""The TFX adapters: what they take from `FnArgs` and where they put what they made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer import inputs, run, training
from trainer.errors import TrainerError
from transform import features
from transform.images import decode_and_resize_batch

SETTINGS: dict[str, Any] = {
    "model": {"name": "mlp"},
    "train": {"epochs": 4, "batch_size": 32, "learning_rate": 5e-3},
    "tune": {"mode": "search", "oracle": "random", "trials": 2, "epochs": 1},
    "transform": {"size": [8, 8], "channels": 1},
}


@pytest.fixture
def fn_args(
    tmp_path: Path,
    write_records: Callable[..., str],
    digit_examples: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """What TFX hands over for an examples artifact of digits; the transform graph is a plain function."""
    write_records(digit_examples[:250], "examples/Split-train/data_tfrecord-00000-of-00001.gz")
    write_records(digit_examples[250:], "examples/Split-eval/data_tfrecord-00000-of-00001.gz")
    labels = "".join(f"digit {number}\n" for number in range(10))
    (tmp_path / "examples" / "labels.txt").write_text(labels, encoding="utf-8")

    def graph(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        encoded = tf.reshape(raw[features.IMAGE], [-1])
        return {
            features.PIXELS: decode_and_resize_batch(encoded, 8, 8, 1),
            features.LABEL: raw[features.LABEL],
        }

    monkeypatch.setattr(run, "decoder", lambda transform_output: inputs.parser(graph))
    return SimpleNamespace(
        train_files=[f"{tmp_path}/examples/Split-train/*"],
        eval_files=[f"{tmp_path}/examples/Split-eval/*"],
        transform_output=None,
        transform_graph_path=str(tmp_path / "transform"),
        hyperparameters=None,
        custom_config={"settings": SETTINGS},
        serving_model_dir=str(tmp_path / "model" / "Format-Serving"),
        model_run_dir=str(tmp_path / "model_run"),
        working_dir=str(tmp_path / "work"),
    )


def test_run_fn_trains_and_exports(fn_args: Any, digit_examples: list[bytes]) -> None:
    run.run_fn(fn_args)
    history = json.loads((Path(fn_args.model_run_dir) / "history.json").read_text())
    assert len(history) == 4 and history[-1]["eval_accuracy"] > 0.5
    serve = tf.saved_model.load(fn_args.serving_model_dir).signatures["predict_examples"]
    answer = serve(examples=tf.constant(digit_examples[250:]))
    labels = [tf.train.Example.FromString(one).features.feature["label"].int64_list.value[0] for one in digit_examples]
    accuracy = np.mean(answer["class_id"].numpy() == labels[250:])
    assert accuracy == pytest.approx(history[-1]["eval_accuracy"])
    assert answer["label"].numpy()[0].startswith(b"digit ")


def test_run_fn_takes_what_the_tuner_found(fn_args: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run.tuner_fn(fn_args)
    result.tuner.search(**result.fit_kwargs)
    found = result.tuner.get_best_hyperparameters()[0]
    seen = []

    def train(*arguments: Any, **_: Any) -> Any:
        seen.append(arguments[:2])
        raise InterruptedError

    monkeypatch.setattr(training, "train", train)
    fn_args.hyperparameters = json.loads(json.dumps(found.get_config()))
    with pytest.raises(InterruptedError):
        run.run_fn(fn_args)
    ((train_settings, model_settings),) = seen
    assert train_settings.learning_rate == found.get("learning_rate")
    assert model_settings.dropout == found.get("dropout")
    assert train_settings.epochs == 4


def test_unfinished_work_is_kept_where_told(fn_args: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fn_args.custom_config["resume"] = str(tmp_path / "resume")
    tuner = run.tuner_fn(fn_args).tuner
    assert Path(tuner.project_dir).parent == tmp_path / "resume"
    seen = []

    def train(*arguments: Any, **_: Any) -> Any:
        seen.append(arguments[5])
        raise InterruptedError

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(InterruptedError):
        run.run_fn(fn_args)
    assert seen == [tmp_path / "resume"]


def test_a_second_start_in_the_same_folder_exports_again(fn_args: Any) -> None:
    Path(fn_args.serving_model_dir).mkdir(parents=True)
    (Path(fn_args.serving_model_dir) / "saved_model.pb").write_bytes(b"half a model")
    run.run_fn(fn_args)
    assert "classify" in tf.saved_model.load(fn_args.serving_model_dir).signatures


def test_the_cache_budget_is_shared_by_the_splits(fn_args: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = []
    load = inputs.load

    def watched(files: Any, decode: Any, shape: Any, cache_bytes: int) -> inputs.Split:
        budgets.append(cache_bytes)
        return load(files, decode, shape, cache_bytes)

    monkeypatch.setattr(inputs, "load", watched)
    run.tuner_fn(fn_args)
    assert budgets == [256_000_000, 256_000_000 - 250 * 64]


@pytest.mark.parametrize("content", [None, ""])
def test_missing_labels_are_named(fn_args: Any, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "examples" / "labels.txt"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(TrainerError, match=r"labels\.txt .*expected one class name per line"):
        run.read_labels(fn_args.train_files)


def test_labels_keep_characters_that_only_look_like_line_ends(fn_args: Any, tmp_path: Path) -> None:
    (tmp_path / "examples" / "labels.txt").write_text("a\u2028b\nc\x85\n", encoding="utf-8", newline="")
    assert run.read_labels(fn_args.train_files) == ["a\u2028b", "c\x85"]

"""The parts between the stages: scores, batch norm statistics, the scan's choice, ranges, the loop's settings."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.compress.conftest import Splits, logits
from trainer.compress import FinetuneSettings, batch_norm, finetuning, network, scoring, sensitivity
from trainer.compress.scoring import Score
from trainer.errors import TrainerError
from trainer.settings import TrainSettings


def test_the_score_is_that_of_the_argmax_and_the_log_loss(fitted: tf_keras.Model, splits: Splits) -> None:
    found = scoring.score(fitted, splits[1])
    images, labels = splits[1].pixels, splits[1].labels
    assert images is not None and labels is not None
    rows = logits(fitted, images)
    assert found.accuracy == pytest.approx(np.mean(rows.argmax(1) == labels))
    log_loss = np.mean(np.log(np.exp(rows).sum(1)) - rows[np.arange(len(labels)), labels])
    assert found.loss == pytest.approx(log_loss, rel=1e-4)


def test_a_scorer_sees_changed_weights(splits: Splits, fitted: tf_keras.Model) -> None:
    model = network.rebuild(fitted)
    scorer = scoring.Scorer(model, splits[1], limit=100)
    before = scorer()
    model.get_layer("logits").bias.assign(np.eye(10)[3] * 1e3)
    assert splits[1].labels is not None
    assert scorer().accuracy == pytest.approx(np.mean(splits[1].labels[:512] == 3))
    assert before.accuracy > 0.8


def norms(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, tf_keras.layers.BatchNormalization)]


def test_spoiled_batch_norm_statistics_are_found_again(fitted: tf_keras.Model, splits: Splits) -> None:
    model = network.rebuild(fitted)
    for layer in norms(model):
        layer.moving_mean.assign(layer.moving_mean + 1.5)
        layer.moving_variance.assign(layer.moving_variance * 4)
    weights = [variable.numpy() for variable in model.trainable_variables]
    report = batch_norm.reestimate(model, *splits, seed=3)
    assert report["kept"] and report["after"]["loss"] < report["before"]["loss"]
    for old, new in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    first = norms(model)[0]
    before_norm = tf_keras.Model(model.input, first.input)
    assert splits[0].pixels is not None
    maps = logits(before_norm, splits[0].pixels).reshape(-1, 8)
    np.testing.assert_allclose(first.moving_mean, maps.mean(0), atol=1e-3)
    np.testing.assert_allclose(first.moving_variance, maps.var(0), rtol=5e-2)
    assert first.momentum == pytest.approx(0.9)


def test_statistics_that_do_not_help_are_thrown_away(
    fitted: tf_keras.Model, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network.rebuild(fitted)
    monkeypatch.setattr(batch_norm, "_statistics", lambda *args: ([np.full(8, 50.0)] * 2, [np.full(8, 1.0)] * 2))
    old = model.get_weights()
    assert batch_norm.reestimate(model, *splits, seed=3)["kept"] is False
    for one, other in zip(old, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_without_batch_norm_has_nothing_to_estimate(splits: Splits) -> None:
    image = tf_keras.Input((8, 8, 1), name="image")
    flat = tf_keras.Model(image, tf_keras.layers.Dense(10)(tf_keras.layers.Flatten()(image)))
    assert batch_norm.reestimate(flat, *splits, seed=3) == {}


def test_the_scan_measures_each_layer_alone_and_restores_it(fitted: tf_keras.Model, splits: Splits) -> None:
    model = network.rebuild(fitted)
    found = sensitivity.scan(model, ["hidden"], splits[1], levels=(0.5, 0.99))
    assert list(found["hidden"]) == [0.0, 0.5, 0.99]
    assert found["hidden"][0.0] == scoring.score(fitted, splits[1])
    assert found["hidden"][0.99].loss > found["hidden"][0.5].loss
    np.testing.assert_array_equal(model.get_layer("hidden").kernel, fitted.get_layer("hidden").kernel)


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40), st.floats(0, 1))
def test_thinning_takes_the_smallest_weights(values: list[float], sparsity: float) -> None:
    weights = np.array(values, np.float32)
    thinned = sensitivity.thinned(weights, sparsity)
    zeros = round(sparsity * len(values))
    assert np.sum(thinned == 0) >= zeros
    assert np.sum(thinned != weights) <= zeros
    removed, left = np.abs(weights[thinned != weights]), np.abs(thinned[thinned != 0])
    assert not removed.size or not left.size or removed.max() <= left.min()


@st.composite
def scans(draw: st.DrawFn) -> tuple[dict[str, dict[float, Score]], dict[str, int]]:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    loss = st.floats(0.1, 3)
    scan = {name: {level: Score(draw(loss), 0.5) for level in (0.0, 0.5, 0.75, 0.9)} for name in names}
    return scan, {name: draw(st.integers(1, 10_000)) for name in names}


@given(scans(), st.floats(0.05, 0.9))
def test_the_choice_meets_the_target_and_no_layer_gets_more_than_was_measured(
    scan_and_sizes: tuple[dict[str, dict[float, Score]], dict[str, int]], target: float
) -> None:
    scan, sizes = scan_and_sizes
    chosen = sensitivity.choose(scan, sizes, target)
    assert sensitivity.overall(chosen, sizes) == pytest.approx(target, abs=1e-3)
    assert all(0 <= value <= 0.9001 for value in chosen.values())


def test_a_target_that_is_a_level_is_met_whatever_the_rounding() -> None:
    curve = {level: Score(1.0, 0.5) for level in (0.0, 0.9)}
    sizes = {"a": 1, "b": 3, "c": 7}
    chosen = sensitivity.choose({name: curve for name in sizes}, sizes, 0.9)
    assert chosen == {"a": 0.9, "b": 0.9, "c": 0.9}


def test_the_sensitive_layer_is_spared() -> None:
    robust = {0.0: Score(1.0, 0.7), 0.5: Score(1.01, 0.7), 0.9: Score(1.02, 0.7)}
    fragile = {0.0: Score(1.0, 0.7), 0.5: Score(2.0, 0.4), 0.9: Score(3.0, 0.2)}
    chosen = sensitivity.choose({"robust": robust, "fragile": fragile}, {"robust": 100, "fragile": 100}, 0.4)
    assert chosen == {"robust": 0.8, "fragile": 0.0}


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(TrainerError, match=r"come to 0\.50; set compress\.finetune\.sparsity lower"):
        sensitivity.choose({"a": {0.0: Score(1, 0), 0.5: Score(2, 0)}}, {"a": 10}, 0.6)


def test_a_stage_trains_as_the_model_was_trained_but_gently() -> None:
    train = TrainSettings(
        epochs=20, batch_size=32, learning_rate=0.1, optimizer="sgd", augment=("flip",), label_smoothing=0.1, ema=0.9
    )
    found = finetuning.stage_settings(FinetuneSettings(epochs=4, learning_rate=0.1), train)
    assert (found.epochs, found.batch_size, found.optimizer) == (4, 32, "sgd")
    assert found.learning_rate == pytest.approx(0.01)
    assert (found.augment, found.label_smoothing) == (("flip",), 0.1)
    assert found.ema is None and found.early_stopping is None and found.weight_decay == 0

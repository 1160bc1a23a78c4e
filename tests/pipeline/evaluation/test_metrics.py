"""Metrics from counts equal those of scikit-learn on the same predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline.evaluation.counts import count
from pipeline.evaluation.metrics import overall_metrics, per_class_metrics, reliability
from tests.pipeline.evaluation.test_counts import predictions


@pytest.mark.parametrize(("examples", "classes", "seed"), [(400, 10, 0), (60, 3, 1), (1000, 2, 2)])
def test_metrics_equal_those_of_scikit_learn(examples, classes, seed):
    labels, p = predictions(examples, classes, seed)
    counts = count(labels, p, 2)
    ours = overall_metrics(counts)
    predicted = p.argmax(axis=1)
    one_hot = np.eye(classes)[labels]
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert ours["log_loss"] == pytest.approx(sk.log_loss(labels, p, labels=range(classes)), rel=1e-5)
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert ours["auc"] == pytest.approx(sk.roc_auc_score(one_hot, p, average="macro"), abs=1e-3)
    if classes > 2:
        assert ours["top_k_accuracy"] == pytest.approx(sk.top_k_accuracy_score(labels, p, k=2))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, predicted, zero_division=0)
    by_class = per_class_metrics(counts)
    np.testing.assert_allclose(by_class["precision"], precision)
    np.testing.assert_allclose(by_class["recall"], recall)
    np.testing.assert_allclose(by_class["f1"], f1)


def test_calibration_error_of_honest_and_of_boastful_predictions():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 20_000)
    right = rng.uniform(size=20_000) < confidence
    labels = np.where(right, 0, 1)
    honest = np.stack([confidence, 1 - confidence], axis=1)
    boastful = np.tile([0.999, 0.001], (20_000, 1))
    assert overall_metrics(count(labels, honest, 1))["calibration_error"] < 0.02
    assert overall_metrics(count(labels, boastful, 1))["calibration_error"] == pytest.approx(
        0.999 - right.mean(), abs=1e-6
    )
    for mean_confidence, accuracy, _ in reliability(count(labels, honest, 1)):
        assert accuracy == pytest.approx(mean_confidence, abs=0.05)


def test_a_slice_of_one_class_has_no_auc_but_an_accuracy():
    _, p = predictions(20, 3, 0)
    counts = count(np.zeros(20, int), p, 1)
    assert math.isnan(per_class_metrics(counts)["auc"][0])
    assert 0 <= overall_metrics(counts)["accuracy"] <= 1
    assert overall_metrics(counts)["macro_f1"] == pytest.approx(per_class_metrics(counts)["f1"][0])


def test_no_examples_have_no_metrics():
    counts = count(np.zeros(0, int), np.zeros((0, 3)), 1)
    assert math.isnan(overall_metrics(counts)["accuracy"])
    assert overall_metrics(counts)["example_count"] == 0

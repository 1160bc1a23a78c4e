"""What we write is what TFMA reads: its loader, its values, its verdict."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_model_analysis as tfma

from pipeline.config.sections import EvaluateSettings
from pipeline.evaluation.counts import count
from pipeline.evaluation.eval_config import BASELINE, CANDIDATE, eval_config, without_baseline
from pipeline.evaluation.tfma_output import metrics_of_slice, write_evaluation
from pipeline.evaluation.verdict import judge
from tests.pipeline.evaluation.test_counts import predictions

LABELS = ["a", "b", "c"]
SLICE = (("label_name", "a"),)


def evaluated(tmp_path, gates, *, with_baseline=True, slices=("label",), worse=0.0):
    """Write an evaluation of random predictions and return (TFMA's validation, our verdict, candidate's accuracy)."""
    labels, p = predictions(300, 3, 0)
    baseline_p = predictions(300, 3, 0)[1]
    if worse:
        wrong = np.random.default_rng(1).uniform(size=300) < worse
        p[wrong] = np.roll(np.eye(3, dtype=np.float32)[labels[wrong]], 1, axis=1) * 0.97 + 0.01
    rows = labels == 0
    counts = {(CANDIDATE, ()): count(labels, p, 2), (CANDIDATE, SLICE): count(labels[rows], p[rows], 2)}
    if with_baseline:
        counts |= {
            (BASELINE, ()): count(labels, baseline_p, 2),
            (BASELINE, SLICE): count(labels[rows], baseline_p[rows], 2),
        }
    config = eval_config(EvaluateSettings.model_validate({"gates": gates, "slices": list(slices)}))
    if not with_baseline:
        config = without_baseline(config)
    validation = write_evaluation(counts, config, str(tmp_path), LABELS, {CANDIDATE: "model"})
    verdict = judge(config, {key: metrics_of_slice(counts, key) for _, key in counts}, validation.validation_ok)
    assert tfma.load_validation_result(str(tmp_path)).validation_ok == validation.validation_ok
    return validation, verdict, float((p.argmax(1) == labels).mean())


def test_tfma_loads_metrics_and_plots(tmp_path):
    _, _, accuracy = evaluated(tmp_path, {"accuracy": {"min": 0.1}})
    result = tfma.load_eval_result(str(tmp_path), model_name=CANDIDATE)
    by_slice = {key: values[""] for key, values in result.slicing_metrics}
    assert set(by_slice) == {(), SLICE}
    assert by_slice[()][""]["accuracy"]["doubleValue"] == pytest.approx(accuracy)
    assert by_slice[()]["classId:1"]["precision"]["doubleValue"] > 0
    assert by_slice[()][""]["accuracy_diff"]["doubleValue"] == pytest.approx(0.0)
    (plots,) = (values[""] for key, values in result.plots if key == ())
    by_kind = {kind: plot for by_name in plots.values() for kind, plot in by_name.items()}
    matrix = by_kind["multiClassConfusionMatrixAtThresholds"]["matrices"][0]["entries"]
    assert sum(entry["numWeightedExamples"] for entry in matrix) == 300
    assert sum(b["numWeightedExamples"] for b in by_kind["calibrationHistogramBuckets"]["buckets"]) == 300


@pytest.mark.parametrize(
    ("gate", "worse", "passes", "words"),
    [
        ({"accuracy": {"min": 0.3}}, 0.0, True, "required: at least 0.3"),
        ({"accuracy": {"min": 0.99}}, 0.0, False, "required: at least 0.99"),
        ({"log_loss": {"max": 0.01}}, 0.0, False, "required: at most 0.01"),
        ({"accuracy": {"max_drop_vs_baseline": 0.01}}, 0.0, True, "of the baseline"),
        ({"accuracy": {"max_drop_vs_baseline": 0.01}}, 0.3, False, "at most 0.0100 worse"),
        ({"log_loss": {"max_drop_vs_baseline": 0.01}}, 0.3, False, "at most 0.0100 worse"),
        ({"accuracy": {"min": 0.99, "slices": True}}, 0.0, False, "label_name=a"),
    ],
)
def test_gates_refuse_and_pass_in_words(tmp_path, gate, worse, passes, words):
    validation, verdict, _ = evaluated(tmp_path, gate, worse=worse)
    assert validation.validation_ok is passes
    assert verdict.passed is passes
    assert words in verdict.sentence or any(words in str(check) for check in verdict.checks)
    assert all(check["passed"] for check in verdict.checks) is passes


def test_without_a_baseline_change_thresholds_do_not_block(tmp_path):
    validation, verdict, _ = evaluated(
        tmp_path, {"accuracy": {"min": 0.1, "max_drop_vs_baseline": 0.0}}, with_baseline=False
    )
    assert validation.validation_ok
    assert [check["kind"] for check in verdict.checks] == ["value"]


def test_a_gate_on_every_slice_also_judges_the_whole(tmp_path):
    _, verdict, _ = evaluated(tmp_path, {"accuracy": {"min": 0.1, "slices": True}})
    assert {check["slice"] for check in verdict.checks} == {"", "label_name=a"}


def test_no_gate_lets_every_model_pass(tmp_path):
    validation, verdict, _ = evaluated(tmp_path, {})
    assert verdict.passed
    assert "no gate" in verdict.sentence
    assert not validation.metric_validations_per_slice


@pytest.mark.slow
def test_values_equal_those_of_tfmas_own_pipeline():
    labels, p = predictions(200, 3, 5)
    ours = metrics_of_slice({(CANDIDATE, ()): count(labels, p, 2)}, ())
    values = {(key.name, key.sub_key.class_id if key.sub_key else None): value for key, value in ours.items()}
    theirs = _by_tfma(labels, p)
    for name in ("accuracy", "top_k_accuracy", "log_loss"):
        assert values[name, None] == pytest.approx(theirs[""][name], rel=1e-4), name
    for class_id in range(3):
        assert values["auc", class_id] == pytest.approx(theirs[f"classId:{class_id}"]["auc"], abs=2e-3)


def _by_tfma(labels: np.ndarray, p: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the values of TFMA's stock metrics by sub key and name.

    Precision and recall aren't among them: TFMA's are at a threshold of 0.5, ours of the most probable class, as in
    scikit-learn, with which `test_metrics` compares them.
    """
    import pandas as pd

    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(label_key="label", prediction_key="prediction")],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="SparseCategoricalAccuracy", config='{"name": "accuracy"}'),
                    tfma.MetricConfig(
                        class_name="SparseTopKCategoricalAccuracy",
                        config='{"k": 2, "name": "top_k_accuracy"}',
                    ),
                    tfma.MetricConfig(class_name="SparseCategoricalCrossentropy", config='{"name": "log_loss"}'),
                ]
            ),
            tfma.MetricsSpec(
                binarize=tfma.BinarizationOptions(class_ids={"values": [0, 1, 2]}),
                metrics=[tfma.MetricConfig(class_name="AUC", config='{"name": "auc"}')],
            ),
        ],
        slicing_specs=[tfma.SlicingSpec()],
    )
    frame = pd.DataFrame({"label": labels, "prediction": list(p)})
    result = tfma.analyze_raw_data(frame, config)
    (_, values), *_ = result.slicing_metrics
    return {
        key: {name: v["doubleValue"] for name, v in by_name.items() if "doubleValue" in v}
        for key, by_name in values[""].items()
    }

"""TFMA's EvalConfig from the config's `evaluate` section: models, slices and thresholds.

Called by the graph (the EvalConfig is a parameter of the Evaluator component, so that the cache sees it) and by
the tests. Metrics stand under `per_slice_thresholds` only, since the Evaluator derives them itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.evaluation.metrics import HIGHER_IS_BETTER
from transform import features

if TYPE_CHECKING:
    from tensorflow_model_analysis.proto import config_pb2

    from pipeline.config.sections import EvaluateSettings, Gate

CANDIDATE = "candidate"
BASELINE = "baseline"

SLICE_FEATURES = {"label": features.LABEL_NAME}
"""What `evaluate.slices` may name, and the feature whose values make the slices."""


def eval_config(settings: EvaluateSettings) -> config_pb2.EvalConfig:
    """Return the EvalConfig for a candidate and a baseline.

    Args:
        settings: the config's `evaluate` section.

    Returns:
        The message, with both model specs; `without_baseline` removes what needs a baseline.
    """
    from tensorflow_model_analysis.proto import config_pb2

    config = config_pb2.EvalConfig()
    config.model_specs.add(name=CANDIDATE, label_key=features.LABEL, signature_name="predict_examples")
    config.model_specs.add(name=BASELINE, label_key=features.LABEL, signature_name="predict_examples", is_baseline=True)
    config.slicing_specs.add()
    for name in settings.slices:
        config.slicing_specs.add(feature_keys=[SLICE_FEATURES[name]])
    spec = config.metrics_specs.add(model_names=[CANDIDATE])
    for metric, gate in settings.gates.items():
        threshold = spec.per_slice_thresholds[metric].thresholds.add()
        threshold.slicing_specs.add()
        if gate.slices:
            threshold.slicing_specs.extend(config.slicing_specs[1:])
        _fill_threshold(threshold.threshold, gate, higher_is_better=HIGHER_IS_BETTER[metric])
    return config


def without_baseline(config: config_pb2.EvalConfig) -> config_pb2.EvalConfig:
    """Return a copy for a run without baseline: change thresholds have nothing to compare with and are dropped."""
    from tensorflow_model_analysis.proto import config_pb2

    alone = config_pb2.EvalConfig()
    alone.CopyFrom(config)
    for index in reversed(range(len(alone.model_specs))):
        if alone.model_specs[index].is_baseline:
            del alone.model_specs[index]
    for spec in alone.metrics_specs:
        for thresholds in spec.per_slice_thresholds.values():
            for threshold in thresholds.thresholds:
                threshold.threshold.ClearField("change_threshold")
    return alone


def _fill_threshold(threshold: config_pb2.MetricThreshold, gate: Gate, *, higher_is_better: bool) -> None:
    """Write a gate's bounds into TFMA's threshold; TFMA compares `candidate - baseline` with the change."""
    from tensorflow_model_analysis.proto import config_pb2

    if gate.min is not None:
        threshold.value_threshold.lower_bound.value = gate.min
    if gate.max is not None:
        threshold.value_threshold.upper_bound.value = gate.max
    if gate.max_drop_vs_baseline is not None:
        drop = gate.max_drop_vs_baseline
        change = threshold.change_threshold
        change.direction = (
            config_pb2.MetricDirection.HIGHER_IS_BETTER
            if higher_is_better
            else config_pb2.MetricDirection.LOWER_IS_BETTER
        )
        change.absolute.value = -drop if higher_is_better else drop
